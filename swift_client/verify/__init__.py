"""Verifiers: models asked to judge answers, and the choice that follows from their verdicts."""
