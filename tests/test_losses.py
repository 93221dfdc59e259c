"""Tests of the losses against their definitions, worked out pair by pair in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swift_client.training.losses import LOSSES, Labels, bce, bce_and_pairwise, hinge, infonca, nca, pairwise
from swift_client.training.recipes import LossName

rows = st.lists(st.tuples(st.floats(-20, 20), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20)
Rows = Sequence[tuple[float, bool, int]]


def inputs(table: Rows) -> tuple[torch.Tensor, Labels]:
    scores = torch.tensor([score for score, _, _ in table], dtype=torch.float64)
    labels = np.array([float(label) for _, label, _ in table])
    question = np.array([question for _, _, question in table])
    return scores, Labels.from_arrays(labels, question, dtype=torch.float64, device=torch.device("cpu"))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def plain_bce(table: Rows) -> float:
    return -sum(log_sigmoid(s if right else -s) for s, right, _ in table) / len(table)


def plain_pairwise(table: Rows) -> float:
    means = []
    for group in {question for _, _, question in table}:
        group_pairs = [(score, right) for score, right, question in table if question == group]
        pairs = [-log_sigmoid(a - b) for a, good in group_pairs if good for b, bad in group_pairs if not bad]
        if pairs:
            means.append(sum(pairs) / len(pairs))
    return sum(means) / len(means) if means else 0.0


def by_question(table: Rows) -> list[list[tuple[float, bool]]]:
    return [[(s, right) for s, right, q in table if q == group] for group in {q for _, _, q in table}]


def plain_infonca(table: Rows) -> float:
    losses = []
    for pairs in by_question(table):
        max_weight = max(100.0 * right for _, right in pairs)
        weights = [math.exp(100.0 * right - max_weight) for _, right in pairs]
        top = max(s for s, _ in pairs)
        log_sum = top + math.log(sum(math.exp(s - top) for s, _ in pairs))
        losses.append(-sum(w / sum(weights) * (s - log_sum) for w, (s, _) in zip(weights, pairs, strict=True)))
    return sum(losses) / len(losses)


def plain_nca(table: Rows) -> float:
    losses = []
    for pairs in by_question(table):
        max_weight = max(100.0 * right for _, right in pairs)
        weights = [math.exp(100.0 * right - max_weight) for _, right in pairs]
        target = sum(w / sum(weights) * log_sigmoid(s) for w, (s, _) in zip(weights, pairs, strict=True))
        losses.append(-target - sum(log_sigmoid(-s) for s, _ in pairs) / len(pairs))
    return sum(losses) / len(losses)


@given(table=rows)
def test_the_paper_s_other_losses_are_their_definitions_question_by_question(table: Rows) -> None:
    scores, labels = inputs(table)
    margins = [max(0.0, 1 - (s if right else -s)) for s, right, _ in table]
    assert hinge(scores, labels).item() == pytest.approx(sum(margins) / len(table), abs=1e-9)
    assert infonca(scores, labels).item() == pytest.approx(plain_infonca(table), abs=1e-9)
    assert nca(scores, labels).item() == pytest.approx(plain_nca(table), abs=1e-9)


def test_recipes_name_the_losses_that_there_are() -> None:
    assert set(get_args(LossName)) == set(LOSSES)


@given(table=rows)
def test_losses_are_their_definitions_worked_out_pair_by_pair(table: Rows) -> None:
    scores, labels = inputs(table)
    # torch's softplus is linear above 20, where it is wrong by at most log(1 + exp(-20)).
    error = 1e-9 + math.log1p(math.exp(-20))
    assert bce(scores, labels).item() == pytest.approx(plain_bce(table), abs=error)
    assert pairwise(scores, labels).item() == pytest.approx(plain_pairwise(table), abs=error)
    half = (plain_bce(table) + plain_pairwise(table)) / 2
    assert bce_and_pairwise(scores, labels).item() == pytest.approx(half, abs=error)


@given(table=rows, shift=st.floats(-5, 5))
def test_what_makes_a_question_hard_cancels_in_the_pairwise_loss(table: Rows, shift: float) -> None:
    moved = [(score + shift * question, right, question) for score, right, question in table]
    assert pairwise(*inputs(moved)).item() == pytest.approx(pairwise(*inputs(table)).item(), abs=1e-9)


def test_a_hand_computed_case_of_the_swift_head_has_the_loss_of_the_paper() -> None:
    # Score .2 for a right answer: -log sigmoid(.2).
    assert bce(*inputs([(0.2, True, 0)])).item() == pytest.approx(0.598139, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_gradient_even_without_a_mixed_question(name: str) -> None:
    scores, labels = inputs([(0.3, True, 0), (0.1, True, 0), (0.2, False, 1)])
    scores.requires_grad_()
    LOSSES[name](scores, labels).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
