"""The questions of the canary: short, harmless, and nothing of the user's."""

from __future__ import annotations

import hashlib

# Several have many good answers, since a change shows where a model is unsure; the others test facts and forms.
QUESTIONS: tuple[str, ...] = (
    "Name a colour.",
    "Name three animals, separated by commas.",
    "Pick a number from 1 to 100. Reply with the number only.",
    "What is 17 * 24? Reply with the number only.",
    "What comes next: 2, 3, 5, 7, 11? Reply with the number only.",
    "Is a tomato a fruit? Reply yes or no.",
    "Translate into French: The train is late.",
    "Write one sentence about rain.",
    "Why is the sky blue? Reply in at most 20 words.",
    "A train leaves at 9:40 and arrives 85 minutes later. At what time?",
    "Write a Python function that returns the larger of two numbers.",
    'Give the capital of Peru as JSON with the keys "city" and "country".',
)
ANSWERS = 4
"""Answers to each question, each by a request of its own: so noise between requests counts as noise."""
MAX_TOKENS = 64
"""Maximum tokens of one answer."""


def questions_digest() -> str:
    """Return a digest of the questions and settings; runs can be compared if theirs are equal."""
    return hashlib.sha256(repr((QUESTIONS, ANSWERS, MAX_TOKENS)).encode()).hexdigest()[:16]
