"""Assignment of questions to train, validation and test, by their ids alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from swift_client.errors import ConfigurationError

# "held", also a public parameter below, is the historical name of the fold that cross-validation holds out.
Part = Literal["train", "validation", "held", "test"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Shares of the questions. A question's part depends only on its id and the seed, never on other questions."""

    validation: float = 0.2
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise ConfigurationError(
                f"Shares of {self.validation} for validation and {self.test} for test leave nothing to train on.",
                hint="Validation takes more than 0, and both together less than 1.",
            )

    @property
    def folds(self) -> int:
        """Number of folds, each about the validation share, of the questions that are not for test."""
        return 1 + max(1, round((1 - self.test - self.validation) / self.validation))

    def fold(self, question_id: str) -> int | None:
        """Return the fold that the question belongs to, from 0; None for a test question."""
        # 0..1 is divided into test, fold 0 (validation), and the other folds in equal shares.
        position = hash_fraction(f"{self.seed}:{question_id}") - self.test
        if position < 0:
            return None
        share = (1 - self.test - self.validation) / (self.folds - 1)
        return 0 if position < self.validation else 1 + min(int((position - self.validation) / share), self.folds - 2)

    def part(self, question_id: str, *, held: int | None = None) -> Part:
        """Return the part that the question belongs to, as ``part_of()``."""
        return self.part_of(self.fold(question_id), held=held)

    def part_of(self, fold: int | None, *, held: int | None = None) -> Part:
        """Return the part that a fold belongs to; None is the test questions.

        With ``held`` that fold is held out and the next one validates, so training never sees the held-out fold.
        """
        if fold is None:
            return "test"
        if fold == held:
            return "held"
        return "validation" if fold == (0 if held is None else (held + 1) % self.folds) else "train"


def hash_fraction(key: str) -> float:
    """Return a number in 0..1, uniform over keys and the same for a key in every process."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
