"""One question of a client in the terms of chat completions, and parts of its answer, whichever API it came by."""
