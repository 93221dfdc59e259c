"""Tests of the SWIFT head, its standardizer and its calibrations against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swift_client.models import GatedLinearHead, IsotonicCalibration, PlattCalibration, Standardizer

TOY = GatedLinearHead(gate_weight=[math.log(3)], gate_bias=0.0, reward_weight=[2.0], reward_bias=-1.0)


def test_the_hand_computed_case_of_two_tokens_scores_one_fifth() -> None:
    tokens = np.array([[1.0], [0.0]])
    np.testing.assert_allclose(TOY.token_gates(tokens), [0.75, 0.5], rtol=1e-15)
    np.testing.assert_allclose(TOY.token_rewards(tokens), [1.0, -1.0], rtol=1e-15)
    assert TOY.score(tokens) == pytest.approx(0.2, abs=1e-15)


def test_two_features_weigh_as_their_sum_does() -> None:
    # Gates σ(0) = .5 and σ(ln 4) = .8, rewards 3 and -2: (1.5 - 1.6) / 1.3.
    head = GatedLinearHead(gate_weight=[math.log(4), 0], gate_bias=0, reward_weight=[-2, 3], reward_bias=0)
    assert head.score([[0, 1], [1, 0]]) == pytest.approx(-0.1 / 1.3)


def test_all_gates_shut_score_zero_and_not_nan() -> None:
    shut = GatedLinearHead(gate_weight=[0.0], gate_bias=-1000.0, reward_weight=[2.0], reward_bias=5.0)
    assert shut.score(np.ones((7, 1))) == 0.0
    nearly = GatedLinearHead(gate_weight=[0.0], gate_bias=-30.0, reward_weight=[0.0], reward_bias=1.0)
    # One gate of e^-30 stands far below the floor of 1e-8 under the fraction.
    assert nearly.score(np.ones((1, 1))) == pytest.approx(math.exp(-30) / 1e-8, rel=1e-9)


def test_all_gates_open_give_the_plain_mean_of_rewards() -> None:
    wide = GatedLinearHead(gate_weight=[0.0], gate_bias=1000.0, reward_weight=[1.0], reward_bias=0.0)
    assert wide.score([[1.0], [2.0], [6.0]]) == 3.0


def test_a_completion_without_tokens_has_no_score() -> None:
    assert math.isnan(TOY.score(np.zeros((0, 1))))
    scores = TOY.scores(np.array([[1.0], [0.0]]), np.array([0, 0, 2, 2]))
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, np.array([np.nan, 0.2, np.nan], np.float32))
    assert np.isnan(TOY.scores(np.zeros((0, 1)), np.array([0, 0]))).all()


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 40), max_size=6), width=st.integers(1, 9), seed=st.integers(0, 999))
def test_scores_of_many_are_the_plain_loop_over_each(lengths: list[int], width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gate, reward, bias = rng.normal(size=width), rng.normal(size=width), rng.normal(size=2)
    head = GatedLinearHead(gate_weight=gate, gate_bias=bias[0], reward_weight=reward, reward_bias=bias[1])
    runs = [rng.normal(size=(length, width)).astype(np.float32) for length in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.concatenate([np.zeros((0, width), np.float32), *runs])
    scores = head.scores(values, offsets)
    for run, score in zip(runs, scores, strict=True):
        assert np.float32(head.score(run)).tobytes() == score.tobytes()
        top = bottom = 0.0
        for row in run:
            gate_value = 1 / (1 + math.exp(-(sum(map(float.__mul__, gate.tolist(), row.tolist())) + bias[0])))
            top += gate_value * (sum(map(float.__mul__, reward.tolist(), row.tolist())) + bias[1])
            bottom += gate_value
        assert math.isnan(score) if not len(run) else score == pytest.approx(top / max(bottom, 1e-8), rel=1e-5)


def test_scores_do_not_depend_on_how_the_array_lies_in_memory() -> None:
    values = np.random.default_rng(0).normal(size=(333, 41)).astype(np.float32)
    rng = np.random.default_rng(1)
    head = GatedLinearHead(
        gate_weight=rng.normal(size=41), gate_bias=0, reward_weight=rng.normal(size=41), reward_bias=0
    )
    np.testing.assert_array_equal(head.token_rewards(values), head.token_rewards(np.asfortranarray(values)))
    np.testing.assert_array_equal(head.token_rewards(values)[5:6], head.token_rewards(values[5:6]))


@pytest.mark.parametrize(
    "weights",
    [
        {"gate_weight": [np.nan]},
        {"reward_weight": [np.inf]},
        {"reward_weight": [1.0, 2.0]},
        {"gate_weight": [[1.0]]},
        {"gate_bias": np.nan},
        {"gate_bias": [0.0]},
        {"reward_bias": 1e300},
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, object]) -> None:
    sound = {"gate_weight": [1.0], "gate_bias": 0.0, "reward_weight": [1.0], "reward_bias": 0.0}
    with pytest.raises(ValueError, match=next(iter(weights)) if "gate_weight" not in weights else "weight"):
        GatedLinearHead(**sound | weights)  # type: ignore[arg-type]


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \(T, 1\)"):
        TOY.score(np.zeros((3, 2)))


def test_a_standardizer_gives_mean_zero_and_deviation_one_and_spares_constants() -> None:
    rows = np.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    standardizer = Standardizer.fit(rows)
    scaled = standardizer(rows)
    np.testing.assert_allclose(scaled[:, 0], [-math.sqrt(1.5), 0, math.sqrt(1.5)])
    np.testing.assert_array_equal(scaled[:, 1], 0.0)
    constant = np.full((1000, 1), 0.1)
    assert Standardizer.fit(constant).scale[0] == 1.0


def test_a_standardizer_without_a_positive_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        Standardizer(mean=[0.0], scale=[0.0])


any_score = arrays(np.float64, 12, elements=st.floats(-1e9, 1e9))


@settings(deadline=None)
@given(scores=any_score, a=st.floats(0, 1e6), b=st.floats(-1e6, 1e6))
def test_platt_probabilities_lie_in_the_unit_interval_and_rise_with_the_score(
    scores: np.ndarray, a: float, b: float
) -> None:
    probabilities = PlattCalibration(a=a, b=b)(np.sort(scores))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


def test_platt_at_the_head_s_toy_score_is_the_paper_s_probability() -> None:
    assert PlattCalibration(a=1, b=0)(np.array([0.2]))[0] == pytest.approx(0.549834, abs=1e-6)


@settings(deadline=None)
@given(scores=any_score, seed=st.integers(0, 999), points=st.integers(1, 9))
def test_isotonic_probabilities_lie_in_the_unit_interval_and_rise_with_the_score(
    scores: np.ndarray, seed: int, points: int
) -> None:
    rng = np.random.default_rng(seed)
    calibration = IsotonicCalibration(x=np.sort(rng.normal(size=points)), y=np.sort(rng.random(points)))
    probabilities = calibration(np.sort(scores))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


def test_isotonic_is_straight_between_its_points_and_flat_outside() -> None:
    calibration = IsotonicCalibration(x=[0.0, 1.0, 3.0], y=[0.1, 0.5, 0.5])
    np.testing.assert_allclose(calibration(np.array([-9.0, 0.25, 1.0, 2.0, 9.0])), [0.1, 0.2, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("calibration", [PlattCalibration(a=1, b=0), IsotonicCalibration(x=[0.0], y=[0.5])])
def test_no_score_means_no_probability(calibration: PlattCalibration | IsotonicCalibration) -> None:
    assert np.isnan(calibration(np.array([np.nan]))).all()


def test_calibrations_that_would_fall_or_leave_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        PlattCalibration(a=-1, b=0)
    for x, y in (([1, 0], [0, 1]), ([0, 1], [1, 0]), ([0, 1], [-0.1, 1]), ([0, 1], [0, 1.1]), ([], []), ([0, 1], [0])):
        with pytest.raises(ValueError, match=r"Isotonic|shape"):
            IsotonicCalibration(x=x, y=y)
