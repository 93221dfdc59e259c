"""The benchmark of drift: changed weights, replayed tests, moves and the recorded answers, checked by hand."""

from __future__ import annotations

import gzip
import json
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the package 'gguf' is not installed")

import gguf

from benchmarks.drift import SMALL, Counts, bars, measure, moves
from benchmarks.drift_parts import primes
from benchmarks.drift_parts.conditions import MODELS, POCKET_LINES, SAME, conditions, question_sets
from benchmarks.drift_parts.draw import draw, reduced
from benchmarks.drift_parts.observed import Observed
from benchmarks.drift_parts.streams import (
    LONGEST,
    FalseAlarms,
    count_false_alarms,
    detect,
    profile_of,
    split_false_alarms,
)
from benchmarks.drift_parts.weights import TEMPLATE, write_changed
from swift_client.features.segments import F64
from swift_client.monitoring import STATISTICS, DriftGuard, question_statistics
from swift_client.pocket.weights import find_weights
from swift_client.types import Completion

SETTINGS = {"streams": 20, "per_false_alarm": 10_000.0}
LENGTH = list(STATISTICS).index("characters")


def rows(count: int, *, longer: float = 0.0, seed: int = 0) -> F64:
    """Draw questions of which only the length of the answers is known."""
    values = np.full((count, len(STATISTICS)), np.nan)
    values[:, LENGTH] = np.random.default_rng(seed).normal(100 + longer, 10, count)
    return values


def test_a_file_with_coarser_weights_differs_by_at_most_a_step_and_keeps_everything_else(tmp_path: Path) -> None:
    write_changed(find_weights(), tmp_path / "new.gguf", quantization="Q4_0")

    old, new = gguf.GGUFReader(find_weights()), gguf.GGUFReader(tmp_path / "new.gguf")

    assert {name: field.contents() for name, field in old.fields.items() if name != "GGUF.tensor_count"} == {
        name: field.contents() for name, field in new.fields.items() if name != "GGUF.tensor_count"
    }
    kinds = Counter(tensor.tensor_type.name for tensor in new.tensors)
    assert kinds["Q4_0"] == 6 * 7  # seven matrices per layer; vectors and the embedding stay
    for before, after in zip(old.tensors, new.tensors, strict=True):
        assert before.name == after.name
        one, two = (gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in (before, after))
        if after.tensor_type.name != "Q4_0":
            assert np.array_equal(one, two)
            continue
        # Sixteen steps from the largest weight of each block of 32 to its opposite, less one.
        blocks = one.reshape(-1, 32).astype(np.float64)
        step = np.abs(blocks).max(axis=1, keepdims=True) / 8
        assert (np.abs(blocks - two.reshape(-1, 32)) <= 1.01 * step).all()


def test_a_file_with_another_template_has_the_same_weights(tmp_path: Path) -> None:
    write_changed(find_weights(), tmp_path / "new.gguf", template=POCKET_LINES)

    old, new = gguf.GGUFReader(find_weights()), gguf.GGUFReader(tmp_path / "new.gguf")

    assert new.fields[TEMPLATE].contents() == POCKET_LINES != old.fields[TEMPLATE].contents()
    assert all(one.data.tobytes() == two.data.tobytes() for one, two in zip(old.tensors, new.tensors, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_later_questions_are_in_no_reference(model: str) -> None:
    sets = question_sets(model, 60, 80)  # type: ignore[arg-type]

    ids = [question.id for question in (*sets.reference, *sets.later)]

    assert len(set(ids)) == len(ids) == 140
    assert len({condition.name for condition in conditions(model)}) == len(conditions(model))  # type: ignore[arg-type]


def test_a_condition_leaves_fewer_alternatives_or_decimals() -> None:
    completion = Completion(
        text="yes",
        tokens=("yes",),
        logprobs=np.array([-0.1234], np.float32),
        censored=np.zeros(1, bool),
        top_logprobs=np.array([[-0.1234, -2.3456, *[-5.0] * 18]], np.float32),
    )
    by_name = {condition.name: condition for condition in conditions("pocket")}

    few = reduced(completion, by_name["5 alternatives per token"])
    rounded = reduced(completion, by_name["logprobs with 2 decimals"])

    assert few.top_logprobs.shape == (1, 5)
    assert rounded.top_logprobs[0, :2].tolist() == pytest.approx([-0.12, -2.35])
    assert rounded.logprobs.tolist() == pytest.approx([-0.12])


def test_a_large_change_is_detected_in_every_stream_and_none_is_not() -> None:
    profile = profile_of(rows(300), 4)

    changed = detect(profile, rows(240, longer=30, seed=1), **SETTINGS)
    same = detect(profile, rows(240, seed=2), **SETTINGS)

    assert changed.quantile(1.0) <= 32
    assert set(changed.names) == {"characters"}
    assert same.to_dict() == {
        "median": None,
        "95_percent": None,
        "worst": None,
        "detected": 0.0,
        "statistics": {},
    }


def test_replayed_rows_raise_the_alarm_at_the_question_at_which_the_guard_does() -> None:
    rng = np.random.default_rng(0)

    def ask(low: int, count: int) -> list[list[Completion]]:
        return [[Completion(text="x" * int(size)) for size in rng.integers(low, 50, 4)] for _ in range(count)]

    known, later = ask(10, 100), ask(35, 96)
    profile = profile_of(np.array([question_statistics(completions) for completions in known]), 4)
    guard, alarm_at = DriftGuard(profile=profile), None
    order = np.random.default_rng(0).integers(0, 96, LONGEST)  # the first stream of ``detect``
    for number, index in enumerate(order, 1):
        alarms = guard.observe(later[index], provider="openai", model="m")
        if alarms and alarm_at is None:
            alarm_at = number

    replayed = detect(
        profile,
        np.array([question_statistics(completions) for completions in later]),
        streams=1,
        per_false_alarm=guard.questions_per_false_alarm,
    )

    assert alarm_at is not None
    assert replayed.counts.tolist() == [alarm_at]


def test_false_alarms_are_counted_over_all_questions_and_references() -> None:
    drawn = rows(400, seed=3)

    quiet = split_false_alarms(drawn, 4, splits=2, reference=200, questions=4_000, per_false_alarm=10_000)
    # With one alarm allowed per question nearly every evidence is enough.
    loud = count_false_alarms(profile_of(drawn, 4), drawn, questions=4_000, per_false_alarm=1)

    assert (quiet.alarms, quiet.questions) == (0, 4_000)
    assert loud.alarms == sum(loud.names.values()) > 3
    assert loud.per_10000 == pytest.approx(2.5 * loud.alarms)


def test_a_change_has_moved_something_if_its_interval_excludes_nothing() -> None:
    before = Observed(rows(100), right=np.full(100, 0.75), accepted=np.ones(100))
    after = Observed(rows(100), right=np.full(100, 0.5), accepted=np.ones(100))

    assert moves(before, after) == {"accuracy": [-25.0] * 3, "accepted": [0.0] * 3, "moved": True}
    assert not moves(before, before)["moved"]


def test_the_bar_is_the_slowest_change_that_moved_something() -> None:
    def change(moved: bool, most: int | None) -> dict[str, object]:
        found = {"median": 32, "95_percent": most, "worst": None}
        return {"moved": moved, "questions": found}

    def model(*changes: dict[str, object]) -> dict[str, object]:
        counted = {"one reference": FalseAlarms(2, 40_000, Counter())}
        return {"changes": changes, "false_alarms": counted, "microseconds_per_question": 7.0}

    result = bars({"pocket": model(change(True, 48), change(False, None)), "smollm2": model(change(True, 112))})
    missed = bars({"pocket": model(change(True, 48), change(True, None))})

    assert (result["detected_within"]["value"], missed["detected_within"]["value"]) == (112, None)
    assert result["false_alarms_per_10000"]["value"] == 0.5
    # Exact interval of a Poisson mean with 2 events: 0.2422 to 7.2247.
    assert result["false_alarms_per_10000"]["interval"] == pytest.approx([0.2422 / 4, 7.2247 / 4], abs=1e-3)


def test_recorded_answers_are_compared_by_month(tmp_path: Path) -> None:
    assert primes.measure(tmp_path, **SETTINGS) is None
    with gzip.open(tmp_path / primes.FILE, "wt") as file:
        for number in range(240):
            completions = [
                {"model": f"openaichat/gpt-4-{day}", "text": text, "label": day == "0314"}
                for day, text in (("0314", f"Step {'by step ' * (20 + number % 7)}\n[Yes]"), ("0613", "[No]"))
            ]
            file.write(json.dumps({"id": str(number), "completions": completions}) + "\n")

    (changes,) = (primes.measure(tmp_path, **SETTINGS) or {}).values()

    assert changes["accuracy_points"] == -100.0
    assert (changes["worst"], changes["unchanged_detected"], changes["false_alarms_per_10000"]) == (16, 0.0, 0.0)


def test_answers_are_drawn_once_in_the_order_of_the_questions(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    questions = question_sets("pocket", 3, 3).later

    drawn = draw("pocket", SAME, questions, 2, tmp_path, seed=2)
    changed_at = (tmp_path / "pocket_same.db").stat().st_mtime_ns
    again = draw("pocket", SAME, questions[::-1], 2, tmp_path, seed=2)

    assert [group.question_id for group in drawn] == [question.id for question in questions]
    assert [group.question_id for group in again] == [question.id for question in questions[::-1]]
    assert all(len(group.completions) == 2 and not np.isnan(group.labels).any() for group in drawn)
    assert (tmp_path / "pocket_same.db").stat().st_mtime_ns == changed_at


def test_everything_is_measured_from_a_few_questions(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    few = replace(SMALL, counts={"pocket": Counts(30, 30, 30)}, live=2, streams=2, undrifted=320)

    document = measure(Namespace(folder=tmp_path, sets=tmp_path), few)

    assert document["bars"].keys() == {"detected_within", "false_alarms_per_10000", "microseconds_per_question"}
    same, change = document["models"]["pocket"]["changes"]
    assert (same["change"], same["accuracy"], same["moved"]) == ("nothing", [0.0] * 3, False)
    assert change["change"] == "temperature 1"
    # A higher temperature draws more wrong answers, here and there a right one.
    assert change["accuracy"][0] < 10
    assert document["bars"]["microseconds_per_question"]["value"] > 0
    assert document["models"]["pocket"]["live_alarms"] == {"questions": 2, "alarms": []}
    assert document["primes_drift"] is None
    json.dumps(document, allow_nan=False)
