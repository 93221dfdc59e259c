"""Acceptance thresholds with a guaranteed error rate."""
