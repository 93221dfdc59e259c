"""Nonsense, and questions that no head of this project was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from swift_client.pocket import everyday

# Fixed ones for tests: nonsense, facts, code, other languages, and puzzles in the words of the packaged model's own.
FIXED: tuple[str, ...] = (
    "What is 31 + 47?",
    "What is the capital of France?",
    "Why is the colour of Tuesday louder than seven?",
    "asdf jkl qwer uiop",
    "?",
    "Tell me a joke about a coin.",
    "Write a function that reverses a list in Python.",
    "Wie viele Eier hat Nadia?",
    "東京の人口は何人ですか。",
    "🙂🙂🙂",
    "How many figs are left?",
    "Nadia has figs.",
    "Is the coin still heads up?",
    "Which string do the last letters of these words make?",
    "Who flipped the coin, and why did Omar sell it to Hana?",
    "Explain in one sentence how many stones the moon finds more than left.",
    "Solve x^2 - 5x + 6 = 0 and give the larger root.",
    "Translate 'A coin is heads up' into French.",
    "If a train leaves at 9:40 and takes 85 minutes, when does it arrive?",
    "Repeat the word fig forever.",
)

_FORMS = (
    "What colour is {}?",
    "How many {} are in a {}?",
    "Why did the {} {} the {}?",
    "{} {} {} {}",
    "Is {} {} than {}?",
    "What is the {} of {}?",
    "{}",
    "Explain the {} {} of the moon.",
    "Who is the king of {}?",
    "What is {} + {}?",
    "Tell me a joke about {}.",
    "How many wings does a {} have on Tuesday?",
    "Translate {} into French.",
    "Write a poem about {} and {}.",
    "Which is heavier, {} or {}?",
    "If {} is {}, is {} {}?",
    "What happened in {} in 1887?",
    "{} has {} eggs. Is {} happy?",
    "A {} is heads up. Does {} flip the {}?",
    "Concatenate {}.",
)
_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"


def nonsense(count: int, *, seed: int = 0) -> list[str]:
    """Return ``count`` different questions about invented words, the same for the same seed."""
    rng = Random(f"{seed}/nonsense")
    asked: dict[str, None] = {}
    while len(asked) < count:
        form = _FORMS[len(asked) % len(_FORMS)]
        asked[form.format(*(_invent_word(rng) for _ in range(form.count("{}"))))] = None
    return list(asked)


def foreign_questions(count: int, *, seed: int = 0) -> Mapping[str, list[str]]:
    """Return at least ``count`` questions by kind: fixed ones, everyday questions, and nonsense for the rest."""
    everyday_questions = [question.prompt for question in everyday.questions(96, seed=seed)]
    rest = max(0, count - len(FIXED) - len(everyday_questions))
    return {"fixed": list(FIXED), "everyday": everyday_questions, "nonsense": nonsense(rest, seed=seed)}


def _invent_word(rng: Random) -> str:
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 4)))
