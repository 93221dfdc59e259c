"""Tests of the statistics of drift, against a plain loop, and of their reference."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.errors import ConfigurationError
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring.profile import EDGES, MIN_QUESTIONS, build_profile
from swift_client.monitoring.statistics import (
    MAX_COMPLETIONS,
    MAX_RANKS,
    MAX_TOKEN_COMPLETIONS,
    MAX_TOKENS,
    STATISTICS,
    Question,
    question_statistics,
    statistics_of,
)
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training import StoredGroups
from swift_client.types import Completion, Usage


def completion(rng: np.random.Generator, index: int, length: int, k: int, *, text: str = "a" * 7) -> Completion:
    """Return a completion with random lists of ``k`` alternatives out of 30."""
    logits = rng.normal(size=(length, 30)) * 2
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    top = -np.sort(-logprobs, axis=1)[:, :k]
    chosen = top[np.arange(length), rng.integers(0, k, size=length)] if k else logprobs[:, 0]
    return Completion(
        text=text,
        index=index,
        tokens=("to",) * length,
        logprobs=chosen.astype(np.float32),
        top_logprobs=top.astype(np.float32),
        censored=np.zeros(length, np.bool_),
        finish_reason="length" if index % 3 == 2 else "stop",
    )


def by_hand(question: Question) -> dict[str, float]:
    """Compute the statistics with plain loops."""
    tokens: list[tuple[float, list[float]]] = []
    for one in question.completions[:MAX_TOKEN_COMPLETIONS]:
        length = len(one.tokens)
        step = math.ceil(length / MAX_TOKENS) if length else 1
        for position in range(0, length, step):
            listed = [float(v) for v in one.top_logprobs[position] if v > -100]
            tokens.append((float(one.logprobs[position]), listed))
    first = question.completions[:MAX_COMPLETIONS]
    ranks = min(MAX_RANKS, *(one.top_logprobs.shape[1] for one in question.completions[:MAX_TOKEN_COMPLETIONS]))
    nan = math.nan
    count = len(tokens)
    mean = sum(chosen for chosen, _ in tokens) / count
    lists = [listed[:ranks] for _, listed in tokens]
    partial = sum(math.exp(v) * v for listed in lists for v in listed) / count
    votes = Counter(group for group in question.answers or () if group is not None)
    known = [score for score in question.scores or () if not math.isnan(score)]
    n_tokens, n_characters = sum(len(one.tokens) for one in first), sum(len(one.text) for one in first)
    return {
        "listed": sum(len(listed) for _, listed in tokens[:8]) / 8,
        "temperature": mean - partial if ranks else nan,
        "mean_logprob": mean,
        "entropy": -partial if ranks else nan,
        "margin": sum(listed[0] - listed[1] for listed in lists) / count if ranks > 1 else nan,
        "top_share": sum(chosen >= listed[0] for (chosen, _), listed in zip(tokens, lists, strict=True)) / count,
        "tail_mass": 1 - sum(math.exp(v) for listed in lists for v in listed) / count,
        "tokens": n_tokens / len(first),
        "characters": n_characters / len(first),
        "characters_per_token": n_characters / n_tokens,
        "cut_share": sum(one.finish_reason == "length" for one in first) / len(first),
        "score": sum(known) / len(known) if known else nan,
        "agreement": max(votes.values()) / sum(votes.values()) if votes else nan,
        "answered": sum(votes.values()) / len(question.answers) if question.answers else nan,
        "accepted": nan if question.accepted is None else float(question.accepted),
    }


def questions(rng: np.random.Generator) -> list[Question]:
    return [
        Question(
            [completion(rng, i, int(rng.integers(10, 150)), 7, text="b" * int(rng.integers(1, 99))) for i in range(n)],
            scores=[float(rng.normal()) if rng.random() < 0.8 else math.nan for _ in range(n)],
            answers=[int(rng.integers(0, 2)) if rng.random() < 0.8 else None for _ in range(n)],
            accepted=bool(rng.random() < 0.5),
        )
        for n in (1, 2, 3, 8, 16)
    ]


def test_statistics_equal_those_of_a_plain_loop() -> None:
    for question in questions(np.random.default_rng(1)):
        values = dict(
            zip(
                STATISTICS,
                question_statistics(
                    question.completions,
                    scores=question.scores,
                    answers=question.answers,
                    accepted=question.accepted,
                ),
                strict=True,
            )
        )
        for name, expected in by_hand(question).items():
            assert values[name] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), name


def test_questions_computed_together_have_the_bits_of_each_alone() -> None:
    rng = np.random.default_rng(2)
    mixed = [
        *questions(rng),
        Question([Completion(text="no logprobs")]),
        Question([completion(rng, 0, 20, 0)]),
        Question([completion(rng, 0, 20, 1), completion(rng, 1, 3, 5)]),
        *questions(rng),
    ]
    together = statistics_of(mixed)
    alone = np.concatenate([statistics_of([question]) for question in mixed])
    assert np.array_equal(together, alone, equal_nan=True)


def test_unavailable_statistics_are_nan() -> None:
    row = dict(zip(STATISTICS, question_statistics([Completion(text="four")]), strict=True))
    assert {name for name, value in row.items() if not math.isnan(value)} == {"listed", "characters", "cut_share"}
    assert row["listed"] == 0
    assert row["characters"] == 4
    row = statistics_of([Question([completion(np.random.default_rng(0), 0, 9, 0)])])[0]
    chosen_only = dict(zip(STATISTICS, row, strict=True))
    assert not math.isnan(chosen_only["mean_logprob"])
    assert not math.isnan(chosen_only["rounding"])
    assert math.isnan(chosen_only["entropy"])


@pytest.mark.parametrize(
    ("expected", "rounded"),
    [
        (0.0, lambda values: values),
        (1.0, lambda values: np.round(values.astype(np.float64), 4).astype(np.float32)),
        (2.0, lambda values: values.astype(np.float16).astype(np.float32)),
    ],
)
def test_rounding_tells_full_precision_from_four_decimals_and_half(expected: float, rounded: object) -> None:
    assert callable(rounded)
    one = completion(np.random.default_rng(3), 0, 600, 5)
    one = replace(one, top_logprobs=rounded(one.top_logprobs), logprobs=rounded(one.logprobs))
    value = statistics_of([Question([one])])[0, list(STATISTICS).index("rounding")]
    assert value == pytest.approx(expected, abs=0.15)


def test_a_samples_file_keeps_the_rounding_of_live_answers(tmp_path: Path) -> None:
    """The file rounds alternatives to 16 bits, which must not look like a change of the model."""
    live = [completion(np.random.default_rng(8), index, 40, 20) for index in range(4)]
    path = tmp_path / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="openai", model="m", top_logprobs=20))
        store.add_questions([StoredQuestion(id="q", messages=({"role": "user", "content": "?"},))])
        store.add_samples("q", live, usage=Usage(calls=1))
    (group,) = StoredGroups([path])
    assert not np.array_equal(group.completions[0].top_logprobs, live[0].top_logprobs)

    column = list(STATISTICS).index("rounding")
    values = [question_statistics(completions)[column] for completions in (live, group.completions)]

    assert values[0] == values[1] < 0.1


def test_logprobs_near_0_do_not_count_as_rounded() -> None:
    one = completion(np.random.default_rng(9), 0, 20, 5)
    column = list(STATISTICS).index("rounding")
    sure = np.full(20, -1e-6, np.float32)
    assert math.isnan(question_statistics([replace(one, logprobs=sure)])[column])
    sure[:5] = np.float32([-0.1234, -1.2346, -0.5, -2.25, -3.0001])
    # -0.5 and -2.25 are exact in 16 bits too.
    assert question_statistics([replace(one, logprobs=sure)])[column] == pytest.approx(1 + 2 * 2 / 5)


def test_a_lower_temperature_raises_the_fit_statistic() -> None:
    """Tokens of the lists' own distribution give about 0, and greedy ones the gap between the best and the mean."""
    rng = np.random.default_rng(4)
    column = list(STATISTICS).index("temperature")
    values = {}
    for name, power in (("sampled", 1.0), ("cold", 4.0)):
        rows = []
        for _ in range(200):
            one = completion(rng, 0, 32, 30)
            probability = np.exp(one.top_logprobs.astype(np.float64))
            sharp = probability**power / (probability**power).sum(axis=1, keepdims=True)
            ranks = [rng.choice(30, p=row) for row in sharp]
            rows.append(replace(one, logprobs=one.top_logprobs[np.arange(32), ranks]))
        values[name] = statistics_of([Question([one]) for one in rows])[:, column].mean()
    # Only the first five alternatives are read, so that the prediction lacks the others' small terms.
    assert values["cold"] > values["sampled"] + 0.2


def test_quantiles_of_a_profile_are_those_of_the_reference() -> None:
    rng = np.random.default_rng(5)
    rows = np.full((500, len(STATISTICS)), np.nan)
    column = list(STATISTICS).index("entropy")
    rows[:, column] = rng.gamma(2.0, size=500)
    rows[:, list(STATISTICS).index("agreement")] = rng.integers(1, 5, size=500) / 4
    profile = build_profile({4: rows}, fingerprints=["b", "a", "a"])
    assert profile.questions == 500
    assert profile.fingerprints == ("a", "b")
    for probability in (0.1, 0.5, 0.9):
        low, high = np.quantile(rows[:, column], [probability - 0.03, probability + 0.03])
        value = profile.quantile("entropy", probability, n=9)
        assert value is not None
        assert low <= value <= high
    assert profile.quantile("agreement", 0.1, n=4) == 0.25
    assert profile.quantile("agreement", 0.95, n=4) == 1.0
    assert profile.quantile("entropy", 0.5, n=3) is None
    assert profile.quantile("score", 0.5, n=4) is None


def test_a_profile_needs_enough_questions() -> None:
    with pytest.raises(ConfigurationError, match=f"{MIN_QUESTIONS} questions, and there are 3"):
        build_profile({4: np.zeros((3, len(STATISTICS)))})


@pytest.mark.parametrize("rows", [np.zeros((40, len(STATISTICS))), {0: []}, {"4": []}])
def test_a_profile_needs_the_number_of_completions(rows: Any) -> None:
    """Rows of several completions would be compared with those of one: an agreement of 1 would be an alarm."""
    with pytest.raises(ConfigurationError, match="number of completions"):
        build_profile(rows)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"statistics": ()}, "no statistics"),
        ({"statistics": ("a", "a")}, "twice"),
        ({"sizes": (0,)}, "sizes"),
        ({"sizes": (1, 1)}, "sizes"),
        ({"sizes": (1.5,)}, "sizes"),
        ({"edges": np.zeros((1, 2, 3))}, "do not rise"),
        ({"edges": np.full((1, 2, 3), np.nan)}, "do not rise"),
        ({"edges": np.array([[[1.0, np.inf, 2.0]] * 2])}, "do not rise"),
        ({"edges": np.zeros((1, 2, 3), np.float32)}, "float64"),
        ({"edges": np.arange(8.0).reshape(1, 2, 4)}, "counts"),
        ({"counts": np.zeros((1, 2, 6), np.uint32)}, "counts"),
        ({"fingerprints": ("x" * 1000,)}, "fingerprints"),
    ],
)
def test_a_profile_refuses_parts_that_do_not_fit(change: dict[str, object], problem: str) -> None:
    parts: dict[str, object] = {
        "statistics": ("a", "b"),
        "sizes": (1,),
        "edges": np.array([[[0.0, 1.0, 2.0]] * 2]),
        "counts": np.ones((1, 2, 7), np.uint32),
    }
    DriftProfile(**parts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=problem):
        DriftProfile(**{**parts, **change})  # type: ignore[arg-type]


def test_a_profile_returns_from_its_parts() -> None:
    rows = np.random.default_rng(6).normal(size=(60, len(STATISTICS)))
    profile = build_profile({1: rows, 4: rows[:40], 16: rows[:5]})
    copy = DriftProfile.from_parts(profile.facts(), profile.tensors())
    assert copy.sizes == (1, 4)
    assert copy.edges.shape == (2, len(STATISTICS), EDGES)
    assert np.array_equal(copy.counts, profile.counts)
    assert [copy.size_index(n) for n in (0, 1, 3, 4, 99)] == [None, 0, 0, 1, 1]
