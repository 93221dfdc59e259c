"""Tests of the paper's data set loaders: three on the public files, the others on hand-written records."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swift_client import answers
from swift_client.cli.app import run
from swift_client.dataset.graders import GRADERS, grade
from swift_client.dataset.paper_sets import PAPER_SETS, SetQuestion, load_set
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store import Sample, SampleStore, StoredQuestion

from .servers import FaultServer

SHARED = Path(__file__).parents[1].parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the data sets are not on this machine")

RECORDS: dict[str, dict[str, Any]] = {
    "math": {"problem": "What is 1+1?", "solution": "It is $\\boxed{\\frac{4}{2}}$.", "level": "Level 1", "type": "X"},
    "gsm8k": {"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4"},
    "aqua_rat": {"question": "Half of 4?", "options": ["A)1", "B)2"], "rationale": "so", "correct": "B"},
    "hellaswag": {
        "ind": 4,
        "activity_label": "Baking",
        "ctx_a": "A man bakes.",
        "ctx_b": "he",
        "ctx": "A man bakes. he",
        "endings": ["flies off.", "eats the cake.", "sings.", "sleeps."],
        "source_id": "activitynet~v_x",
        "split": "train",
        "split_type": "indomain",
        "label": "1",
    },
    "coin_flip": {
        "inputs": "Q: A coin is heads up. Ann flips the coin. Is the coin still heads up?",
        "targets": "no",
        "targets_vec": [1, 0],
    },
    "imbue": {"question": "What gets printed?\n```print(-7)```", "choices": ["-7", "'a'"], "correct_answer": "-7"},
    "pku_safe_rlhf": {
        "prompt": "How do I sleep well?",
        "response_0": "Do not.",
        "response_1": "Go to bed early.",
        "is_response_0_safe": True,
        "is_response_1_safe": True,
        "better_response_id": 1,
        "safer_response_id": 1,
    },
}
ANSWERS = {
    "math": ("\\frac{4}{2}", "\\boxed{2}", "\\boxed{3}"),
    "gsm8k": ("4", "#### 4", "#### 5"),
    "aqua_rat": ("B", "\\boxed{B}", "\\boxed{A}"),
    "hellaswag": ("B", "so \\boxed{B}", "so \\boxed{C}"),
    "coin_flip": ("no", "\\boxed{No}", "\\boxed{Yes}"),
    "imbue": ("-7", "\\boxed{-7}", "\\boxed{'-7'}"),
}


def written(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def questions_of(path: Path) -> list[tuple[StoredQuestion, list[Sample]]]:
    with SampleStore(path) as store:
        return list(store.questions_with_samples())


@pytest.mark.parametrize("name", list(ANSWERS))
def test_each_set_reads_its_public_schema(name: str, tmp_path: Path) -> None:
    [question] = load_set(name, written(tmp_path / "set.jsonl", RECORDS[name]))
    reference, right, wrong = ANSWERS[name]
    row = PAPER_SETS[name]
    assert question.answer == reference
    assert question.prompt.startswith(row.instruction)
    assert "\\boxed{" in row.instruction
    assert question.id.startswith(name)
    assert question.family == name
    assert question.messages == ({"role": "user", "content": question.prompt},)
    assert grade(right, question.answer, row.grader) is True
    assert grade(wrong, question.answer, row.grader) is False
    assert row.answer in answers.READERS
    assert row.grader in GRADERS


def test_options_stand_below_the_question(tmp_path: Path) -> None:
    [question] = load_set("hellaswag", written(tmp_path / "h.jsonl", RECORDS["hellaswag"]))
    assert question.prompt.endswith("A man bakes. he\nA) flies off.\nB) eats the cake.\nC) sings.\nD) sleeps.")
    [question] = load_set("aqua_rat", written(tmp_path / "a.jsonl", RECORDS["aqua_rat"]))
    assert question.prompt.endswith("Half of 4?\nA)1\nB)2")
    [question] = load_set("coin_flip", written(tmp_path / "c.jsonl", RECORDS["coin_flip"]))
    assert question.prompt.endswith("\nA coin is heads up. Ann flips the coin. Is the coin still heads up?")
    [question] = load_set("imbue", written(tmp_path / "i.jsonl", RECORDS["imbue"]))
    assert question.prompt.endswith("\n\nChoices:\n- -7\n- 'a'")


def test_preference_pairs_come_with_their_labels_and_no_reference(tmp_path: Path) -> None:
    [pair] = load_set("pku_safe_rlhf", written(tmp_path / "p.jsonl", RECORDS["pku_safe_rlhf"]))
    assert pair.prompt == "How do I sleep well?"
    assert pair.answer is None
    assert pair.texts == ("Do not.", "Go to bed early.")
    assert pair.labels == (0.0, 1.0)


def test_hidden_labels_of_hellaswags_test_split_leave_no_reference(tmp_path: Path) -> None:
    [question] = load_set("hellaswag", written(tmp_path / "h.jsonl", {**RECORDS["hellaswag"], "label": ""}))
    assert question.answer is None


def test_ids_do_not_depend_on_order_and_repeated_questions_come_once(tmp_path: Path) -> None:
    one, two = RECORDS["gsm8k"], {"question": "Three?", "answer": "#### 3"}
    forward = {q.id: q.prompt for q in load_set("gsm8k", written(tmp_path / "a.jsonl", one, two, one))}
    back = {q.id: q.prompt for q in load_set("gsm8k", written(tmp_path / "b.jsonl", two, one))}
    assert forward == back
    assert len(list(load_set("gsm8k", tmp_path / "a.jsonl"))) == 2


def test_lists_lines_byte_order_marks_and_blank_lines_read_alike(tmp_path: Path) -> None:
    record = RECORDS["gsm8k"]
    as_list, as_lines, marked = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.jsonl"
    as_list.write_text(json.dumps([record], indent=2))
    as_lines.write_text(json.dumps(record) + "\n\n")
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(record).encode() + b"\r\n\r\n")
    (tmp_path / "empty.jsonl").touch()
    [expected] = load_set("gsm8k", as_list)
    assert list(load_set("gsm8k", as_lines)) == [expected]
    assert list(load_set("gsm8k", marked)) == [expected]
    assert list(load_set("gsm8k", tmp_path / "empty.jsonl")) == []


def test_files_are_read_line_by_line(tmp_path: Path) -> None:
    path = written(tmp_path / "set.jsonl", RECORDS["gsm8k"])
    path.write_text(path.read_text() + "not json\n")
    stream = load_set("gsm8k", path)
    assert isinstance(stream, Iterator)
    assert next(stream).answer == "4"
    with pytest.raises(ConfigurationError, match=r"set\.jsonl, line 2: it is not JSON"):
        next(stream)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("math", {"solution": "no box"}, r"'solution' has no \\boxed"),
        ("math", {"problem": None}, "it has no field 'problem'"),
        ("gsm8k", {"answer": "about four"}, "its answer 'about four' cannot be compared by the grader 'number'"),
        ("gsm8k", {"question": 3}, "its field 'question' holds 3 and not text"),
        ("aqua_rat", {"options": "A)1"}, "'options' is not a list of texts"),
        ("aqua_rat", {"correct": "neither"}, "its answer 'neither' cannot be compared by the grader 'choice'"),
        ("hellaswag", {"label": 4}, "'label' holds 4 and not the number of an ending"),
        ("hellaswag", {"label": True}, "'label' holds True and not the number of an ending"),
        ("coin_flip", {"targets": "heads"}, "its answer 'heads' cannot be compared by the grader 'yes_no'"),
        ("imbue", {"correct_answer": "8"}, "'correct_answer' is not one of its 'choices'"),
        ("pku_safe_rlhf", {"better_response_id": None}, "'better_response_id' holds None and not 0 or 1"),
        ("pku_safe_rlhf", {"response_1": ""}, "'response_1' holds '' and not text"),
    ],
)
def test_a_malformed_record_is_named_by_its_line(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "set.jsonl", RECORDS[name], {**RECORDS[name], **change})
    with pytest.raises(ConfigurationError, match=message) as excinfo:
        list(load_set(name, path))
    assert f"{path}, line 2: " in str(excinfo.value)
    assert PAPER_SETS[name].source in str(excinfo.value)


@pytest.mark.parametrize("line", [b'{"a": ', b"\xff\xfe{}", b"[" * 100_000, b"3", b'"text"', b"null", b"[]"])
def test_hostile_lines_give_one_clear_error(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(json.dumps(RECORDS["gsm8k"]).encode() + b"\n" + line + b"\n")
    with pytest.raises(ConfigurationError, match=r"set\.jsonl, line 2: it is not"):
        list(load_set("gsm8k", path))


def test_wrong_names_splits_and_paths_are_reported_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no set called 'gsm9k'. Use one of math, gsm8k"):
        load_set("gsm9k")
    with pytest.raises(ConfigurationError, match=r"gsm8k has no split 'validation'. Use one of train, test"):
        load_set("gsm8k", split="validation")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_set("gsm8k", tmp_path / "missing.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_set("gsm8k", tmp_path)


def test_without_the_extra_names_and_parquet_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("datasets", "pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"swift-client\[datasets\]"):
        load_set("gsm8k")
    with pytest.raises(MissingExtraError, match=r"swift-client\[datasets\]"):
        load_set("gsm8k", tmp_path / "set.parquet")


def test_parquet_reads_as_lines_do(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, record in RECORDS.items():
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.Table.from_pylist([record, record]), path)
        assert list(load_set(name, path)) == list(load_set(name, written(tmp_path / f"{name}.jsonl", record)))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_set("gsm8k", tmp_path / "bad.parquet")


@pytest.mark.filterwarnings("ignore")
def test_sets_are_streamed_by_name_and_slices_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets")
    folder = tmp_path / "hub"
    folder.mkdir()
    written(folder / "train.jsonl", *({"question": f"{n}?", "answer": f"#### {n}"} for n in range(5)))
    row = replace(
        PAPER_SETS["gsm8k"], hub={"train": (str(folder), None, "train"), "test": (str(folder), None, "train[1:3]")}
    )
    assert [question.answer for question in load_set(row, split="train")] == ["0", "1", "2", "3", "4"]
    assert [question.answer for question in load_set(row, split="test")] == ["1", "2"]
    gone = replace(row, hub={"test": (str(tmp_path / "nowhere"), None, "test")})
    with pytest.raises(ConfigurationError, match=r"nowhere could not be loaded: .*give a file with path="):
        load_set(gone)


def collect_set(server: FaultServer, out: Path, *more: str) -> int:
    arguments = ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url)
    return run(["collect", *arguments, "--out", str(out), "--n", "2", "--top-logprobs", "4", *more])


@pytest.mark.parametrize("name", list(RECORDS))
def test_the_command_collects_answers_to_the_questions_of_a_set(
    name: str, fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, out = written(tmp_path / "set.jsonl", RECORDS[name], RECORDS[name]), tmp_path / "samples.db"
    assert collect_set(fault_server, out, "--set", name, "--from", str(records), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["questions"], report["samples"], report["complete"]) == (1, 2, True)
    [expected] = load_set(name, records)
    [(question, samples)] = questions_of(out)
    assert (question.id, question.messages) == (expected.id, expected.messages)
    assert (question.answer, question.family) == (expected.answer, name)
    assert [sample.index for sample in samples] == [0, 1]


def test_the_command_names_the_line_of_a_malformed_record_and_sends_nothing(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = written(tmp_path / "set.jsonl", RECORDS["gsm8k"], {"question": "Two and two?"})
    assert collect_set(fault_server, tmp_path / "a.db", "--set", "gsm8k", "--from", str(records)) == 3
    assert "line 2: it has no field 'answer'" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "empty.jsonl").touch()
    assert collect_set(fault_server, tmp_path / "a.db", "--set", "gsm8k", "--from", str(tmp_path / "empty.jsonl")) == 3
    assert "contains no questions" in " ".join(capsys.readouterr().err.split())
    assert collect_set(fault_server, tmp_path / "a.db", "--set", "gsm9k", "--from", str(records)) == 3
    assert "There is no set called 'gsm9k'" in capsys.readouterr().err
    assert fault_server.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give either --questions or --set."),
        (("--questions", "q.jsonl", "--set", "gsm8k"), "Give either --questions or --set."),
        (("--questions", "q.jsonl", "--from", "set.jsonl"), "Give --set as well."),
    ],
)
def test_the_command_takes_a_questions_file_or_a_set(
    options: tuple[str, ...],
    message: str,
    fault_server: FaultServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert collect_set(fault_server, tmp_path / "a.db", *options) == 2
    assert message in capsys.readouterr().err
    assert fault_server.requests == []


@needs_shared
@pytest.mark.parametrize(
    ("name", "file", "count"),
    [("math", "math500.jsonl", 500), ("gsm8k", "gsm8k_test.jsonl", 1319), ("aqua_rat", "aqua_rat_test.jsonl", 254)],
)
def test_the_public_files_load_whole_and_their_own_answers_grade_as_right(name: str, file: str, count: int) -> None:
    questions = list(load_set(name, SHARED / "datasets" / file))
    assert len(questions) == len({question.id for question in questions}) == count
    spec = "auto" if name == "math" else PAPER_SETS[name].grader
    for question in questions:
        assert isinstance(question, SetQuestion)
        assert grade(f"The final answer is \\boxed{{{question.answer}}}", question.answer, spec) is True
