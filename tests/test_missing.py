"""Missing files, keys and extras: every command says so in one line and a hint, at once, and sends nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer

from swift_client.cli.app import app, run
from swift_client.store import SampleStore
from tests.children import ROOT, python
from tests.servers import FaultServer

FILES = ROOT / "tests" / "face" / "files"
SERVER = ("--provider", "openai-compatible", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
MISSING_FILES = [
    ("best-of hi --messages no.json", 2, "No such file"),
    ("best-of --messages no.json", 2, "No such file"),
    ("best-of hi --schema no.json", 2, "No such file"),
    ("best-of hi --head no.safetensors", 3, "The head no.safetensors cannot be read"),
    ("best-of hi --store no/s.db", 3, "no/s.db cannot be written"),
    ("rank no.json", 2, "No such file"),
    ("rank --samples no.db --out o.jsonl", 3, "There is no file no.db"),
    ("rank --replies no.jsonl --out o.jsonl", 3, "There is no file no.jsonl"),
    ("rank --samples samples.db --out no/o.jsonl", 3, "no/o.jsonl cannot be written"),
    ("prune no.db --older-than 30d", 3, "There is no samples file no.db"),
    ("collect --questions no.jsonl --out s.db", 3, "The questions no.jsonl cannot be read"),
    ("collect --questions q.jsonl --out no/s.db", 3, "no/s.db cannot be opened"),
    ("collect --questions q.jsonl --out s.db --replies no.jsonl", 3, "The replies no.jsonl cannot be read"),
    ("collect --questions q.jsonl --out s.db --parquet no/x.parquet", 3, "no/x.parquet cannot be written"),
    ("collect --set gsm8k --from no.jsonl --out s.db", 3, "no.jsonl cannot be read"),
    ("grade no.db", 3, "There is no samples file no.db"),
    ("grade samples.db --questions no.jsonl", 3, "The questions no.jsonl cannot be read"),
    ("feedback no.db abc --correct", 3, "There is no samples file no.db"),
    ("feedback samples.db abc --correct", 3, "samples.db has no selection 'abc'"),
    ("drift no.db", 3, "There is no samples file no.db"),
    ("drift samples.db --head no.safetensors", 3, "The head no.safetensors cannot be read"),
    ("drift samples.db --svg no/x.svg", 3, "no/x.svg cannot be written"),
    ("train no.db --out h", 3, "There is no samples file no.db"),
    ("train samples.db --out no/h", 3, "no/h cannot be written"),
    ("calibrate no.safetensors samples.db --risk 0.1", 3, "The head no.safetensors cannot be read"),
    ("calibrate head.safetensors no.db --risk 0.1", 3, "There is no samples file no.db"),
    ("evaluate no.safetensors samples.db", 3, "The head no.safetensors cannot be read"),
    ("evaluate head.safetensors no.db", 3, "There is no samples file no.db"),
    ("report no.safetensors samples.db --out r.html", 3, "The head no.safetensors cannot be read"),
    ("report head.safetensors no.db --out r.html", 3, "There is no samples file no.db"),
    ("report head.safetensors samples.db --out no/r.html", 3, "no/r.html cannot be written"),
    ("simulate no.db", 3, "There is no samples file no.db"),
    ("simulate samples.db --head no.safetensors", 3, "The head no.safetensors cannot be read"),
    ("simulate samples.db --svg no/x.svg", 3, "no/x.svg cannot be written"),
    ("retrain no.db --head head.safetensors", 3, "There is no samples file no.db"),
    ("retrain samples.db --head no.safetensors", 3, "The head no.safetensors cannot be read"),
    ("retrain samples.db --head head.safetensors --out no/h", 3, "no/h cannot be written"),
    ("rollback no.safetensors", 3, "No earlier head is kept beside no.safetensors"),
    ("rollback no/no.safetensors", 3, "There is no head no/no.safetensors"),
    ("probe no.db", 3, "There is no samples file no.db"),
    ("curve no.db", 3, "There is no samples file no.db"),
    ("curve samples.db --test no.db", 3, "There is no samples file no.db"),
    ("curve samples.db --over n --head no.safetensors", 3, "The head no.safetensors cannot be read"),
]
MISSING_KEYS = ["best-of hi", "collect --questions q.jsonl --out s.db", "doctor", "doctor --canary"]
MISSING_EXTRAS = [
    ("train samples.db --out h", "torch", "train"),
    ("curve samples.db --n 2", "torch", "train"),
    ("probe samples.db", "sklearn", "train"),
    ("evaluate head.safetensors samples.db", "sklearn", "train"),
    ("report head.safetensors samples.db --out r.html", "jinja2", "cli"),
    ("collect --questions q.jsonl --out s.db --provider pocket --parquet x.parquet", "pyarrow", "parquet"),
    ("collect --set gsm8k --out s.db", "datasets", "datasets"),
    ("best-of hi --provider huggingface --model x", "transformers", "local"),
    ("best-of hi --provider pocket --schema q.jsonl", "jsonschema", "schema"),
    ("grade samples.db --grade math", "math_verify", "math"),
    ("best-of hi --provider pocket --store redis://127.0.0.1:1/0", "redis", "redis"),
    ("best-of hi", "rich", "cli"),
]
WITHOUT_FILES_AND_KEYS = {"demo", "providers", "plan", "serve"}  # serve: tests/test_serve_config.py


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("samples.db", "samples.db.states", "head.safetensors"):
        shutil.copy(FILES / name, tmp_path)
    (tmp_path / "q.jsonl").write_text('{"id": "a", "prompt": "2 + 2?", "answer": "4"}\n')
    return tmp_path


@pytest.mark.parametrize(("line", "code", "words"), MISSING_FILES, ids=[line for line, _, _ in MISSING_FILES])
def test_a_missing_file_is_one_line_and_a_hint(
    line: str, code: int, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = line.split()
    extra = SERVER if arguments[0] in ("best-of", "collect") and "--replies" not in arguments else ()

    assert run([*arguments, *extra]) == code
    text = capsys.readouterr()
    assert text.out == ""
    lines = text.err.splitlines()
    assert len(lines) == 2, text.err
    assert words in lines[0]
    assert not (tmp_path / "s.db").exists()


@pytest.mark.parametrize("line", MISSING_KEYS)
def test_a_missing_key_is_one_line_and_a_hint(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert run([*line.split(), "--quiet"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "There is no API key for provider 'openai'.",
        "Set OPENAI_API_KEY, or pass --api-key-env.",
    ]


@pytest.mark.parametrize(("line", "module", "extra"), MISSING_EXTRAS, ids=[line for line, _, _ in MISSING_EXTRAS])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    line: str, module: str, extra: str, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from swift_client.cli import main; main()"
    result = python("-W", "ignore", "-c", code, *line.split(), cwd=tmp_path, PYTHONWARNINGS="default")

    text = result.stderr.decode()
    assert result.returncode == 3, text
    assert f"'{extra}'. " in text.replace("\n", " ")
    assert f"pip install 'swift-client[{extra}]'" in text
    assert len(text.splitlines()) <= 2
    assert not (tmp_path / "s.db").exists()


def test_every_command_that_reads_a_file_or_needs_a_key_is_tested_here() -> None:
    tested = {line.split()[0] for line, _, _ in MISSING_FILES} | {line.split()[0] for line in MISSING_KEYS}

    assert typer.main.get_command(app).commands.keys() - tested == WITHOUT_FILES_AND_KEYS  # type: ignore[attr-defined]


def test_a_run_that_ended_before_its_first_reply_leaves_a_file_that_any_other_may_use(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    command = ["collect", "--questions", "q.jsonl", "--out", "s.db", "--n", "2"]
    other = ["--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]

    assert run(command) == 3
    assert run([*command, *other]) == 0
    assert run([*command, "--temperature", "0.5", *other]) == 3  # now it has samples
    with SampleStore(tmp_path / "s.db") as store:
        assert store.meta is not None
        assert (store.meta.model, store.totals().samples) == ("m", 2)
