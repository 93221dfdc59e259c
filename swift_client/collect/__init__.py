"""Collecting samples for training: by direct calls, by batch, or from stored replies."""
