"""Tests of accepting at a stated risk: the exact test, the guarantee, and the calibration in a head's file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.cascade_curve import cascade_curve
from benchmarks.guarantee import check_guarantee
from swift_client import training
from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.evaluation.risk.calibrate import ReplayOutcomes, calibrate, replay_questions
from swift_client.evaluation.risk.threshold import acceptance_counts, binomial_cdf, certify, min_accepted
from swift_client.models import HeadArtifact, load, save
from swift_client.reranker.acceptance import answer_log_odds, with_acceptance
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.stopping import stopping_rule
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training.fit import fit
from swift_client.types import Selection, Usage
from tests.graded import graded_groups
from tests.test_cascade import acceptance

N = 6


@cache
def head() -> HeadArtifact:
    return fit(graded_groups(60, signal=4.0), provider="p", model="m").artifact


@cache
def fresh() -> tuple[Group, ...]:
    return tuple(graded_groups(220, signal=4.0, seed=9, right=0.75))


@given(st.integers(0, 40), st.integers(1, 900), st.floats(0.001, 0.6))
def test_the_tail_of_the_binomial_is_scipys(errors: int, count: int, risk: float) -> None:
    assert binomial_cdf(errors, count, risk) == pytest.approx(binom.cdf(errors, count, risk), rel=1e-9, abs=1e-300)


@given(st.integers(0, 5), st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_fewest_questions_that_certify_are_the_fewest(errors: int, risk: float, level: float) -> None:
    count = min_accepted(errors, risk=risk, confidence=level)
    assert binom.cdf(errors, count, risk) <= 1 - level + 1e-12
    assert count == 1 or binom.cdf(errors, count - 1, risk) > 1 - level - 1e-12


def test_forty_five_right_answers_certify_five_percent_at_ninety_and_fortyfour_do_not() -> None:
    assert min_accepted(0, risk=0.05, confidence=0.9) == 45  # 0.95^45 = 0.0994
    assert acceptance_counts(44, risk=0.05, confidence=0.9) == []
    assert certify(np.zeros(45), np.ones(45, bool), risk=0.05, confidence=0.9).threshold == 0.0
    assert certify(np.zeros(44), np.ones(44, bool), risk=0.05, confidence=0.9).threshold is None


def test_the_threshold_is_the_last_that_passes_before_the_first_that_does_not() -> None:
    log_odds = np.arange(400, 0, -1.0)
    right = np.ones(400, bool)
    right[200:] = False
    threshold = certify(log_odds, right, risk=0.05, confidence=0.9)
    tested = acceptance_counts(400, risk=0.05, confidence=0.9)
    passing = [count for count in tested if binom.cdf(max(0, count - 200), count, 0.05) <= 0.1]
    assert threshold.accepted == passing[-1]
    assert threshold.threshold == log_odds[threshold.accepted - 1]
    assert threshold.errors == max(0, threshold.accepted - 200)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_what_is_certified_passes_the_exact_test_with_ties_and_missing_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_odds = rng.integers(0, 12, 300).astype(float)
    log_odds[rng.random(300) < 0.1] = np.nan
    right = rng.random(300) < 1 / (1 + np.exp(-0.6 * np.nan_to_num(log_odds)))
    threshold = certify(log_odds, right, risk=0.1, confidence=0.9)
    if threshold.threshold is not None:
        accepted = log_odds >= threshold.threshold
        assert threshold.accepted == accepted.sum()
        assert threshold.errors == (~right[accepted]).sum()
        assert binom.cdf(threshold.errors, threshold.accepted, 0.1) <= 0.1 + 1e-12


@pytest.mark.parametrize("shape", ["nothing is told", "a step at the edge", "smooth"])
def test_a_risk_above_the_stated_one_is_accepted_no_more_often_than_the_confidence_allows(shape: str) -> None:
    rng = np.random.default_rng(1)
    trials, questions, risk = 2000, 240, 0.1
    n_broken = 0
    grid = (np.arange(20000) + 0.5) / 20000  # 1 is the surest
    chance = {
        "nothing is told": np.full(len(grid), risk * 1.001),
        "a step at the edge": np.where(grid > 0.4, risk * 0.99, 0.3),
        "smooth": 0.3 * (1 - grid),
    }[shape]
    true_risk = np.cumsum(chance[::-1]) / np.arange(1, len(grid) + 1)  # of accepting the top share
    for _ in range(trials):
        log_odds = rng.random(questions)
        right = rng.random(questions) > np.interp(log_odds, grid, chance)
        limit = certify(log_odds, right, risk=risk, confidence=0.9).threshold
        if limit is not None:
            n_broken += true_risk[min(int((1 - limit) * len(grid)), len(grid) - 1)] > risk
    assert n_broken / trials <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / trials)


def test_confidence_is_the_log_odds_by_hand() -> None:
    completions = fresh()[0].completions
    selection = select_best(completions, SelectionConfig(scorer=head()))
    # β is 1: the sum of the chosen answer's odds against that of all others, and 1 for answers that nobody gave.
    assert head().beta == 1.0
    chosen, others = 0.0, 1.0
    for candidate in selection.candidates:
        if candidate.group is not None and candidate.probability is not None:
            chance = min(max(candidate.probability, 1e-3), 1 - 1e-3)
            odds = chance / (1 - chance)
            chosen, others = (
                (chosen + odds, others) if candidate.group == selection.best.group else (chosen, others + odds)
            )
    assert answer_log_odds(selection) == pytest.approx(math.log(chosen / others), abs=1e-6)


def test_without_a_vote_the_log_odds_are_those_of_the_chosen_completion() -> None:
    selection = select_best(fresh()[0].completions, SelectionConfig(scorer=head(), select="best"))
    chance = min(max(selection.probability or 0.0, 1e-3), 1 - 1e-3)
    assert answer_log_odds(selection) == pytest.approx(math.log(chance / (1 - chance)), abs=1e-9)


def test_calibrating_says_how_many_it_accepts_and_the_same_rule_accepts_them() -> None:
    calibrated = calibrate(head(), fresh(), risk=0.2, n=N, split="all")
    assert calibrated.acceptance is not None
    assert calibrated.head.acceptances == (calibrated.acceptance,)
    assert head().acceptances == ()
    rules = SelectionConfig(scorer=calibrated.head)
    choices: list[Selection] = [with_acceptance(select_best(group.completions, rules), rules, n=N) for group in fresh()]
    assert (
        sum(choice.accepted is True for choice in choices)
        == calibrated.acceptance.accepted
        == calibrated.tested.accepted
    )
    wrong = sum(
        choice.accepted is True and group.labels[choice.winner] == 0
        for choice, group in zip(choices, fresh(), strict=True)
    )
    assert wrong == calibrated.acceptance.errors
    recalibrated = calibrate(calibrated.head, fresh(), risk=0.3, n=N, split="all")
    assert [acceptance.risk for acceptance in recalibrated.head.acceptances] == [0.3]  # the same plan: replaced
    more = calibrate(calibrated.head, fresh(), risk=0.3, n=2, split="all")
    assert [acceptance.n for acceptance in more.head.acceptances] == [N, 2]


def test_a_stopping_rule_is_replayed_as_best_of_asks_it() -> None:
    rules, rule = SelectionConfig(scorer=head()), stopping_rule("auto")
    replays = replay_questions(fresh()[:30], rules, n=N, stopping=rule, split="all")
    assert replays.n_drawn.min() >= 1
    assert replays.n_drawn.max() <= N
    assert replays.n_drawn.mean() < N
    assert len(replays) == 30


def test_what_cannot_be_certified_is_reported_in_numbers() -> None:
    calibrated = calibrate(head(), fresh(), risk=0.0001, n=N, split="all")
    assert calibrated.acceptance is None
    assert "takes 23025 right answers" in calibrated.reason
    hard = graded_groups(200, signal=0.0, seed=4, right=0.4)
    calibrated = calibrate(head(), hard, risk=0.02, n=N, split="all")
    assert calibrated.acceptance is None
    assert "are wrong" in calibrated.reason
    assert calibrated.head is head()


def test_the_promise_over_random_halves_counts_what_was_broken() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=800)
    right = rng.random(800) < 1 / (1 + np.exp(-3 - 2 * log_odds))
    empty = np.zeros(800, np.int64)
    guarantee = check_guarantee(
        ReplayOutcomes(log_odds=log_odds, correct=right, n_drawn=empty, tokens=empty), risk=0.1, n_splits=100
    )
    assert guarantee.violation_rate <= 0.1 + 3 * math.sqrt(0.09 / 100)
    assert guarantee.share_of_oracle > 0.15


def test_the_curve_of_a_cascade_ends_where_few_and_where_all_are_asked() -> None:
    rules = SelectionConfig(scorer=head())
    points = cascade_curve(fresh()[:40], rules, first_n=1, n=N, orders=2, points=5, resamples=50)
    few = cascade_curve(fresh()[:40], rules, first_n=N, n=N, orders=2, points=2, resamples=50)
    on = [point.asked_on for point in points]
    assert (on[0], on[-1]) == (0.0, 1.0)
    assert on == sorted(on)  # equal confidences are never told apart, so that steps may be missing
    assert points[-1].accuracy.value == few[0].accuracy.value
    assert points[-1].token_share.value == 1.0
    assert [points[index].above_line.value for index in (0, -1)] == pytest.approx([0.0, 0.0], abs=1e-12)
    shares = [point.token_share.value for point in points]
    assert shares == sorted(shares)


def test_a_head_comes_back_with_its_acceptances_and_one_without_has_none(tmp_path: Path) -> None:
    acceptances = (acceptance(1.5), acceptance(-2.25, n=1, stopping="auto", answer=None))
    save(replace(head(), acceptances=acceptances), tmp_path / "h")
    save(head(), tmp_path / "without")
    assert load(tmp_path / "h").acceptances == acceptances
    assert load(tmp_path / "without").acceptances == ()


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": math.inf},
        {"threshold": "1"},
        {"threshold": None},
        {"risk": 0.0},
        {"risk": 1.0},
        {"risk": math.nan},
        {"confidence": 2.0},
        {"n": 0},
        {"n": 10**5000},
        {"n": True},
        {"select": "all"},
        {"statistic": "mood"},
        {"accepted": 300},
        {"errors": -1},
        {"stopping": 3},
        {"questions": None},
    ],
)
def test_hostile_acceptances_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "h"
    save(replace(head(), acceptances=(acceptance(1.5),)), path)
    data = path.read_bytes()
    document = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts = json.loads(document["__metadata__"]["swift_client"])
    facts["acceptances"][0] |= {name: value for name, value in change.items() if name != "n" or value != 10**5000}
    text = json.dumps(facts)
    if change.get("n") == 10**5000:
        text = text.replace('"n": 4', '"n": 1' + "0" * 5000)
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load(data), {"swift_client": text}))
    with pytest.raises(ArtifactError):
        load(path)


@pytest.mark.parametrize("value", [{}, [1], "x", None, [{}]])
def test_acceptances_of_another_shape_are_refused(value: object, tmp_path: Path) -> None:
    path = tmp_path / "h"
    save(head(), path)
    data = path.read_bytes()
    facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["swift_client"])
    facts["acceptances"] = value
    tensors = safetensors.numpy.load(data)
    path.write_bytes(safetensors.numpy.save(tensors, {"swift_client": json.dumps(facts)}))
    with pytest.raises(ArtifactError):
        load(path)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=8))
        store.add_questions(
            StoredQuestion(id=group.question_id, messages=({"role": "user", "content": "?"},), answer="4")
            for group in fresh()
        )
        for group in fresh():
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
    return path


def test_the_command_writes_the_threshold_into_the_head_or_leaves_it_and_exits_with_3(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.safetensors"
    save(head(), path)
    plan = ["calibrate", str(path), str(samples), "--n", str(N), "--split", "all"]
    before = path.read_bytes()
    assert run([*plan, "--risk", "0.0001", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert "the head was not changed" in error["message"]
    assert path.read_bytes() == before
    assert run([*plan, "--risk", "0.2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert load(path).acceptances[0].to_dict() == {name: facts[name] for name in load(path).acceptances[0].to_dict()}
    assert run([*plan, "--risk", "0.2", "--out", str(tmp_path / "other")]) == 0
    assert "at most 20 % of the accepted answers are wrong" in " ".join(capsys.readouterr().out.split())
    assert load(tmp_path / "other").acceptances == load(path).acceptances


def test_wrong_arguments_of_calibrate_are_one_clear_error(samples: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ({"risk": 0.0}, "risk=0.0 must lie between"),
        ({"risk": 0.1, "confidence": 1.0}, "confidence=1.0 must lie between"),
        ({"risk": 0.1, "n": 99}, "has 99 completions"),
        ({"risk": 0.1, "split": "some"}, "no split 'some'"),
        ({"risk": 0.1, "stopping": "soon"}, "no stopping rule"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            training.calibrate(head(), samples, **{"split": "all", "n": N, **arguments})  # type: ignore[arg-type]
