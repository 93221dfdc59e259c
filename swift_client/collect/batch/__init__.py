"""Collecting samples through a provider's Batch API."""
