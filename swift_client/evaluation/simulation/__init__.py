"""Replay of stopping rules on stored samples."""
