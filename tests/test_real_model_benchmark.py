"""The benchmark on a real model: differences, losses and the reader of recorded ballots, checked by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from benchmarks.real_model import GivenSplit, Judged, read_ballots
from swift_client.evaluation.result import Estimate


def judged(**accuracy: list[float]) -> Judged:
    """Make results of a few questions at n = 4."""
    return Judged(
        accuracy={(name, 4): np.array(shares) for name, shares in accuracy.items()},
        auroc={},
        ns=(4,),
        rule="majority",
        rule_on_test="majority",
        betas=(1.0,),
        set_aside=0.0,
        of_kind=1.0,
    )


def test_differences_are_points_paired_by_question() -> None:
    results = judged(head_vote=[1.0, 0.5, 0.0, 1.0], majority=[0.5, 0.0, -0.5, 0.5])

    difference = results.difference(("head_vote", 4), ("majority", 4))

    # Each question differs by the same half, so that no resample can differ.
    assert difference == Estimate(50.0, 50.0, 50.0)
    assert results.points("head_vote", 4) == pytest.approx(62.5)


def test_the_default_is_compared_with_the_best_of_the_plain_rules() -> None:
    results = judged(head_vote=[1.0, 0.0], head_p=[0.0, 0.0], head_odds=[1.0, 1.0], head=[1.0, 0.0])

    assert results.default_loss() == {"n=4": 50.0}


def test_given_questions_validate_and_the_others_train() -> None:
    split = GivenSplit(test=0.0, ids=frozenset({"b"}))

    assert [split.part(name) for name in "abc"] == ["train", "validation", "train"]


def test_ballots_keep_their_alternatives_in_falling_order(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl.gz"
    ballots = [
        {"text": "A", "tokens": ["a"], "logprobs": [-0.5], "top_logprobs": [{"b": -1.5, "a": -0.5}], "label": True},
        {"text": "B", "tokens": ["b"], "logprobs": [-1.0], "top_logprobs": [{"b": -1.0}], "label": False},
    ]
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({"id": 7, "completions": ballots}) + "\n")

    (group,) = read_ballots(path)

    assert (group.question_id, group.labels.tolist()) == ("7", [1.0, 0.0])
    assert group.completions[0].top_logprobs.tolist() == [[-0.5, -1.5]]
    assert group.completions[1].index == 1
