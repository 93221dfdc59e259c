"""Simulation: replay of stopping rules on stored samples."""
