"""Comparison of selection methods on stored, labelled samples."""
