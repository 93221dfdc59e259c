"""The packaged model: where its weights are, its server and its questions."""
