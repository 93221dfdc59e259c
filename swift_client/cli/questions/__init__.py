"""``best-of --questions``: the questions of a file, answered into another file."""
