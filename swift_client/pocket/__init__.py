"""The packaged model: its weights, its server and its questions."""
