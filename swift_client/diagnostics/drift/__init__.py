"""Drift in stored questions: what moved, since when, and how sure that is."""
