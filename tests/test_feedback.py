"""Selections by their id, and feedback on them: in Python, by the command and over the service."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Cascade, SwiftReranker, rank
from swift_client.cli.app import run as run_command
from swift_client.errors import ConfigurationError, RejectedError, UnknownSelectionError
from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig, ServiceConfig
from swift_client.store import SampleStore, SelectionStore, StoredFeedback
from tests.children import snippet
from tests.servers import FaultServer, chat, chat_body
from tests.services import QUESTION, model_config, run, service_config
from tests.test_cascade import SURE, UNSURE, acceptance, head

FOUR, FIVE = "The answer is 4", "The answer is 5"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


def reranker(server: FaultServer, store: Path | None, **settings: Any) -> SwiftReranker:
    settings = {"base_url": server.url, "api_key": "k", "max_retries": 0, "store": store, **settings}
    return SwiftReranker("openai-compatible", "m", **settings)


def stored_feedback(path: Path) -> list[StoredFeedback]:
    with SelectionStore(path) as store:
        return list(store.feedback())


def test_every_selection_has_an_id_of_its_own_which_its_json_has_too(fault_server: FaultServer) -> None:
    with reranker(fault_server, None) as client:
        selections = [client.best_of("2 + 2?", n=2), client.best_of("2 + 2?", n=2), rank(chat_body([FOUR, FIVE]))]

    assert len({selection.id for selection in selections}) == 3
    for selection in selections:
        assert len(selection.id) == 32
        assert selection.to_dict()["id"] == json.loads(selection.to_json())["id"] == selection.id


def test_feedback_names_the_chosen_sample_and_replaces_earlier_feedback(fault_server: FaultServer, path: Path) -> None:
    fault_server.answers = (FIVE, FOUR, FOUR)
    with reranker(fault_server, path) as client:
        selection = client.best_of("2 + 2?", n=3)
        client.feedback(selection.id, correct=False)
        client.feedback(selection.id, correct=True)

    (feedback,) = stored_feedback(path)
    assert feedback.correct is True
    assert (feedback.selection.id, feedback.selection.answer, feedback.selection.accepted) == (selection.id, "4", None)
    assert feedback.selection.number == selection.winner
    assert 0 <= feedback.time - feedback.selection.time < 60
    with SampleStore(path) as store:
        samples = {sample.index: sample.completion for sample in store.samples(feedback.selection.question_id)}
    for number, candidate in zip(feedback.selection.numbers, selection.candidates, strict=True):
        assert number is not None
        assert samples[number].text == candidate.text
        assert samples[number].logprobs.tobytes() == candidate.completion.logprobs.tobytes()
    assert len(set(feedback.selection.numbers)) == 3


def test_feedback_can_be_withdrawn(fault_server: FaultServer, path: Path) -> None:
    with reranker(fault_server, path) as client:
        selection = client.best_of("2 + 2?", n=2)
        client.feedback(selection.id, correct=True)
        client.feedback(selection.id, correct=None)

    assert stored_feedback(path) == []


async def test_the_async_client_stores_feedback_too(fault_server: FaultServer, path: Path) -> None:
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, store=path) as client:
        selection = await client.best_of("2 + 2?", n=2)
        await client.feedback(selection.id, correct=False)
        with pytest.raises(UnknownSelectionError):
            await client.feedback("nothing", correct=False)

    assert [feedback.correct for feedback in stored_feedback(path)] == [False]


def test_another_process_may_give_the_feedback_later(fault_server: FaultServer, path: Path, tmp_path: Path) -> None:
    with reranker(fault_server, path) as client:
        selection = client.best_of("2 + 2?", n=2)

    code = "import sys; from swift_client import SwiftReranker\n"
    code += "SwiftReranker('openai/gpt-4.1-mini', store=sys.argv[1]).feedback(sys.argv[2], correct=True)"
    result = snippet(code, str(path), selection.id, cwd=tmp_path)

    assert result.returncode == 0, result.stderr.decode()
    assert [feedback.selection.id for feedback in stored_feedback(path)] == [selection.id]


def test_an_unknown_id_is_refused_and_no_file_is_made(fault_server: FaultServer, path: Path) -> None:
    with reranker(fault_server, path) as client:
        with pytest.raises(UnknownSelectionError, match=r"has no selection 'abc'\. Check the id"):
            client.feedback("abc", correct=True)
        assert not path.exists()
        client.best_of("2 + 2?", n=1)
        with pytest.raises(UnknownSelectionError, match=r"samples\.db has no selection"):
            client.feedback(rank(chat_body([FOUR])).id, correct=True)


def test_feedback_without_a_file_says_what_to_do(fault_server: FaultServer, path: Path) -> None:
    with (
        reranker(fault_server, None) as client,
        pytest.raises(ConfigurationError, match=r"samples file.*store="),
    ):
        client.feedback("abc", correct=True)
    with reranker(fault_server, path) as client, pytest.raises(ConfigurationError, match="True, False or None"):
        client.feedback("abc", correct="yes")  # type: ignore[arg-type]


def test_a_file_without_selections_is_not_changed_by_feedback(fault_server: FaultServer, path: Path) -> None:
    SampleStore(path, write=True).close()
    with reranker(fault_server, path) as client, pytest.raises(UnknownSelectionError):
        client.feedback("abc", correct=True)

    assert stored_feedback(path) == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_a_choice_from_stored_samples_alone_is_recorded_too(fault_server: FaultServer, path: Path) -> None:
    fault_server.answers = (FOUR, FOUR, FOUR)
    with reranker(fault_server, path) as client:
        first, second = client.best_of("2 + 2?", n=3), client.best_of("2 + 2?", n=3)
        assert second.reused == 3
        client.feedback(second.id, correct=True)

    with SelectionStore(path) as store:
        newest, oldest = store.selections()
    assert [newest.id, oldest.id] == [second.id, first.id]
    assert sorted(map(str, newest.numbers)) == ["0", "1", "2"]


def test_a_withheld_answer_can_be_named_and_its_rejection_is_recorded(fault_server: FaultServer, path: Path) -> None:
    with reranker(fault_server, path, head=head(acceptance(UNSURE))) as client:
        with pytest.raises(RejectedError) as caught:
            client.best_of("2 + 2?", n=4, on_reject="abstain")
        client.feedback(caught.value.selection.id, correct=False)

    (feedback,) = stored_feedback(path)
    assert feedback.selection.accepted is False


def test_a_cascade_has_one_id_for_all_its_steps(fault_server: FaultServer, path: Path) -> None:
    cheap = reranker(fault_server, path, head=head(acceptance(UNSURE)))
    strong = reranker(fault_server, path.with_name("strong.db"), head=head(acceptance(SURE)))
    with Cascade([(cheap, 4), (strong, 4)]) as cascade:
        selection = cascade.best_of("2 + 2?")
        strong.feedback(selection.id, correct=True)

    assert len(selection.path) == 2
    for file, accepted in ((path, False), (path.with_name("strong.db"), True)):
        with SelectionStore(file) as store:
            assert [(stored.id, stored.accepted) for stored in store.selections()] == [(selection.id, accepted)]


def test_a_file_that_cannot_be_written_costs_no_answer_and_a_note_says_so(
    fault_server: FaultServer, path: Path
) -> None:
    path.write_text("not a database, but someone's only copy of a poem")
    with reranker(fault_server, path) as client:
        selection = client.best_of("2 + 2?", n=1)

    assert any("not stored" in note for note in selection.notes)
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE selection SET facts = '[]'",
        "UPDATE selection SET facts = '{'",
        "UPDATE selection SET numbers = '[true]'",
        "UPDATE selection SET numbers = '{}'",
        "UPDATE selection SET time = 'soon'",
        "UPDATE selection SET time = 1e999",
        "UPDATE selection SET served_as = x'00'",
        "UPDATE feedback SET correct = 7",
        "UPDATE feedback SET time = -1",
    ],
)
def test_a_damaged_selection_is_an_error_with_a_hint(fault_server: FaultServer, path: Path, statement: str) -> None:
    with reranker(fault_server, path) as client:
        client.feedback(client.best_of("2 + 2?", n=1).id, correct=True)
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()

    with pytest.raises(ConfigurationError, match="is damaged"):
        stored_feedback(path)


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "correct"), [("--correct", True), ("--wrong", False)])
def test_the_command_stores_feedback(
    fault_server: FaultServer, path: Path, capsys: pytest.CaptureFixture[str], flag: str, correct: bool
) -> None:
    fault_server.answers = (FOUR,)
    with reranker(fault_server, path) as client:
        selection = client.best_of("2 + 2?", n=2)

    assert run_command(["feedback", str(path), selection.id, flag, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["answer"], document["correct"]) == (selection.id, "4", correct)
    assert [feedback.correct for feedback in stored_feedback(path)] == [correct]


def test_the_command_needs_a_word_and_a_known_id(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SampleStore(path, write=True).close()

    assert run_command(["feedback", str(path), "abc"]) == 2
    assert run_command(["feedback", str(path), "abc", "--wrong"]) == 3
    assert "has no selection 'abc'" in capsys.readouterr().err.replace("\n", " ")


# --- the service ---------------------------------------------------------------------------------------------------


def test_the_service_takes_feedback_by_the_id_of_its_reply(fault_server: FaultServer, path: Path) -> None:
    with run(service_config(fault_server, store=str(path))) as service:
        reply = service.post({"model": "best", "messages": QUESTION})
        selection_id = reply.headers["x-swift-id"]
        assert reply.json()["swift"]["id"] == selection_id
        done = service.post({"id": selection_id, "correct": True}, path="/feedback")
        assert (done.status_code, done.json()) == (200, {"id": selection_id, "correct": True})
        streamed = service.post({"model": "best", "messages": QUESTION, "stream": True})
        assert service.post({"id": streamed.headers["x-swift-id"], "correct": False}, path="/feedback").is_success
        assert service.post({"id": "abc", "correct": True}, path="/feedback").status_code == 404
        for body in ({"id": selection_id}, {"id": 3, "correct": True}, {"id": "a", "correct": 1}, [], b"{", b"\xff"):
            assert service.post(body, path="/feedback").status_code == 400
        assert service.post({"id": "a" * 5000, "correct": True}, path="/feedback").status_code == 413

    first, second = stored_feedback(path)
    assert (first.selection.id, first.selection.served_as, first.correct) == (selection_id, "best", True)
    assert second.correct is False


def test_a_key_gives_feedback_on_selections_of_its_own_models_only(fault_server: FaultServer, path: Path) -> None:
    keys = {name: create_key(name) for name in ("anne", "bob")}
    config = ServiceConfig(
        server=service_config(fault_server).server,
        # Both models share a file, so the file alone does not tell whose selection it is.
        models={name: model_config(fault_server, store=str(path)) for name in ("first", "second")},
        keys={
            "anne": KeyConfig(hash=keys["anne"].hash, models=("first",)),
            "bob": KeyConfig(hash=keys["bob"].hash, models=("second",)),
        },
    )
    with run(config) as service:
        headers = {name: {"authorization": f"Bearer {key.key}"} for name, key in keys.items()}
        reply = service.post({"model": "first", "messages": QUESTION}, headers=headers["anne"])
        body = {"id": reply.headers["x-swift-id"], "correct": True}

        assert service.post(body, path="/feedback").status_code == 401
        assert service.post(body, path="/feedback", headers=headers["bob"]).status_code == 404
        assert service.post(body, path="/feedback", headers=headers["anne"]).status_code == 200


def test_a_file_that_cannot_be_used_is_503_without_its_path(fault_server: FaultServer, path: Path) -> None:
    path.write_text("not a database")
    with run(service_config(fault_server, store=str(path))) as service:
        refused = service.post({"id": "abc", "correct": True}, path="/feedback")

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert str(path) not in refused.text


def test_long_texts_are_recorded_by_their_begin(fault_server: FaultServer, path: Path) -> None:
    fault_server.answers = ("w" * 50_000,)
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 50_000}}
    content = [{"type": "text", "text": "q" * 50_000}, image]
    with reranker(fault_server, path, answer="text") as client:
        client.best_of([{"role": "user", "content": content}], n=1)

    with SelectionStore(path) as store:
        (shown,) = store.shown_selections()
    assert shown.selection.prompt == "q" * 2000
    assert shown.text == "w" * 1000
    assert len(shown.selection.answer or "") == 1000
    assert len(json.dumps(dict(shown.selection.facts))) < 4000


def test_a_model_without_a_file_keeps_no_selections(fault_server: FaultServer) -> None:
    fault_server.script(chat([FOUR], k=2))
    with run(service_config(fault_server, n=1)) as service:
        reply = service.post({"model": "best", "messages": QUESTION})
        refused = service.post({"id": reply.headers["x-swift-id"], "correct": True}, path="/feedback")

    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "selection_not_found"
    assert "store" in refused.json()["error"]["message"]
