"""Removal of private data from everything that is stored or logged: presets, a function of yours, or no text at all."""
