"""Accuracy against the number of training questions."""
