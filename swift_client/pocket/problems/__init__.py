"""Generators of the packaged model's questions, one per family."""
