"""Collecting samples through providers' batch APIs."""
