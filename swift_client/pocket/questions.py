"""Questions with known answers, generated from a seed, to train and to try the packaged model.

Train, validation and test never share a question: the split is a function of the prompt's text (a keyed hash of it), so
a prompt belongs to exactly one split, for every seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from swift_client.pocket.problems import arithmetic, coin_flip, last_letters

Split = Literal["train", "validation", "test"]

_DRAW_FUNCTIONS = {"arithmetic": arithmetic.draw, "coin_flip": coin_flip.draw, "last_letters": last_letters.draw}

FAMILIES: tuple[str, ...] = tuple(_DRAW_FUNCTIONS)  # names of the three families

# Highest level of each family that the model is trained on; the lowest is 1.
TRAINED_LEVELS: Mapping[str, int] = {"arithmetic": 6, "coin_flip": 6, "last_letters": 9}

# Default levels of ``questions()``, at which the packaged model is right only some of the time.
DEFAULT_LEVELS: Mapping[str, tuple[int, ...]] = {"arithmetic": (2, 3), "coin_flip": (5, 6), "last_letters": (5, 6)}


@dataclass(frozen=True)
class Question:
    """A question and its only right answer. ``id`` is a function of the prompt alone."""

    id: str
    family: str
    prompt: str
    answer: str
    level: int


def split_of(prompt: str) -> Split:
    """Return the split that ``prompt`` belongs to: 14/16 train, 1/16 validation, 1/16 test."""
    bucket = _digest(prompt)[0] % 16
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def _digest(prompt: str) -> bytes:
    return hashlib.blake2b(prompt.encode(), digest_size=8, person=b"pocket-question"[:16]).digest()


def worked_examples(
    n: int,
    *,
    seed: int,
    split: Split = "train",
    families: Sequence[str] = FAMILIES,
    levels: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[tuple[Question, str]]:
    """Yield ``n`` different questions, each with a correct written solution that ends in "The answer is ….".

    Families take turns; levels are drawn evenly from ``levels[family]``, by default from every trained level.
    The same arguments give the same questions in every process.
    """
    if n < 0:
        raise ValueError(f"n is {n}; it must be 0 or more.")
    unknown = set(families) - set(FAMILIES)
    if unknown or not families:
        raise ValueError(f"families must be some of {', '.join(FAMILIES)}; got {list(families)}.")
    rng = Random(f"{seed}/{split}")
    seen: set[str] = set()
    while len(seen) < n:
        family = families[len(seen) % len(families)]
        level = rng.choice(range(1, TRAINED_LEVELS[family] + 1) if levels is None else levels[family])
        problem = _DRAW_FUNCTIONS[family](rng, level)
        if problem.prompt in seen or split_of(problem.prompt) != split:
            continue
        seen.add(problem.prompt)
        question_id = f"{family}-{_digest(problem.prompt).hex()}"
        yield Question(question_id, family, problem.prompt, problem.answer, level), problem.solve(rng)


def questions(
    n: int,
    *,
    seed: int,
    split: Split = "test",
    families: Sequence[str] = FAMILIES,
    levels: Mapping[str, Sequence[int]] | None = None,
) -> list[Question]:
    """Return ``n`` different questions of ``split``, families in turn, from ``levels`` or ``DEFAULT_LEVELS``."""
    levels = DEFAULT_LEVELS if levels is None else levels
    return [question for question, _ in worked_examples(n, seed=seed, split=split, families=families, levels=levels)]
