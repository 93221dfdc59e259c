"""Tests of fusing two scores, against hand-computed cases, scipy's ranks and SWIFT's rules as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from swift_client.errors import ConfigurationError
from swift_client.scoring.fusion import FUSIONS, fuse, learn_share, min_max, rank_normalize

OURS = np.array([0.9, 0.5, 0.1, 0.5])
THEIRS = np.array([-3.0, 7.0, 1.0, -1.0])
SCORE = st.floats(-1e300, 1e300)
PAIRS = st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=12)


def test_hand_computed() -> None:
    # Ranks, best first: ours 1, 2, 4, 2; theirs 4, 1, 2, 3.
    assert fuse(OURS, THEIRS, "worst_rank").tolist() == [0.25, 0.75, 0.25, 0.5]  # 1 - (worst - 1) / 4
    assert fuse(OURS, THEIRS, "mean_rank").tolist() == [0.625, 0.875, 0.5, 0.625]
    assert fuse(OURS, THEIRS, "mean") == pytest.approx([0.5, 0.75, 0.2, 0.35])
    assert fuse(OURS, THEIRS, "weighted:share=0.25") == pytest.approx([0.25, 0.875, 0.3, 0.275])


@given(PAIRS)
def test_worst_rank_picks_what_swifts_own_loop_picks(pairs: list[tuple[float, float]]) -> None:
    first_scores, second_scores = np.array(pairs).T
    fused = fuse(first_scores, second_scores, "worst_rank")
    ranks = [np.asarray(rankdata(-side, method="min")) for side in (first_scores, second_scores)]
    combined = np.maximum(*ranks)  # combined_rank = max(rank_swift, rank_ext), the lowest wins
    assert np.flatnonzero(fused == fused.max()).tolist() == np.flatnonzero(combined == combined.min()).tolist()


@given(PAIRS)
def test_mean_is_min_max_within_the_question_with_a_constant_column_all_one(pairs: list[tuple[float, float]]) -> None:
    first_scores, second_scores = np.array(pairs, np.float64).T
    expected = np.zeros(len(pairs))
    for side in (first_scores.astype(np.longdouble), second_scores.astype(np.longdouble)):
        span = side.max() - side.min()
        expected += np.asarray((side - side.min()) / span if span else np.ones(len(side)), np.float64) / 2
    assert fuse(first_scores, second_scores, "mean") == pytest.approx(expected, abs=1e-9)


@given(PAIRS, st.sampled_from(sorted(FUSIONS)))
def test_every_fusion_is_within_0_and_1_and_follows_a_permutation(pairs: list[tuple[float, float]], name: str) -> None:
    first_scores, second_scores = np.array(pairs).T
    fused = fuse(first_scores, second_scores, name)
    assert ((fused >= 0) & (fused <= 1)).all()
    order = np.random.default_rng(0).permutation(len(pairs))
    assert fuse(first_scores[order], second_scores[order], name) == pytest.approx(fused[order])


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_a_completion_with_one_score_is_placed_by_it_and_one_without_has_none(name: str) -> None:
    nan = np.nan
    fused = fuse(np.array([0.0, 1.0, nan, nan]), np.array([2.0, 3.0, 2.5, nan]), name)
    assert fused[1] == 1.0
    assert fused[2] == 0.5
    assert np.isnan(fused[3])
    no_scores = np.full(3, nan)
    assert fuse(np.array([1.0, 3.0, 2.0]), no_scores, name).tolist() == [0.0, 1.0, 0.5]  # a reward model that failed


def test_infinite_scores_are_placed_by_rank() -> None:
    assert min_max(np.array([-np.inf, 0.0, np.inf])).tolist() == rank_normalize(np.array([-1.0, 0.0, 1.0])).tolist()


def test_the_share_is_learnt_from_labelled_questions() -> None:
    draw = np.random.default_rng(0)
    labels = [(draw.random(8) < 0.5).astype(float) for _ in range(200)]
    noise = [draw.normal(size=8) for _ in labels]
    signal = [label + 0.8 * draw.normal(size=8) for label in labels]
    assert learn_share(noise, signal, labels) < 0.3
    assert learn_share(signal, noise, labels) > 0.7
    # Of equally good shares the one nearest to one half: here every share picks alike.
    assert learn_share(signal, signal, labels) == 0.5
    assert learn_share([], [], []) == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "'' is not a fusion"),
        ("best", "'best' is not a fusion"),
        ("mean:share=0.5", "fusion mean has no setting 'share'"),
        ("weighted:share=2", "share of the fusion weighted must be from 0 to 1, not 2"),
        ("weighted:share=nan", "share of the fusion weighted must be from 0 to 1, not nan"),
        ("weighted:share=x", "'share=x' in 'weighted:share=x' is not a setting"),
        ("weighted:w=1", "fusion weighted has no setting 'w'"),
    ],
)
def test_anything_but_a_fusion_is_one_clear_error(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fuse(OURS, THEIRS, spec)
