"""Completions to scores: scorers, trained heads, judges and external scores."""
