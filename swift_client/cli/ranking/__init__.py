"""``rank``: choose among replies that you already have, of one question or of a whole file."""
