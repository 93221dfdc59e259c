"""Scores of completions: scorers, heads, judges, external scorers and their fusion."""
