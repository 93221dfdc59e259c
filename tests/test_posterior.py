"""Tests of the posterior of votes and judgements, and of the order in which answers are judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.models.verifier_term import VerifierTerm
from swift_client.verify.posterior import (
    MAX_ODDS_RATIO,
    MIN_JUDGEMENT,
    judgement_log_odds,
    next_to_judge,
    posterior,
)

WEIGHTS = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8)
TERM = VerifierTerm(
    verifier="m p_true v1", exponent=1.0, mean_log_odds=0.0, gain=0.02, low=0.01, high=0.03, questions=300
)


def test_the_posterior_is_weight_times_odds_by_hand() -> None:
    weights = np.array([3.0, 1.0])
    shares = posterior(weights, judgement_log_odds([0.25, 0.9]))
    odds = [3.0 * (0.25 / 0.75), 1.0 * 9.0]
    assert shares == pytest.approx([odds[0] / sum(odds), odds[1] / sum(odds)])
    assert posterior(weights, judgement_log_odds([0.25, 0.9]), exponent=0.0) == pytest.approx([0.75, 0.25])
    assert posterior(weights, rest=1.0) == pytest.approx([0.6, 0.2])
    squared = [3.0 * (0.25 / 0.75) ** 2, 81.0]
    assert posterior(weights, judgement_log_odds([0.25, 0.9]), exponent=2.0) == pytest.approx(
        [value / sum(squared) for value in squared]
    )


def test_judgements_are_clipped_and_missing_ones_count_as_the_mean() -> None:
    limit = math.log((1 - MIN_JUDGEMENT) / MIN_JUDGEMENT)
    assert judgement_log_odds([0.0, 1.0, None]) == pytest.approx([-limit, limit, 0.0])
    assert judgement_log_odds([None, None]).tolist() == [0.0, 0.0]
    assert judgement_log_odds([0.5, None], missing=-1.0) == pytest.approx([0.0, -1.0])
    assert pytest.approx(math.exp(2 * limit)) == MAX_ODDS_RATIO


@given(WEIGHTS, st.data())
def test_shares_sum_to_one_and_follow_a_permutation(weights: list[float], data: st.DataObject) -> None:
    judgements = data.draw(st.lists(st.none() | st.floats(0, 1), min_size=len(weights), max_size=len(weights)))
    order = data.draw(st.permutations(range(len(weights))))
    shares = posterior(np.array(weights), judgement_log_odds(judgements))
    assert shares.sum() == pytest.approx(1.0)
    again = posterior(np.array(weights)[list(order)], judgement_log_odds([judgements[i] for i in order]))
    assert again == pytest.approx(shares[list(order)], rel=1e-9)


def test_the_leading_answer_is_judged_first_and_a_sure_one_ends_it() -> None:
    weights = np.array([1.0, 4.0, 2.0])
    assert next_to_judge(weights, [None] * 3, [False] * 3, term=TERM, size=1) == [1]
    # 4 * 9 of 4 * 9 + 3 is more than three quarters.
    assert next_to_judge(weights, [None, 0.9, None], [False, True, False], term=TERM, size=2) == []
    # 4 * 1/9: now the second leads, unjudged.
    assert next_to_judge(weights, [None, 0.1, None], [False, True, False], term=TERM, size=1) == [2]
    assert next_to_judge(weights, [None, 0.1, None], [False, True, False], term=TERM, size=2) == [2, 0]


def test_answers_without_a_chance_and_failed_ones_are_not_judged() -> None:
    weights = np.array([100.0, 90.0, 1.0])
    assert next_to_judge(weights, [None] * 3, [False] * 3, term=TERM, size=3) == [0, 1]
    assert next_to_judge(weights, [None] * 3, [True, True, False], term=TERM, size=3) == []
