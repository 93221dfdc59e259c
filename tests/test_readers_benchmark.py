"""``benchmarks/readers.py`` counts what it says it counts, on a made-up set whose figures are known by hand."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reading.labels import WRONG_LABELS, Corrections, Rule, load_corrections, parse_plain_number
from benchmarks.reading.pairs import KINDS, draw_pairs, measure_pairs
from benchmarks.reading.peers import accuracy_of, measure_peers, sample_questions
from benchmarks.reading.sets import (
    SET_ROWS,
    Recorded,
    RecordedQuestion,
    SetRow,
    Vote,
    is_readable,
    last_number,
    measure_set,
    parse_question,
    winner,
)
from benchmarks.reading.speed import SIZE, hostile_texts, milliseconds_per_question

ROW = SetRow(name="made_up", grader="number", target=0.9)


def write_set(path: Path, *questions: dict[str, Any]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(question) + "\n" for question in questions)
    return path


def recorded(text: str | None, label: bool | None, **fields: Any) -> dict[str, Any]:
    return {"text": text, "label": label, **fields}


@pytest.fixture
def two_questions(tmp_path: Path) -> Path:
    right, wrong = "#### 4", "#### 5"
    return write_set(
        tmp_path / "made_up.jsonl.gz",
        {
            "id": "a",
            "answer": 4,
            "completions": [recorded(right, True), recorded(wrong, False), recorded(right, False)],
        },
        {"id": "b", "answer": [7, 8], "completions": [recorded("#### 8", True), recorded(None, False)]},
    )


def test_agreement_is_the_share_of_labels_that_our_grade_repeats(two_questions: Path) -> None:
    result = measure_set(ROW, two_questions, Corrections(), show=5)
    assert result.n_labelled == 4  # the completion without a text is left out
    assert result.agreement["ours"] == result.recorded_agreement["ours"] == 3 / 4
    assert [(entry["id"], entry["index"], entry["read"]) for entry in result.disagreements] == [("a", 2, "4")]
    assert result.interval[0] < 3 / 4 < result.interval[1]
    assert result.margin == pytest.approx(-0.15)


def test_a_corrected_label_counts_for_the_bar_and_not_for_the_figure_as_recorded(two_questions: Path) -> None:
    result = measure_set(ROW, two_questions, Corrections(labels={("a", 2): True}))
    assert (result.agreement["ours"], result.recorded_agreement["ours"], result.n_corrected) == (1.0, 3 / 4, 1)


def test_a_label_that_the_reference_cannot_decide_is_left_out(two_questions: Path) -> None:
    result = measure_set(ROW, two_questions, Corrections(labels={("a", 2): None}))
    assert (result.agreement["ours"], result.n_labelled, result.n_left_out, result.n_corrected) == (1.0, 3, 1, 0)
    assert result.recorded_agreement["ours"] == 3 / 4


def test_a_rule_corrects_what_its_pattern_finds_and_a_single_label_wins_over_it() -> None:
    rule = Rule(pattern=re.compile(r"^(?P<value>\d+) apples$"), parse=parse_plain_number)
    corrections = Corrections(labels={("a", 1): None}, rules=[rule])
    assert corrections.label("a", 0, "5 apples", ["5.0"], False) is True
    assert corrections.label("a", 0, "6 apples", ["5.0"], True) is False
    assert corrections.label("a", 0, "about 6 apples", ["5.0"], True) is True  # not found: as recorded
    assert corrections.label("a", 0, "5 apples", ["five"], False) is False  # not comparable: as recorded
    assert corrections.label("a", 1, "5 apples", ["5.0"], False) is None
    assert corrections.label("a", 0, "5 apples", ["5.0"], None) is None  # no recorded label, nothing to correct


def test_the_list_of_wrong_labels_names_known_sets_and_gives_each_a_reason() -> None:
    document = json.loads(WRONG_LABELS.read_text(encoding="utf-8"))
    known = {row.name for row in SET_ROWS}
    assert load_corrections().keys() <= known
    places = [(entry["set"], entry["id"], index) for entry in document["labels"] for index in entry["indices"]]
    assert len(places) == len(set(places))
    for entry in document["labels"]:
        assert entry["right"] in (True, False, None)
        assert entry["reason"]
        assert len(entry.get("answer", "")) <= 40  # a quote of the value, not of the set
    for rule in document["rules"]:
        assert rule["reason"]
        assert rule["checked"] >= 8  # different texts that were read
        assert "value" in re.compile(rule["pattern"]).groupindex


def test_a_vote_is_right_where_the_first_member_of_the_largest_group_is(two_questions: Path) -> None:
    # Question a: 4 twice, 5 once; question b has one text, so there is no vote.
    assert measure_set(ROW, two_questions, Corrections()).vote_accuracy["ours, number"] == 1.0
    corrections = Corrections(labels={("a", 0): False})
    assert measure_set(ROW, two_questions, corrections).vote_accuracy["ours, number"] == 0.0


def test_only_texts_that_state_an_answer_can_be_left_unread(tmp_path: Path) -> None:
    stated, broken_off = "#### 4", "word " * 40 + "is 4 of the"
    completions = [recorded(stated, True, parsed="4"), recorded(broken_off, False, parsed="4")]
    result = measure_set(
        ROW, write_set(tmp_path / "s.gz", {"id": "a", "answer": 4, "completions": completions}), Corrections()
    )
    assert (result.unread, result.mute_questions) == (0.0, 0.0)
    mute = [recorded("It depends on many things that nobody knows. " * 3, True)]
    result = measure_set(
        ROW, write_set(tmp_path / "m.gz", {"id": "a", "answer": 4, "completions": mute}), Corrections()
    )
    assert (result.unread, result.mute_questions) == (1.0, 1.0)


def test_a_text_is_readable_by_the_recordings_own_account() -> None:
    assert is_readable(recorded("ans = 4", False, parsed=4.0))
    assert not is_readable(recorded("ans = ?", True, parsed=None))
    assert not is_readable(recorded("long text", True, parsed="long text " * 9))
    assert is_readable(recorded("4", True))
    assert not is_readable(recorded("4", False))


def test_a_set_may_say_by_a_pattern_which_texts_state_an_answer() -> None:
    row = {"id": "a", "answer": "yes", "completions": [recorded("It is. [Yes]", True), recorded("It is.", True)]}
    assert [entry.is_readable for entry in parse_question(row, r"\[Yes\]").completions] == [True, False]


def test_the_winner_is_the_largest_group_and_the_earlier_of_two_equal_ones() -> None:
    assert winner([None, 0, 1, 1]) == 2
    assert winner([1, 0, 0, 1]) == 0
    assert winner([None, None]) is None


@pytest.mark.parametrize(("text", "value"), [("It is 1,234.50.", 1234.5), ("3 - 5 = -2", -2.0), ("none", None)])
def test_the_last_number_is_read_as_plain_scripts_read_it(text: str, value: float | None) -> None:
    assert last_number(text) == value


def test_pairs_are_the_same_in_every_run_and_as_many_equal_as_different() -> None:
    pairs = list(draw_pairs(5, seed=3))
    assert pairs == list(draw_pairs(5, seed=3)) != list(draw_pairs(5, seed=4))
    for kind in KINDS:
        assert [pair.is_equal for pair in pairs if pair.kind == kind].count(True) == 5
        assert [pair.is_equal for pair in pairs if pair.kind == kind].count(False) == 5


def test_no_different_pair_is_written_alike() -> None:
    """Every value has its own writings, or the suite would call a right merge a false one."""
    assert not [pair for pair in draw_pairs(50) if not pair.is_equal and pair.left.lower() == pair.right.lower()]


def test_merges_are_counted_in_shares_of_their_kind() -> None:
    result = measure_pairs(2)
    assert 0 <= result.false_merges <= 1
    assert sum(result.false_by_kind.values()) == round(result.false_merges * result.n_different)
    assert sum(result.missed_by_kind.values()) == round(result.missed_merges * result.n_equal)


def test_hostile_texts_have_the_stated_length() -> None:
    assert {len(text) for text in hostile_texts().values()} == {SIZE}


def test_only_questions_of_16_answers_are_timed() -> None:
    assert milliseconds_per_question([["#### 4"] * 3], "auto") is None
    assert milliseconds_per_question([["#### 4"] * 16], "auto") is not None


def test_the_document_has_a_bar_per_figure_and_names_the_sets_that_are_missing(tmp_path: Path) -> None:
    write_set(tmp_path / "asdiv_gpt4_cot1.jsonl.gz", {"id": "a", "answer": 4, "completions": [recorded("4", True)]})
    command = [sys.executable, "benchmarks/readers.py", "--json", "--sets", str(tmp_path)]
    command += ["--set", "asdiv_gpt4_cot1", "--set", "date_gpt35_n40"]
    root = Path(__file__).parents[1]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    document = json.loads(finished.stdout)
    assert document["missing_sets"] == ["date_gpt35_n40"]
    assert document["bars"]["agreement"] == {
        "value": 1.0,
        "target": 0.985,
        "unit": "0-1, asdiv_gpt4_cot1",
        "interval": [1.0, 1.0],
    }
    assert document["bars"]["unread"]["value"] == 0.0


def test_a_peer_that_cannot_be_installed_is_a_line_and_not_a_failure(two_questions: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    result = measure_set(ROW, two_questions, Corrections())
    measure_peers([result], 10, in_the_way)
    assert set(result.peers) == {"math-verify", "its_hub", "scorio"}
    assert all(str(reason).startswith("not installed: ") for reason in result.peers.values())


def test_sampled_questions_are_spread_over_the_set_and_hold_about_the_limit() -> None:
    entry = Recorded(index=0, text="4", label=True, is_readable=True)
    questions = [RecordedQuestion(id=str(number), references=(), completions=(entry,) * 4) for number in range(100)]
    sampled = sample_questions(questions, 40)
    assert [question.id for question in sampled] == [str(number) for number in range(0, 100, 10)]
    assert sample_questions(questions, 1000) == questions


def test_a_peer_without_an_answer_is_judged_by_the_first_completion() -> None:
    vote = Vote(texts=["4", "5"], labels=[True, False], groups=[0, 1], scores=[None, None])
    assert accuracy_of([vote, vote], [-1, 1]) == 0.5
