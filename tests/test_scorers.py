"""Tests of scorers against scorio, plain loops and hand-computed cases."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorio import agg

from swift_client.errors import ConfigurationError
from swift_client.features import DEFAULT_FEATURES, DEFAULT_RESPONSE_TERMS, response_terms, token_features
from swift_client.models import GatedLinearHead, HeadArtifact, PlattCalibration, ResponseWeights, Standardizer
from swift_client.scoring.scorers import SCORERS, score, wepr
from swift_client.types import Completion

ALL = tuple(SCORERS)
ON_LOGPROBS = tuple(name for name, row in SCORERS.items() if row.min_ranks is not None)
ON_LISTS = tuple(name for name, row in SCORERS.items() if row.min_ranks)


def make(length: int, ranks: int, seed: int, *, index: int = 0, gaps: bool = False) -> Completion:
    rng = np.random.default_rng([seed, length, ranks])
    logits = np.sort(rng.normal(scale=3, size=(length, ranks + 30)), axis=1)[:, ::-1]
    logprobs = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    top = logprobs[:, :ranks].copy()
    if gaps:
        top[np.arange(ranks) >= rng.integers(0, ranks + 1, size=length)[:, None]] = -np.inf
    return Completion(
        text="x" * rng.integers(0, 99),
        index=index,
        tokens=("t",) * length,
        logprobs=logprobs[np.arange(length), np.minimum(rng.geometric(0.6, size=length) - 1, ranks)],
        top_logprobs=top,
        censored=np.zeros(length, np.bool_),
    )


groups = st.lists(
    st.builds(
        make,
        length=st.integers(0, 60),
        ranks=st.integers(0, 6),
        seed=st.integers(0, 10**6),
        index=st.integers(0, 99),
        gaps=st.booleans(),
    ),
    max_size=6,
)


def toy_head(**facts: object) -> HeadArtifact:
    """The hand-computable head of test_head.py, on the chosen logprob alone."""
    return HeadArtifact(
        **{  # type: ignore[arg-type]
            "features": ("logprob",),
            "width": 20,
            "standardizer": Standardizer(mean=[0.0], scale=[1.0]),
            "head": GatedLinearHead(gate_weight=[math.log(3)], gate_bias=0, reward_weight=[2], reward_bias=-1),
            "provider": "pocket",
            "model": "pocket-1",
            "k_min": 0,
            "k_max": 20,
        }
        | facts
    )


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 159, 161, 400])
def test_scores_agree_with_scorio(length: int) -> None:
    completion = make(length, 20, seed=length)
    chosen_logprobs, top = completion.logprobs.astype(np.float64), completion.top_logprobs.astype(np.float64)
    window = max(16, math.ceil(0.1 * length))
    expected = {
        "mean_logprob": agg.mean_logprob(chosen_logprobs),
        "sum_logprob": agg.sequence_logprob(chosen_logprobs),
        "perplexity": -agg.perplexity(chosen_logprobs),
        "self_certainty": agg.self_certainty(top),
        "deepconf_mean": agg.deepconf_confidence(top, mode="mean"),
        "deepconf_tail": agg.deepconf_confidence(top, mode="tail", tail_tokens=window),
        "deepconf_lowest": agg.deepconf_confidence(top, mode="lowest_group", window=window),
    }
    for name, value in expected.items():
        assert score([completion], name).values[0] == pytest.approx(value, rel=2e-6), name


@pytest.mark.parametrize("length", [1, 15, 17, 400])
def test_the_other_scores_are_their_formulas_in_plain_python(length: int) -> None:
    completion = make(length, 20, seed=length)
    entropy, partial, confidence = [], [], []
    for row in completion.top_logprobs.astype(float).tolist():
        partial.append(-sum(math.exp(value) * value for value in row))
        tail = 1 - sum(map(math.exp, row))
        entropy.append(partial[-1] - (tail * math.log(tail) if tail > 0 else 0.0))
        confidence.append(-sum(row) / len(row))
    window = min(length, max(16, math.ceil(0.1 * length)))
    means = sorted(sum(confidence[i : i + window]) / window for i in range(length - window + 1))
    lowest = means[: max(1, int(0.1 * len(means)))]
    expected = {
        "min_logprob": min(completion.logprobs.tolist()),
        "entropy": -sum(entropy) / length,
        "epr": -sum(partial) / length,
        "deepconf_bottom": sum(lowest) / len(lowest),
    }
    for name, value in expected.items():
        assert score([completion], name).values[0] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("name", [name for name in ON_LOGPROBS if name != "sum_logprob"])
def test_the_surer_answer_scores_higher(name: str) -> None:
    def flat(best: float) -> Completion:
        row = [best] + [(1 - best) / 8] * 4
        top = np.log(np.array([row] * 40, np.float32))
        return Completion(
            text="x", tokens=("t",) * 40, logprobs=top[:, 0], top_logprobs=top, censored=np.zeros(40, np.bool_)
        )

    doubtful, confident_score = score([flat(0.5), flat(0.95)], name).values
    assert confident_score > doubtful


@settings(deadline=None, max_examples=40)
@given(group=groups, name=st.sampled_from(ALL), seed=st.integers(0, 99))
def test_scores_move_with_their_completions_to_the_last_bit(group: list[Completion], name: str, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(group))
    straight = score(group, name).values
    assert straight.dtype == np.float32
    assert score([group[i] for i in order], name).values.tobytes() == straight[order].tobytes()


@settings(deadline=None, max_examples=40)
@given(group=groups, name=st.sampled_from(ALL), extra=st.integers(1, 9))
def test_empty_ranks_change_no_score(group: list[Completion], name: str, extra: int) -> None:
    padded = [
        replace(c, top_logprobs=np.pad(c.top_logprobs, ((0, 0), (0, extra)), constant_values=-np.inf)) for c in group
    ]
    assert score(padded, name).values.tobytes() == score(group, name).values.tobytes()


@settings(deadline=None, max_examples=60)
@given(group=groups, name=st.sampled_from(ALL))
def test_a_score_is_finite_or_stated_to_be_missing(group: list[Completion], name: str) -> None:
    scores = score(group, name)
    assert scores.values.shape == (len(group),)
    assert not np.isinf(scores.values).any()
    missing = int(np.isnan(scores.values).sum())
    if SCORERS[name].min_ranks is not None:
        assert any(
            note.startswith(f"{missing} of {len(group)} completions have no score") for note in scores.notes
        ) == (missing > 0)


@pytest.mark.parametrize("name", ON_LISTS)
def test_lists_of_different_length_are_read_to_the_shortest_and_said_so(name: str) -> None:
    group = [make(30, 20, 1), make(30, 5, 2), make(30, 20, 3)]
    short_lists = [replace(completion, top_logprobs=completion.top_logprobs[:, :5]) for completion in group]
    scores = score(group, name)
    assert scores.values.tobytes() == score(short_lists, name).values.tobytes()
    assert scores.notes == ("Lists are up to 20 alternatives long; all were cut to the shortest, 5.",)


def test_chosen_logprobs_alone_score_where_no_list_is_needed() -> None:
    group = [make(30, 0, 1), make(30, 20, 2), make(0, 0, 3)]
    scores = score(group, "mean_logprob")
    assert np.isnan(scores.values).tolist() == [False, False, True]
    assert scores.notes == ("1 of 3 completions have no score, because they have no logprobs.",)
    entropy_scores = score(group, "entropy")
    assert np.isnan(entropy_scores.values).tolist() == [True, False, True]
    assert entropy_scores.notes == (
        "2 of 3 completions have no score, because they have no lists of 1 or more alternatives.",
    )


def test_text_alone_is_enough_for_shortest_and_random() -> None:
    group = [Completion(text=text, index=index) for index, text in enumerate(["four", "", "a"])]
    assert score(group, "shortest").values.tolist()[::2] == [-4.0, -1.0]
    assert math.isnan(score(group, "shortest").values[1])
    random_scores = score(group, "random", seed=3).values
    assert ((random_scores >= 0) & (random_scores <= 1)).all()
    assert len(set(random_scores.tolist())) == 3
    np.testing.assert_array_equal(random_scores, score(group, "random", seed=3).values)
    assert (random_scores != score(group, "random", seed=4).values).all()


def test_an_improbable_text_has_a_finite_perplexity() -> None:
    improbable_completion = Completion(
        text="x",
        tokens=("t",),
        logprobs=np.array([-99.0], np.float32),
        top_logprobs=np.zeros((1, 0), np.float32),
        censored=np.zeros(1, np.bool_),
    )
    assert np.isfinite(score([improbable_completion], "perplexity").values).all()


def test_wepr_is_its_formula_and_needs_all_its_ranks() -> None:
    rng = np.random.default_rng(0)
    means, maxima = rng.normal(size=5), rng.normal(size=5)
    group = [make(30, 20, 1), make(30, 5, 2), make(30, 4, 3), make(0, 0, 4)]
    values = score(group, wepr(bias=0.5, mean_weight=means, max_weight=maxima)).values
    for completion, value in zip(group[:2], values, strict=False):
        top = completion.top_logprobs[:, :5].astype(np.float64)
        surprise = -np.exp(top) * top
        assert value == pytest.approx(-(0.5 + surprise.mean(0) @ means + surprise.max(0) @ maxima), rel=1e-5)
    assert np.isnan(values[2:]).all()
    equal = score(group[:1], wepr(bias=0, mean_weight=np.ones(20), max_weight=np.zeros(20))).values
    np.testing.assert_allclose(equal, score(group[:1], "epr").values, rtol=1e-6)


def test_your_own_scorer_may_be_any_callable_and_may_say_no_signal() -> None:
    def digits(completions: Sequence[Completion]) -> list[float | None]:
        return [float(c.text) if c.text.isdigit() else None for c in completions]

    scores = score([Completion(text="7"), Completion(text="?")], digits)
    assert scores.name == "digits"
    np.testing.assert_array_equal(scores.values, np.array([7, np.nan], np.float32))


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ([1.0], r"shape \(1,\) for 2 completions"),
        (1.0, r"shape \(\)"),
        ([[1.0], [2.0]], r"shape \(2, 1\)"),
        (["good", "bad"], "did not return numbers"),
        ([1.0, math.inf], "an infinite score"),
        ([1.0, 1e300], "an infinite score"),
        (None, r"shape \(\)"),
    ],
)
def test_a_scorer_that_returns_something_else_is_reported(result: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        score([Completion(text="a"), Completion(text="b")], lambda completions: result)  # type: ignore[arg-type, return-value]


def test_an_unknown_scorer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown scorer 'vibes'.*mean_logprob"):
        score([], "vibes")


@pytest.mark.parametrize("name", ALL)
def test_no_completions_have_no_scores(name: str) -> None:
    assert score([], name).values.shape == (0,)


def test_a_head_scores_features_response_terms_and_probability_in_that_order() -> None:
    # logprobs 0 and -1 through the toy head: g = .5 and 1/(1+3) = .25, r = -1 and -3; R = (-.5 - .75) / .75 = -5/3.
    completion = Completion(
        text="x",
        tokens=("a", "b"),
        logprobs=np.array([0.0, -1.0], np.float32),
        top_logprobs=np.zeros((2, 0), np.float32),
        censored=np.zeros(2, np.bool_),
    )
    assert score([completion], toy_head()).values[0] == pytest.approx(-5 / 3)
    # The sum of logprobs is -1; standardized (-1 - 1) / 2 = -1, times 3 adds -3; then sigmoid(.5 · -14/3 + 1).
    full = toy_head(
        response_terms=("sum_logprob",),
        response=ResponseWeights(mean=[1.0], scale=[2.0], weight=[3.0]),
        calibration=PlattCalibration(a=0.5, b=1.0),
    )
    scores = score([completion, Completion(text="no logprobs")], full)
    assert scores.name == "head pocket/pocket-1"
    assert scores.values[0] == pytest.approx(-14 / 3)
    assert scores.probabilities is not None
    assert scores.probabilities.dtype == np.float32
    assert scores.probabilities[0] == pytest.approx(1 / (1 + math.exp(4 / 3)))
    assert np.isnan(scores.values[1])
    assert np.isnan(scores.probabilities[1])
    assert scores.notes == ("1 of 2 completions have no score, because they have no logprobs.",)


def default_head(k_min: int, k_max: int, width: int) -> HeadArtifact:
    rng = np.random.default_rng(2)
    d = len(token_features([], width=width).names)
    m = len(response_terms([], width=width).names)
    return toy_head(
        features=DEFAULT_FEATURES,
        width=width,
        standardizer=Standardizer(mean=rng.normal(size=d), scale=rng.random(d) + 1),
        head=GatedLinearHead(
            gate_weight=rng.normal(size=d), gate_bias=0, reward_weight=rng.normal(size=d), reward_bias=0
        ),
        response_terms=DEFAULT_RESPONSE_TERMS,
        response=ResponseWeights(mean=rng.normal(size=m), scale=rng.random(m) + 1, weight=rng.normal(size=m)),
        k_min=k_min,
        k_max=k_max,
    )


@settings(deadline=None, max_examples=40)
@given(group=groups, seed=st.integers(0, 99))
def test_a_head_s_scores_move_with_their_completions_to_the_last_bit(group: list[Completion], seed: int) -> None:
    head = default_head(1, 4, 5)
    order = np.random.default_rng(seed).permutation(len(group))
    straight = score(group, head).values
    assert score([group[i] for i in order], head).values.tobytes() == straight[order].tobytes()


def test_a_head_reads_no_more_ranks_than_it_was_trained_on_and_none_of_what_lists_too_few() -> None:
    head = default_head(3, 5, 6)
    group = [make(30, 20, 1), make(30, 2, 2), make(30, 4, 3)]
    scores = score(group, head)
    assert np.isnan(scores.values).tolist() == [False, True, False]
    assert scores.notes == (
        "1 of 3 completions have no score, because they have no lists of 3 or more alternatives.",
        "Lists are up to 5 alternatives long; all were cut to the shortest, 4.",
    )
    long = [make(30, 20, 1), make(30, 9, 2)]
    short_lists = [replace(completion, top_logprobs=completion.top_logprobs[:, :5]) for completion in long]
    assert score(long, head).values.tobytes() == score(short_lists, head).values.tobytes()
    assert score(long, head).notes == ()


def test_a_head_outside_its_range_scores_and_says_so() -> None:
    scores = score([make(30, 2, 1), make(30, 2, 2)], default_head(3, 5, 6))
    assert np.isfinite(scores.values).all()
    assert scores.notes == ("head pocket/pocket-1 was trained on 3 or more alternatives per token, not on 2.",)


def test_a_head_says_of_answers_without_logprobs_only_that() -> None:
    scores = score([Completion(text="a")], default_head(3, 5, 6))
    assert np.isnan(scores.values).all()
    assert scores.notes == ("1 of 1 completions have no score, because they have no logprobs.",)


def test_scores_are_the_same_in_every_process_and_under_every_hash_seed() -> None:
    program = (
        "import numpy as np, sys; sys.path.insert(0, sys.argv[1])\n"
        "from swift_client.scorers import SCORERS, score; from swift_client.types import Completion\n"
        "t = np.log(np.arange(9, 0, -1, dtype=np.float32) / 50).reshape(1, 9).repeat(40, 0)\n"
        "c = [Completion(text='x' * i, index=i, tokens=('é',) * 40, logprobs=t[:, i], top_logprobs=t,"
        " censored=np.zeros(40, bool)) for i in range(1, 5)]\n"
        "print([score(c, name, seed=1).values.tobytes().hex() for name in SCORERS])"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parents[1])],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("value", [10**400, -(10**400), [10**400, 1], "x", None, {}, 1e39])
def test_a_scorer_that_returns_no_finite_numbers_is_one_typed_error(value: object) -> None:
    completions = [Completion(text=text, index=index) for index, text in enumerate("ab")]

    def odd(_: Sequence[Completion]) -> Any:
        return value

    with pytest.raises(ConfigurationError, match="odd"):
        score(completions, odd)
