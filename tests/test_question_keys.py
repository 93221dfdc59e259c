"""Keys of a questions file: misspelled ones are refused, and others counted, before money is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swift_client.cli.app import run
from swift_client.collect.collect import collect
from swift_client.dataset.questions import load_questions, read_questions
from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore
from tests.servers import FaultServer


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "prompt": f"{number} + 1?", **more}


def address(server: FaultServer) -> list[str]:
    return ["--provider", "openai-compatible", "--model", "m", "--base-url", server.url, "--n", "1"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("answr", "answer"),
        ("anwser", "answer"),
        ("answere", "answers"),
        ("Answer", "answer"),
        ("ANSWERS", "answers"),
        ("aswers", "answers"),
        ("anwers", "answers"),
        ("familiy", "family"),
        ("Family", "family"),
        ("level", None),
        ("idx", None),
        ("prompt_id", None),
        ("answer_type", None),
        ("answered", None),
        ("solution", None),
        ("source", None),
    ],
)
def test_a_key_that_is_almost_a_known_one_is_refused_and_any_other_is_ignored(
    key: str, meant: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path, line(0, answer="1", family="f"), line(1, **{key: "2"}))
    if meant is None:
        assert read_questions(path)[1].answer is None
        return
    with pytest.raises(ConfigurationError, match=f"line 2: the key '{key}' is unknown; did you mean '{meant}'"):
        read_questions(path)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ({"id": "a", "promt": "2 + 2?"}, "prompt"),
        ({"id": "a", "Prompt": "2 + 2?"}, "prompt"),
        ({"ID": "a", "prompt": "2 + 2?"}, "id"),
        ({"id": "a", "mesages": [{"role": "user", "content": "2 + 2?"}]}, "messages"),
    ],
)
def test_the_misspelling_is_named_before_what_is_missing(value: dict[str, Any], meant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        read_questions(write(tmp_path, value))


def test_a_key_like_one_that_the_line_has_is_no_misspelling(tmp_path: Path) -> None:
    loaded = load_questions(
        write(tmp_path, line(0, answer="1", answr="2", promp="x"), line(1, answers=["2"], anser="3"))
    )

    assert [question.answer for question in loaded.questions] == ["1", "2"]
    assert len(loaded.notes) == 1


def test_unknown_keys_and_missing_answers_are_counted(tmp_path: Path) -> None:
    lines = [line(i, level=i, **({"answer": i} if i else {}), **({"source": "x"} if i == 1 else {})) for i in range(3)]

    assert load_questions(write(tmp_path, *lines)).notes == (
        "Unknown keys are ignored: 'level' on 3 lines, 'source' on 1 line.",
        "1 of 3 questions have no answer: their completions cannot be graded until `swift-client grade` adds one.",
    )
    many = load_questions(write(tmp_path, line(0, answer="1", **{f"extra{i}": i for i in range(9)})))
    assert many.notes[0].endswith(", and 4 more.")
    assert load_questions(write(tmp_path, line(0, answer="1", family="f"))).notes == ()


def test_collect_refuses_a_misspelled_key_before_anything_is_sent(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    questions, out = write(tmp_path, line(0, answer="1"), line(1, answr="2")), tmp_path / "s.db"

    assert run(["collect", "--questions", str(questions), "--out", str(out), *address(fault_server)]) == 3
    assert "the key 'answr' is unknown; did you mean 'answer'?" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="did you mean"):
        collect(questions, out, provider="openai-compatible", model="m", base_url=fault_server.url)
    assert fault_server.requests == []
    assert not out.exists()


def test_collect_counts_before_the_first_request_and_says_it_once(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    questions = write(tmp_path, line(0, answer="1", level=3), line(1))
    command = ["collect", "--questions", str(questions), *address(fault_server)]

    assert run([*command, "--out", str(tmp_path / "a.db")]) == 0
    text = capsys.readouterr().err
    for words in ("Unknown keys are ignored: 'level' on 1 line.", "1 of 2 questions have no answer"):
        assert text.count(words) == 1
    assert run([*command, "--out", str(tmp_path / "b.db"), "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out)["notes"][0] == "Unknown keys are ignored: 'level' on 1 line."
    # Without a key nothing can be sent, and the counts are there all the same.
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(["collect", "--questions", str(questions), "--out", str(tmp_path / "c.db")]) == 3
    assert "1 of 2 questions have no answer" in capsys.readouterr().err


def test_in_python_the_result_has_the_counts(fault_server: FaultServer, tmp_path: Path) -> None:
    settings = {"provider": "openai-compatible", "model": "m", "base_url": fault_server.url, "n": 1}
    result = collect(write(tmp_path, line(0, level=3)), tmp_path / "s.db", **settings)

    assert result.notes[:1] == ("Unknown keys are ignored: 'level' on 1 line.",)


def test_grade_reads_the_keys_with_the_same_care(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "s.db"
    collect(
        write(tmp_path, line(0), line(1)), out, provider="openai-compatible", model="m", base_url=fault_server.url, n=1
    )

    assert run(["grade", str(out), "--questions", str(write(tmp_path, line(0, answer="1"), line(1, anser="2")))]) == 3
    assert run(["grade", str(out), "--questions", str(write(tmp_path, line(0, answer="1", level=2), line(1)))]) == 0
    assert "1 of 2 questions have no answer" in capsys.readouterr().err
    with SampleStore(out) as store:
        assert [question.answer for question in store.questions()] == ["1", None]
