"""What a samples file holds: facts about the file, questions, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swift_client.types import Completion, Message, Usage


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What all samples of a file have in common; one file never mixes models or ways to sample."""

    provider: str
    model: str | None
    top_logprobs: int
    """Alternatives a token that were asked for."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields that went to the provider: ``temperature``, ``max_tokens``, ..."""


@dataclass(frozen=True, kw_only=True)
class StoredQuestion:
    """A question as it was asked."""

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    """The right answer, where it is known."""
    family: str | None = None
    """Kind of question, for tables by kind."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One completion of a question; ``completion.index`` equals ``index``."""

    question_id: str
    index: int
    completion: Completion
    seed: int | None = None
    """What its call sent."""
    label: float | None = None
    """1 right, 0 wrong, None unknown."""
    cost: float | None = None
    """Even share of what its call cost, in the currency of the prices given; None where no prices were."""


@dataclass(frozen=True, kw_only=True)
class SampleTotals:
    """What a file's samples cost, calls that brought nothing left out."""

    samples: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    """None where the price of any call is unknown."""
