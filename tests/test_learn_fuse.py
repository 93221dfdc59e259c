"""Tests of the learned weight of a fused score, on graded questions with a scorer of known quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from swift_client.errors import ConfigurationError
from swift_client.scoring.fusion import parse_fusion
from swift_client.training import learn_fuse
from swift_client.types import Completion, Message
from tests.test_train_command import samples_file


def knows(messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
    assert messages == [{"role": "user", "content": "2+2"}]
    return [float(completion.text.endswith(" 4")) for completion in completions]


async def guesses(messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
    return [float(-completion.text.endswith(" 4")) for completion in completions]


def share(spec: str) -> float:
    return parse_fusion(spec)[1]


def test_a_scorer_that_knows_gets_the_weight_and_one_that_is_wrong_gets_none(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "s.db")
    assert share(learn_fuse(samples, knows, split="all", grade="number")) <= 0.5
    assert share(learn_fuse(samples, guesses, split="all", grade="number")) >= 0.5


def test_only_the_part_that_was_asked_for_is_shown_to_the_scorer(tmp_path: Path) -> None:
    samples, prompts = samples_file(tmp_path / "s.db"), []

    def counts(messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        prompts.append(len(completions))
        return [np.nan] * len(completions)

    with pytest.raises(ConfigurationError, match="no scores for any of 12 questions"):
        learn_fuse(samples, counts, grade="number")
    assert 0 < len(prompts) < 30


def test_what_cannot_be_learned_from_is_reported(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "s.db", questions=3)

    def fails(messages: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        raise RuntimeError("out of order")

    with pytest.raises(ConfigurationError, match="out of order"):
        learn_fuse(samples, fails, split="all", grade="number")
    with pytest.raises(ConfigurationError, match="no split"):
        learn_fuse(samples, knows, split="some")
