"""``benchmarks/pairwise.py`` simulates the judge that it says, and the peer's tournament as it is described."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pairwise import JudgeModel, our_tournament, peer_tournament, simulate


@pytest.mark.parametrize(("n", "calls"), [(4, 9), (8, 21), (16, 45)])
def test_the_peer_asks_for_its_published_number_of_comparisons(n: int, calls: int) -> None:
    pairs: list[tuple[int, int]] = []

    def compare(first: int, second: int) -> float:
        pairs.append((first, second))
        return float(first > second)

    _, counted = peer_tournament(compare, n, np.random.default_rng(0))
    met = [sum(place in pair for pair in pairs) for place in range(n)]

    assert counted == len(pairs) == calls
    # Everyone meets two neighbours and both pivots; these meet their neighbours and everyone.
    assert sorted(met) == [4] * (n - 2) + [n + 1] * 2


def test_the_peer_chooses_the_largest_mean_of_wins() -> None:
    """Of four candidates each is a pivot or meets both pivots; one that wins all has the largest mean."""
    for seed in range(20):
        assert peer_tournament(lambda first, second: float(first > second), 4, np.random.default_rng(seed))[0] == 3


def test_the_peer_takes_failures_for_ties() -> None:
    choice, calls = peer_tournament(lambda first, second: np.nan, 8, np.random.default_rng(0))

    assert (choice, calls) == (0, 21)


@pytest.mark.parametrize("auroc", [0.6, 0.75, 0.9])
def test_one_comparison_ranks_right_above_wrong_as_often_as_the_judge_should(auroc: float) -> None:
    judgements = simulate(JudgeModel(auroc=auroc, sharpness=4.0), 8, 3000, 0)
    is_pair = judgements.right[:, :, None] & ~judgements.right[:, None, :]

    assert np.mean(judgements.preferences[..., 0][is_pair] > 0.5) == pytest.approx(auroc, abs=0.01)


def test_bias_is_the_first_slots_gain_between_equals() -> None:
    plain, biased = (simulate(JudgeModel(auroc=0.75, bias=bias), 4, 50, 0).preferences for bias in (0.0, 10.0))
    log_odds = np.log(biased / (1 - biased)) - np.log(plain / (1 - plain))

    np.testing.assert_allclose(log_odds, np.log(0.6 / 0.4))


def test_repeats_with_swapped_slots_cancel_the_bias() -> None:
    plain, biased = (simulate(JudgeModel(auroc=0.75, bias=bias), 4, 300, 0) for bias in (0.0, 10.0))
    shares = [np.mean([once.compare_often(question)(0, 1) for question in range(300)]) for once in (plain, biased)]

    assert shares[1] == pytest.approx(shares[0], abs=0.01)
    assert np.mean(biased.preferences[:, 0, 1]) > np.mean(plain.preferences[:, 0, 1]) + 0.05


def test_ours_asks_for_at_most_twelve_and_leaves_out_failures() -> None:
    assert our_tournament(lambda first, second: float(first > second), np.zeros(8))[0] == 7
    assert our_tournament(lambda first, second: 0.5, np.zeros(8))[1] == 12
    assert our_tournament(lambda first, second: np.nan, np.arange(8.0)) == (7, 8)
