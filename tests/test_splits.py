"""Tests of splits: questions are split, never completions, and a question keeps its part when others are added."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.dataset.splits import Split, hash_fraction
from swift_client.errors import ConfigurationError


def test_the_shares_are_met_over_many_questions() -> None:
    counts = Counter(Split(validation=0.2, test=0.3).part(f"q{i}") for i in range(10_000))
    assert counts["test"] == pytest.approx(3000, abs=150)
    assert counts["validation"] == pytest.approx(2000, abs=150)


def test_another_seed_is_another_split() -> None:
    ids = [f"q{i}" for i in range(1000)]
    moved = sum(Split(seed=0).part(i) != Split(seed=1).part(i) for i in ids)
    assert 400 < moved < 700


def test_a_part_is_the_same_in_every_process_and_version() -> None:
    # Written down once: a change here would move users' test questions into training.
    parts = " ".join(Split().part(f"question {i}") for i in range(8))
    assert parts == "validation train test validation test test train train"


@given(test=st.floats(0, 0.5), more=st.floats(0, 0.3), key=st.text())
def test_a_larger_test_share_only_ever_adds_to_the_test_questions(test: float, more: float, key: str) -> None:
    if Split(validation=0.1, test=test).part(key) == "test":
        assert Split(validation=0.1, test=test + more).part(key) == "test"
    assert 0 <= hash_fraction(key) < 1


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.5, 0.5), (0.2, -0.1), (0.2, 1.0)])
def test_shares_that_leave_nothing_to_train_or_validate_on_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match="leave nothing to train on"):
        Split(validation=shares[0], test=shares[1])


@given(test=st.floats(0, 0.5), validation=st.floats(0.05, 0.4), key=st.text())
def test_each_question_that_is_not_for_test_is_held_out_once(test: float, validation: float, key: str) -> None:
    split = Split(validation=validation, test=test)
    parts = [split.part(key, held=fold) for fold in range(split.folds)]
    if split.part(key) == "test":
        assert set(parts) == {"test"}
    else:
        assert parts.count("held") == 1
        assert parts.count("validation") == 1
        assert (parts[-1] == "validation") == (parts[0] == "held") == (split.part(key) == "validation")


def test_the_folds_share_the_questions_that_are_not_for_test_alike() -> None:
    split = Split(validation=0.2, test=0.2)
    assert split.folds == 4
    for fold in range(4):
        counts = Counter(split.part(f"q{i}", held=fold) for i in range(5000))
        assert counts["held"] == pytest.approx(1000, abs=120)
        assert counts["train"] == pytest.approx(2000, abs=150)
