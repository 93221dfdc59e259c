"""Tests of the costs of "auto" that training learns: a plain loop over orders, limits, and the head's file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swift_client.models import Acceptance, load, save
from swift_client.models.acceptance import FORMER_STATISTIC
from swift_client.selection.voting import draw_orders
from swift_client.stopping import Votes, stopping_rule
from swift_client.stopping.votes import DEFAULT_COSTS
from swift_client.training.fit import fit
from swift_client.training.stopping_costs import COSTS, MIN_QUESTIONS, ORDERS, LearntCosts, describe_costs, learn_costs

from .face.made import head as made_head
from .graded import graded_groups

N = 8
CHECKED = (1, 2, 3, 4, 6, 8)  # after the waves of best_of


def pool(questions: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Questions of which some are easy and some hopeless, with calibrated probabilities that tell a little."""
    rng = np.random.default_rng(seed)
    ability = rng.beta(0.8, 0.8, (questions, 1))
    right = rng.random((questions, N)) < ability
    logits = np.log(ability / (1 - ability)) / 2 + np.where(right, 0.8, -0.8) + rng.normal(0, 0.5, right.shape)
    chances = 1 / (1 + np.exp(-logits))
    answers = np.where(right, 0, rng.integers(1, 4, right.shape))
    columns = {"scores": logits, "probabilities": chances, "labels": right.astype(float), "answers": answers}
    return {name: values.ravel() for name, values in columns.items()} | {
        "question": np.repeat(np.arange(questions), N),
        "lengths": rng.integers(1, 9, questions * N),
    }


def replay(data: dict[str, np.ndarray], cost: float, *, beta: float) -> tuple[float, float, float]:
    """Return the accuracy at this cost, the vote's over all n, and the share of tokens, from plain loops."""
    right = whole = spent = total = 0.0
    orders = draw_orders(N, N, max_subsets=ORDERS, seed=0)
    rule = stopping_rule(f"correction:cost={cost}")
    for start in range(0, len(data["scores"]), N):
        for order in (start + orders).tolist():
            for seen in CHECKED:
                drawn = order[:seen]
                votes = Votes.from_lists(
                    data["answers"][drawn].tolist(),
                    n=N,
                    probabilities=data["probabilities"][drawn].tolist(),
                    beta=beta,
                )
                if rule(votes).stop:
                    right += data["labels"][winner(data, drawn, beta)]
                    spent += data["lengths"][drawn].sum()
                    break
            whole += data["labels"][winner(data, order, beta)]
            total += data["lengths"][order].sum()
    count = len(data["scores"]) // N * len(orders)
    return right / count, whole / count, spent / total


def winner(data: dict[str, np.ndarray], drawn: list[int], beta: float) -> int:
    totals: dict[int, float] = {}
    for index in drawn:
        p = min(max(data["probabilities"][index], 1e-3), 1 - 1e-3)
        answer = int(data["answers"][index])
        totals[answer] = totals.get(answer, 0.0) + (p / (1 - p)) ** beta
    leading = max(totals, key=totals.__getitem__)
    return max((i for i in drawn if data["answers"][i] == leading), key=lambda i: data["scores"][i])


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_the_costs_are_the_highest_at_which_plain_loops_lose_so_much(beta: float) -> None:
    data = pool(MIN_QUESTIONS)
    learnt = learn_costs(**data, beta=beta)
    facts = learnt.to_dict()
    assert facts["questions"] == MIN_QUESTIONS
    assert learnt.pairs[0] == (0.0, 0.0)
    for number, (points, cost) in list(enumerate(learnt.pairs))[1::3]:
        right, whole, share = replay(data, cost, beta=beta)
        assert 100 * (whole - right) <= points + 1e-9
        assert learnt.minus_vote[number - 1] == pytest.approx(100 * (right - whole), abs=1e-9)
        assert learnt.token_shares[number - 1] == pytest.approx(share, abs=1e-12)
        # The next cost of the grid loses more.
        above = COSTS[cost < COSTS]
        if len(above):
            right, whole, _ = replay(data, float(above[0]), beta=beta)
            assert 100 * (whole - right) > points


def test_more_points_cost_less_and_save_more() -> None:
    learnt = learn_costs(**pool(400), beta=1.0)
    points, costs = np.array(learnt.pairs).T
    assert (np.diff(points) > 0).all()
    assert (np.diff(costs) >= 0).all()
    assert (np.diff(learnt.token_shares) <= 0).all()
    assert min(learnt.token_shares) < 0.5


def test_a_head_that_loses_too_much_at_every_cost_never_stops_early() -> None:
    # Every completion is said to be right for certain, so each positive cost stops at the first one.
    data = pool(MIN_QUESTIONS) | {"probabilities": np.ones(MIN_QUESTIONS * N)}
    learnt = learn_costs(**data, beta=1.0)
    assert learnt.pairs[1:6] == ((0.25, 0.0), (0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (2.0, 0.0))
    assert learnt.token_shares[:5] == (1.0,) * 5
    assert "took 100 % of the tokens" in describe_costs(learnt.to_dict())
    votes = Votes.from_lists([0], n=N, probabilities=[1.0], costs=learnt.pairs)
    assert not stopping_rule("auto")(votes).stop


def test_with_few_questions_nothing_is_learnt() -> None:
    few = learn_costs(**pool(MIN_QUESTIONS - 1), beta=1.0)
    assert (few.pairs, few.questions) == ((), MIN_QUESTIONS - 1)
    assert few.to_dict() == {"questions": MIN_QUESTIONS - 1, "points": {}}
    assert LearntCosts(pairs=(), questions=0).to_dict()["points"] == {}


def test_the_sentence_on_stopping_has_the_figures_of_the_default() -> None:
    figures = {"2": {"token_share": 0.2631, "minus_vote": -1.9122, "minus_majority": 0.2902}}
    assert describe_costs({"questions": 560, "points": figures}) == (
        "auto stopping took 26 % of the tokens of 560 held-out questions, at -1.9 points against its vote over all n "
        "and +0.3 against a majority"
    )
    assert describe_costs({"questions": 40, "points": {}}) == (
        "auto stopping uses the usual costs, since 40 held-out questions are too few for its own"
    )


def test_a_trained_head_carries_its_costs_and_auto_uses_them() -> None:
    artifact = fit(graded_groups(150, signal=2.0), provider="p", model="m").artifact
    facts = artifact.training["stopping"]
    assert facts["questions"] >= MIN_QUESTIONS
    assert [f"{points:g}" for points, _ in artifact.stopping_costs[1:]] == list(facts["points"])
    votes = Votes.from_lists([0], n=16, probabilities=[0.5], costs=artifact.stopping_costs)
    for points, cost in artifact.stopping_costs:
        assert votes.cost_of(points) == cost


def test_a_head_without_costs_has_the_usual_ones() -> None:
    votes = Votes.from_lists([0], n=16, probabilities=[0.5])
    assert [votes.cost_of(points) for points, _ in DEFAULT_COSTS] == [cost for _, cost in DEFAULT_COSTS]


@pytest.mark.parametrize(
    "pairs",
    [
        ((1.0, 0.1),),
        ((0.0, 0.1), (1.0, 0.2)),
        ((0.0, 0.0), (1.0, 0.2), (2.0, 0.1)),
        ((0.0, 0.0), (1.0, math.nan)),
    ],
)
def test_pairs_that_do_not_rise_from_0_are_refused(pairs: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="stopping_costs must be pairs"):
        replace(made_head(), stopping_costs=pairs)


def test_a_file_keeps_the_costs(tmp_path: Path) -> None:
    pairs = ((0.0, 0.0), (1.0, 0.02), (2.5, 0.07))
    save(replace(made_head(), stopping_costs=pairs), tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors").stopping_costs == pairs


def test_thresholds_for_a_former_number_are_void(tmp_path: Path) -> None:
    accepted = Acceptance(
        threshold=1.0, risk=0.1, confidence=0.9, n=4, stopping=None, select="auto", answer="auto", questions=9,
        accepted=5, errors=0,
    )  # fmt: skip
    former = replace(accepted, n=8, statistic=FORMER_STATISTIC)
    save(replace(made_head(), acceptances=(accepted, former)), tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert (loaded.acceptances, loaded.has_void_acceptances) == ((accepted,), True)
