"""Tests of the sequential test of drift: its false alarms, its delays, and what the guard reports."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest

from swift_client.errors import ConfigurationError
from swift_client.models import DriftProfile
from swift_client.monitoring import STATISTICS, DriftGuard, SequentialTest, build_profile, question_statistics
from swift_client.monitoring.alarm import Alarm
from swift_client.monitoring.model_state import BATCH
from swift_client.types import Completion

S = len(STATISTICS)


def draw(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Return rows of S dependent statistics, some of them discrete, rare, or constant."""
    normal = (rng.normal(size=(count, S)) + 0.7 * rng.normal(size=(count, 1))) / math.hypot(1, 0.7)
    normal[:, 1] = np.exp(normal[:, 1])
    normal[:, 2] = np.floor(2 * normal[:, 2])
    normal[:, 3] = normal[:, 3] > 1.5
    normal[:, 4] = 20.0
    normal[:, 5] = np.clip(np.round(2 * (normal[:, 5] + 1)), 0, 4) / 4
    normal[:, 6] = np.where(normal[:, 6] > 2.5, 0.1, 0.0)
    return normal


def sequential_test(reference: np.ndarray[Any, Any], **options: float) -> SequentialTest:
    profile = build_profile({1: reference})
    return SequentialTest(profile.edges[0], profile.counts[0], **options)


def alarms(test: SequentialTest, rows: np.ndarray[Any, Any], step: int = 16) -> list[tuple[int, int]]:
    """Return (question, statistic) of each alarm."""
    found = []
    for start in range(0, len(rows), step):
        end = min(start + step, len(rows))
        found += [(end, column) for column in test.update(rows[start:end])]
    return found


@pytest.mark.parametrize("is_pool", [False, True])
@pytest.mark.parametrize("n_reference", [50, 200, 1000])
def test_questions_like_the_reference_raise_at_most_the_stated_alarms(n_reference: int, is_pool: bool) -> None:
    """50,000 questions, new ones or a pool of as many as the reference, raise at most the 5 alarms of 1 per 10,000.

    In the mean over many runs they raise 0.2 per 10,000, so that 6 or more are a chance of about one in 1,500.
    """
    rng = np.random.default_rng(n_reference)
    test = sequential_test(draw(rng, n_reference))
    rows = draw(rng, n_reference)[rng.integers(n_reference, size=50_000)] if is_pool else draw(rng, 50_000)
    assert len(alarms(test, rows)) <= 5


def test_more_false_alarms_are_allowed_if_asked_for_and_stay_below_what_was_asked_for() -> None:
    rng = np.random.default_rng(7)
    count = sum(
        len(alarms(sequential_test(draw(rng, 300), questions_per_false_alarm=200), draw(rng, 10_000))) for _ in range(3)
    )
    assert 1 <= count <= 150


@pytest.mark.parametrize(("shift", "expected"), [(0.6, 77), (1.0, 30), (2.0, 12)])
def test_a_shift_is_found_about_when_theory_says(shift: float, expected: int) -> None:
    """The delay is (log threshold + log J) / (shift² / 2) to first order, for a tilt as large as the shift."""
    rng = np.random.default_rng(int(10 * shift))
    delays = []
    for _ in range(9):
        test = sequential_test(rng.normal(size=(400, S)))
        assert not alarms(test, rng.normal(size=(1000, S)))
        rows = rng.normal(size=(600, S))
        rows[:, 0] += shift
        delays.append(next((end for end, column in alarms(test, rows, step=4) if column == 0), 600))
    assert expected / 2 <= np.median(delays) <= 2 * expected


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_change_of_spread_alone_is_found(factor: float) -> None:
    rng = np.random.default_rng(8)
    test = sequential_test(rng.normal(size=(400, S)))
    assert not alarms(test, rng.normal(size=(1000, S)))
    rows = rng.normal(size=(300, S))
    rows[:, 3] *= factor
    found = alarms(test, rows)
    assert {column for _, column in found} == {3}
    assert found[0][0] <= 150


def test_a_value_that_never_occurred_is_found_after_a_few_questions() -> None:
    rng = np.random.default_rng(9)
    test = sequential_test(draw(rng, 300))
    assert not alarms(test, draw(rng, 500))
    rows = draw(rng, 40)
    rows[:, 4] = 5.0
    assert next(end for end, column in alarms(test, rows, step=1) if column == 4) <= 6


def test_an_alarm_ends_when_the_statistic_returns_and_not_before() -> None:
    rng = np.random.default_rng(10)
    test = sequential_test(rng.normal(size=(400, S)))
    changed = rng.normal(size=(3000, S))
    changed[:, 0] += 1.0
    assert [column for _, column in alarms(test, changed)] == [0]
    assert test.is_alarmed.tolist() == [True] + [False] * (S - 1)
    assert not alarms(test, rng.normal(size=(400, S)))
    assert not test.is_alarmed.any()


def test_a_small_lasting_difference_of_the_questions_is_absorbed() -> None:
    """A difference of 0.15 standard deviations, as between samples of a hundred questions, raises no alarm."""
    rng = np.random.default_rng(11)
    test = sequential_test(rng.normal(size=(300, S)))
    assert not alarms(test, rng.normal(size=(20_000, S)) + 0.15 * rng.choice([-1, 1], size=S))


def test_missing_values_change_nothing() -> None:
    rng = np.random.default_rng(12)
    reference, rows = draw(rng, 200), draw(rng, 640)
    rows[:, 0] += 0.4
    with_gaps = np.repeat(rows, 2, axis=0)
    with_gaps[::2] = np.nan
    one, other = sequential_test(reference), sequential_test(reference)
    alarms(one, rows)
    alarms(other, with_gaps)
    assert np.maximum(one.evidence, 1) == pytest.approx(np.maximum(other.evidence, 1), rel=1e-9)


def test_the_evidence_does_not_depend_on_how_many_questions_are_tested_at_once() -> None:
    rng = np.random.default_rng(13)
    reference, rows = draw(rng, 200), draw(rng, 320)
    one, other = sequential_test(reference), sequential_test(reference)
    alarms(one, rows, step=1)
    alarms(other, rows, step=32)
    assert one.evidence == pytest.approx(other.evidence, rel=1e-9)


def test_likelihood_ratios_have_the_mean_one_over_the_urn() -> None:
    """Each alternative's ratio, averaged over the cells' counts and the two outer halves, is 1: no drift of R."""
    rng = np.random.default_rng(14)
    reference = draw(rng, 200)
    values = [np.unique(reference[:, column]) for column in range(S)]
    for column in (0, 2, 3, 5):
        total = np.zeros(8)
        points = [(value, float(np.sum(reference[:, column] == value))) for value in values[column]]
        for value, weight in [*points, (-1e9, 0.5), (1e9, 0.5)]:
            row = np.full((1, S), np.nan)
            row[0, column] = value
            test = sequential_test(reference)
            test.update(row)
            total += weight * test._ratios[column]
        # The first question's R is the ratio itself, a thousandth forgotten.
        assert total / (len(reference) + 1) == pytest.approx(np.full(8, 0.999), rel=1e-9)


def test_a_statistic_that_is_always_the_same_raises_no_alarm() -> None:
    """The sum over all times of a change grows by one per question; what is forgotten keeps it at 1,000."""
    test = sequential_test(np.full((100, S), 20.0))
    rows = np.full((1000, S), 20.0)
    assert not any(test.update(rows) for _ in range(200))
    assert 500 < test.evidence.max() < 1001
    assert test.shares.max() < 0.01


# --- the guard


def completion(rng: np.random.Generator, index: int = 0, *, scale: float = 2.0) -> Completion:
    logits = rng.normal(size=(24, 20)) * scale
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    top = -np.sort(-logprobs, axis=1)[:, :5].astype(np.float32)
    return Completion(
        text="x" * int(rng.integers(40, 60)),
        index=index,
        tokens=("t",) * 24,
        logprobs=top[:, 0].copy(),
        top_logprobs=top,
        censored=np.zeros(24, np.bool_),
    )


def guard_of(rng: np.random.Generator, **options: Any) -> DriftGuard:
    rows = [question_statistics([completion(rng)]) for _ in range(200)]
    return DriftGuard(profile=build_profile({1: rows}, fingerprints=["gpt-1-0314"]), **options)


def ask(guard: DriftGuard, rng: np.random.Generator, count: int, **options: Any) -> list[Alarm]:
    scale = options.pop("scale", 2.0)
    found: list[Alarm] = []
    for _ in range(count):
        found += guard.observe([completion(rng, scale=scale)], provider="p", model="m", **options)
    return found


def test_a_guard_names_what_changed_and_stays_drifted() -> None:
    rng = np.random.default_rng(15)
    guard = guard_of(rng)
    assert not ask(guard, rng, 320)
    assert not guard.drifted("p", "m")
    found = ask(guard, rng, 160, scale=3.0)
    assert {"entropy", "margin"} <= {alarm.name for alarm in found}
    assert "entropy" in guard.drifted("p", "m")
    alarm = next(alarm for alarm in found if alarm.name == "entropy")
    assert alarm.kind == "statistic"
    assert alarm.before is not None
    assert alarm.after is not None
    assert alarm.after < alarm.before
    assert alarm.message.startswith("p/m no longer answers as in the reference: entropy changed from ")
    status = guard.status()[0]
    assert (status.questions, status.skipped) == (480, 0)
    assert "entropy" in status.drifted
    assert status.evidence["entropy"] == 1.0
    assert all(0 <= value <= 1 for value in status.evidence.values())


def test_models_are_told_apart() -> None:
    rng = np.random.default_rng(16)
    guard = guard_of(rng)
    ask(guard, rng, 160, scale=3.0)
    for _ in range(64):
        guard.observe([completion(rng)], provider="p", model="other")
    assert [bool(guard.drifted("p", name)) for name in ("m", "other", "unknown")] == [True, False, False]


def test_a_new_fingerprint_is_reported_once_and_changes_no_action() -> None:
    rng = np.random.default_rng(17)
    guard = guard_of(rng)
    assert not ask(guard, rng, 3, fingerprints=("gpt-1-0314",))
    found = ask(guard, rng, 3, fingerprints=("gpt-1-0613", "gpt-1-0314"))
    assert [(alarm.kind, alarm.name) for alarm in found] == [("fingerprint", "gpt-1-0613")]
    assert not guard.drifted("p", "m")
    assert guard.status()[0].fingerprints == ("gpt-1-0314", "gpt-1-0613")


def test_without_a_reference_of_names_the_first_ones_are_the_reference() -> None:
    rng = np.random.default_rng(18)
    rows = [question_statistics([completion(rng)]) for _ in range(40)]
    guard = DriftGuard(profile=build_profile({1: rows}))
    assert not ask(guard, rng, 1, fingerprints=("a", "fp_1"))
    assert [alarm.name for alarm in ask(guard, rng, 1, fingerprints=("b", "fp_1"))] == ["b"]


def test_a_question_with_too_few_completions_is_skipped() -> None:
    rng = np.random.default_rng(19)
    rows = [question_statistics([completion(rng, i) for i in range(4)]) for _ in range(40)]
    guard = DriftGuard(profile=build_profile({4: rows}))
    assert guard.observe([completion(rng)], provider="p", model="m", n=4) == ()
    assert guard.observe([completion(rng)], provider="p", model="m") == ()
    status = guard.status()[0]
    assert (status.questions, status.skipped) == (0, 2)


@pytest.mark.parametrize("change", [1.0, 2.0, -3.0])
def test_an_alarm_ends_soon_after_its_change_beside_a_small_lasting_difference(change: float) -> None:
    """Questions that differ by 0.2 standard deviations are normal, so that they must not keep an alarm alive."""
    ends = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        test = sequential_test(rng.normal(size=(400, S)))
        rows = rng.normal(size=(320 + 96 + 640, S)) + 0.2
        rows[320:416, 0] += change
        alarms(test, rows[:320])
        alarms(test, rows[320:416])
        assert test.is_alarmed[0]
        for end in range(432, len(rows), 16):
            test.update(rows[end - 16 : end])
            if not test.is_alarmed[0]:
                break
        ends.append(end - 416)
    assert np.median(ends) <= 96


def test_a_change_without_an_end_keeps_the_evidence_finite() -> None:
    rng = np.random.default_rng(26)
    test = sequential_test(rng.normal(size=(400, S)))
    alarms(test, rng.normal(size=(2000, S)) + 9.0)
    assert test.is_alarmed.all()
    assert test.evidence == pytest.approx(np.full(S, test.threshold * 100))
    test.update(rng.normal(size=(64, S)))
    assert not test.is_alarmed.any()


def test_a_reference_without_a_statistic_of_today_compares_nothing() -> None:
    rng = np.random.default_rng(23)
    profile = guard_of(rng).profile
    assert profile is not None
    unknown = replace(profile, statistics=tuple(f"later_{number}" for number in range(S)))
    unmeasured = replace(profile, counts=np.zeros_like(profile.counts))
    for reference in (unknown, unmeasured):
        guard = DriftGuard(profile=reference)
        assert not ask(guard, rng, 2 * BATCH)
        (status,) = guard.status()
        assert (status.questions, status.skipped, status.evidence) == (0, 2 * BATCH, {})


def test_a_question_that_waits_for_its_comparison_does_not_keep_its_answers_in_memory() -> None:
    rng = np.random.default_rng(24)
    guard = guard_of(rng)
    top = np.zeros((1000, 20), np.float32)
    answer = Completion(
        text="x",
        tokens=("t",) * 1000,
        logprobs=np.zeros(1000, np.float32),
        top_logprobs=top,
        censored=np.zeros(1000, np.bool_),
        hidden_states=np.zeros((1000, 64), np.float16),
    )
    kept = [weakref.ref(part) for part in (answer, top, answer.hidden_states)]
    guard.observe([answer], provider="p", model="m")
    del answer, top
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3
    (status,) = guard.status()
    assert status.questions == 1


def test_a_guard_refuses_a_second_reference_of_one_model() -> None:
    rng = np.random.default_rng(25)
    first, second = guard_of(rng).profile, guard_of(rng).profile
    assert first is not None
    assert second is not None
    guard = DriftGuard()
    guard.watch("p", "m", first)
    guard.watch("p", "m", DriftProfile.from_parts(first.facts(), first.tensors()))
    guard.watch("p", "other", second)
    with pytest.raises(ConfigurationError, match="p/m with the reference of another head"):
        guard.watch("p", "m", second)


def test_a_guard_without_a_profile_compares_nothing() -> None:
    assert DriftGuard().observe([Completion(text="a")], provider="p", model="m") == ()
    assert DriftGuard().status() == ()


@pytest.mark.parametrize(
    "options", [{"action": "panic"}, {"profile": "head"}, {"questions_per_false_alarm": 0}, {"action": True}]
)
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        DriftGuard(**options)


def test_threads_lose_no_question() -> None:
    rng = np.random.default_rng(20)
    guard = guard_of(rng)
    prepared = [completion(rng) for _ in range(8 * 10 * BATCH)]

    def observe(part: list[Completion]) -> None:
        for one in part:
            guard.observe([one], provider="p", model="m")

    size = 10 * BATCH
    parts = [prepared[start : start + size] for start in range(0, len(prepared), size)]
    threads = [Thread(target=observe, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.status()[0].questions == len(prepared)
