"""Scores and answers to the winner."""
