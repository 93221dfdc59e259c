"""Tests of the command line: options with types and defaults, exit codes, and keys of the JSON documents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import pytest
import typer

from swift_client.cli.app import app, run
from swift_client.models import HeadArtifact, load, save
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Usage
from tests.face.frozen import golden, keys, spelled
from tests.face.made import completion, head
from tests.servers import FaultServer, chat_body, error
from tests.test_drift_command import changed, write_choices

Ask = Callable[..., tuple[int, Any]]
PLACES = re.compile(r"\b(?:typing|pathlib|collections\.abc|typer(?:\.\w+)*)\.")
BOUNDS = ("min", "max", "metavar", "hidden", "envvar")


def option(parameter: Any, hint: object) -> dict[str, Any]:
    """Describe one option or argument in words that every typer has."""
    base_type, bounds = hint, {}
    if get_origin(hint) is Annotated:
        base_type = hint.__origin__  # type: ignore[attr-defined]
        info = hint.__metadata__[0]  # type: ignore[attr-defined]
        bounds = {name: value for name in BOUNDS if (value := getattr(info, name, None))}
    kind = (
        getattr(base_type, "__name__", str(base_type))
        if isinstance(base_type, type) and not get_origin(base_type)
        else str(base_type)
    )
    flags = [*parameter.opts, *parameter.secondary_opts]
    default = "required" if parameter.required else spelled(parameter.default)
    return {"flags": flags, "type": PLACES.sub("", kind), "default": default, **bounds}


def test_every_command_has_its_options_with_their_types_and_defaults() -> None:
    options = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        hints = get_type_hints(command.callback, include_extras=True)
        options[name] = {
            param.name: option(param, hints[param.name]) for param in command.params if param.name in hints
        }
    golden("commands", options)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command with --json and return its exit code and document."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = run([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run_command


def server_arguments(server: FaultServer) -> tuple[str, ...]:
    return ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dozen graded questions with four completions each; uncertain ones are wrong more often."""
    path = tmp_path_factory.mktemp("face") / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="fixed", model="m", top_logprobs=20))
        for number in range(12):
            question = StoredQuestion(
                id=f"q{number}", messages=({"role": "user", "content": f"{number}?"},), answer="4", family="sums"
            )
            store.add_questions([question])
            wrong = [(number * 5 + index * 3) % 7 < 2 for index in range(4)]
            completions = [completion(number + index, index, answer="5" if wrong[index] else "4") for index in range(4)]
            store.add_samples(
                question.id, completions, usage=Usage(prompt_tokens=9, completion_tokens=48, calls=1), cost=0.01
            )
    return path


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    save(head(), tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def test_documents_of_commands_that_send_nothing_keep_their_keys(
    ask: Ask, samples: Path, head_file: Path, tmp_path: Path
) -> None:
    reply = tmp_path / "reply.json"
    reply.write_text(json.dumps(chat_body(["The answer is 4", "The answer is 5", "The answer is 4"], k=5)))
    split = ("--split", "all", "--n", "4")
    lines = {
        "rank": (reply,),
        "providers": (),
        "plan": ("--prompt-tokens", "3000", "--provider", "anthropic"),
        "evaluate": (head_file, samples, "--split", "all", "--n", "2", "--n", "4", "--no-trained", "--subsets", "20"),
        "simulate": (samples, "--head", head_file, *split, "--orders", "3", "--sweep"),
        "calibrate": (head_file, samples, "--risk", "0.6", "--confidence", "0.6", *split),
        "grade": (samples,),
    }
    documents = {}
    for name, arguments in lines.items():
        code, document = ask(name, *arguments)
        assert code == 0, document
        documents[name] = keys(document)
    golden("documents", documents)
    assert len(artifact(head_file).acceptances) == 2  # calibrate writes into the head's file


def artifact(path: Path) -> HeadArtifact:
    head = load(path)
    assert isinstance(head, HeadArtifact)
    return head


def test_train_and_evaluate_with_what_is_trained_keep_their_keys_and_methods(
    ask: Ask, samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head.safetensors"
    code, trained = ask("train", samples, "--out", out, "--answer", "number")
    assert code == 0, trained
    assert artifact(out).provider == "fixed"
    code, evaluated = ask("evaluate", out, samples, "--n", "4", "--subsets", "20")
    assert code == 0, evaluated
    golden("trained", {"train": keys(trained), "evaluate": keys(evaluated), "METHODS": list(evaluated["rows"])})


def test_collect_and_best_of_keep_their_keys(ask: Ask, fault_server: FaultServer, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "a", "prompt": "2 + 2?", "answer": "4", "family": "sums"}\n')
    code, collected = ask(
        "collect", "--questions", questions, "--out", tmp_path / "s.db", "--n", "2", *server_arguments(fault_server)
    )
    assert code == 0, collected
    code, document = ask("best-of", "2 + 2?", "--n", "2", *server_arguments(fault_server))
    assert code == 0
    golden("sent", {"collect": keys(collected), "best-of": keys(document)})


def test_drift_and_the_canary_keep_their_keys(ask: Ask, fault_server: FaultServer, tmp_path: Path) -> None:
    code, drift = ask("drift", write_choices(tmp_path / "kept.db", changed, questions=260), "--fail")
    assert code == 7, drift
    for _ in range(3):
        code, canary = ask("doctor", "--canary", "--canary-file", tmp_path / "c.json", *server_arguments(fault_server))
        assert code == 0, canary
    golden("drift", {"drift": keys(drift), "canary": keys(canary)})


def test_exit_codes_and_the_document_of_an_error_stay(ask: Ask, fault_server: FaultServer, tmp_path: Path) -> None:
    question = ("best-of", "2 + 2?", "--n", "2", *server_arguments(fault_server))
    exits: dict[str, list[Any]] = {}

    def note(name: str, *arguments: str) -> None:
        code, document = ask(*arguments)
        assert document["error"]["exit_code"] == code
        exits[name] = [code, document["error"]["type"], sorted(document["error"])]

    note("usage", "best-of")
    note("unknown option", *question, "--no-such-option")
    note("unknown command", "no-such-command")
    note("missing file", "rank", str(tmp_path / "none.json"))
    note("missing key", "best-of", "2 + 2?")
    note("unknown provider", "best-of", "2 + 2?", "--provider", "opnai")
    note("unknown scorer", *question, "--scorer", "nonsense")
    note("no head", "rank", __file__, "--head", str(tmp_path / "none"))
    fault_server.serve(lambda _: error(401, "Incorrect API key."))
    note("refused key", *question)
    fault_server.serve(lambda _: error(400, "On holiday."))
    note("refused request", *question)
    fault_server.serve(lambda _: error(500, "Down.", headers={"retry-after": "0", "retry-after-ms": "1"}))
    note("nothing came", *question)
    note("budget", *question, "--budget-tokens", "1")
    golden("exits", exits)
