"""Tests of the in-process llama.cpp server: one per process, quiet, reproducible, 16 completions at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.pocket import weights
from swift_client.pocket.questions import questions
from swift_client.pocket.server import MODEL_NAME, PACKAGED_MODEL, PocketServer

pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")

PROMPT = questions(1, seed=0)[0].prompt


def chat(base_url: str, **fields: Any) -> dict[str, Any]:
    """Ask the server for a chat completion."""
    body = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0.8, "max_tokens": 320} | fields
    request = urllib.request.Request(
        f"{base_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        document: dict[str, Any] = json.load(reply)
        return document


def texts(reply: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in reply["choices"]]


@pytest.fixture(scope="module")
def server() -> Iterator[PocketServer]:
    with PocketServer() as running:
        yield running


def test_sixteen_completions_come_in_one_call_with_twenty_logprobs_a_token(server: PocketServer) -> None:
    reply = chat(server.base_url, n=16, logprobs=True, top_logprobs=20, seed=1)
    assert [choice["index"] for choice in reply["choices"]] == list(range(16))
    assert reply["model"] == MODEL_NAME
    for choice in reply["choices"]:
        assert {len(entry["top_logprobs"]) for entry in choice["logprobs"]["content"]} == {20}
        assert all(entry["logprob"] <= 0 for entry in choice["logprobs"]["content"])
    assert len(set(texts(reply))) > 1


def test_a_seed_gives_the_same_completions_again_and_another_seed_gives_others(server: PocketServer) -> None:
    first, second, other = (texts(chat(server.base_url, n=16, seed=seed)) for seed in (5, 5, 50))
    assert first == second
    assert first != other


def test_choice_i_of_a_native_call_is_the_completion_of_seed_plus_i(server: PocketServer) -> None:
    # The first token only: later ones may differ, since a batch of four rounds the last bits differently.
    together = texts(chat(server.base_url, n=8, seed=9, max_tokens=1))
    assert together == [texts(chat(server.base_url, n=1, seed=9 + i, max_tokens=1))[0] for i in range(8)]


def test_the_chat_template_shows_the_model_exactly_the_training_format(server: PocketServer) -> None:
    request = urllib.request.Request(
        server.base_url.removesuffix("/v1") + "/apply-template",
        json.dumps({"messages": [{"role": "user", "content": "How many?"}]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.load(reply)["prompt"] == "<|user|>How many?<|assistant|>"


def test_answers_end_by_themselves_with_a_marked_answer(server: PocketServer) -> None:
    answers = [
        choice
        for question in questions(6, seed=2)
        for choice in chat(server.base_url, n=4, seed=0, messages=[{"role": "user", "content": question.prompt}])[
            "choices"
        ]
    ]
    marked = [bool(re.search(r"The answer is \w+\.$", choice["message"]["content"])) for choice in answers]
    assert sum(marked) / len(marked) > 0.95
    assert [choice["finish_reason"] for choice in answers].count("stop") / len(answers) > 0.95


def test_temperature_zero_draws_the_likeliest_token(server: PocketServer) -> None:
    (choice,) = chat(server.base_url, temperature=0, logprobs=True, top_logprobs=2)["choices"]
    for entry in choice["logprobs"]["content"]:
        assert entry["logprob"] == max(alternative["logprob"] for alternative in entry["top_logprobs"])


def test_more_completions_than_slots_are_refused_with_the_number_in_the_message(server: PocketServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as excinfo:
        chat(server.base_url, n=17)
    assert excinfo.value.code == 400
    assert "<= 16" in excinfo.value.read().decode()
    excinfo.value.close()


def test_threads_that_start_together_share_one_server() -> None:
    server = PocketServer()
    barrier = threading.Barrier(8)

    def start(_: int) -> str:
        barrier.wait()
        return server.start()

    with ThreadPoolExecutor(8) as threads:
        addresses = set(threads.map(start, range(8)))
    assert len(addresses) == 1
    server.close()


def test_close_stops_listening_may_be_repeated_and_may_be_followed_by_start() -> None:
    server = PocketServer(slots=1)
    address = server.start()
    server.close()
    server.close()
    with pytest.raises(urllib.error.URLError):
        chat(address)
    assert texts(chat(server.start(), max_tokens=3))
    server.close()


FORK = """
import os, sys
from swift_client.pocket.server import PocketServer
server = PocketServer(slots=1)
parent = server.start()
child = os.fork()
if child == 0:
    sys.exit(0 if server.start() != parent else 7)
_, status = os.waitpid(child, 0)
idle = os.fork()
if idle == 0:
    del server
    sys.exit(0)
_, untouched = os.waitpid(idle, 0)
print(os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(untouched), server.start() == parent)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_has_a_server_of_its_own_and_the_parent_keeps_its() -> None:
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["0", "0", "True"]


QUIET = "from swift_client.pocket.server import PocketServer; server = PocketServer(); server.start(); "


@pytest.mark.parametrize("then", ["server.close()", "", "raise SystemExit(3)"])
def test_the_server_writes_nothing_and_the_process_ends_without_close(then: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", QUIET + then], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert result.returncode == (3 if "Exit" in then else 0)


def test_the_server_ends_with_its_parent_even_where_that_is_killed() -> None:
    program = (
        "import os; from swift_client.pocket.server import PocketServer; server = PocketServer(slots=1);"
        "print(server.start(), flush=True); os.kill(os.getpid(), 9)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == -9
    for _ in range(100):
        try:
            urllib.request.urlopen(result.stdout.strip() + "/models", timeout=5).close()
        except (urllib.error.URLError, ConnectionError):  # refused, or reset while it goes down
            return
        time.sleep(0.1)
    pytest.fail("the server outlived its parent by ten seconds")


def test_a_server_that_died_is_started_again() -> None:
    with PocketServer(slots=1) as server:
        assert server._process_and_url is not None
        server._process_and_url[0].kill()
        server._process_and_url[0].wait()
        assert texts(chat(server.start(), max_tokens=3))


def test_nothing_starts_before_it_is_asked_for() -> None:
    program = (
        "import sys; from swift_client.pocket.server import PocketServer; PocketServer();"
        "print('xllamacpp' in sys.modules, 'numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split()[0] == "False"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"swift-client\[pocket\]"):
        PocketServer().start()


def test_without_clone_and_wheel_the_error_says_how_to_get_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "CLONE", tmp_path)
    monkeypatch.setitem(sys.modules, "swift_client_pocket", None)
    with pytest.raises(MissingExtraError, match=r"pip install swift-client-pocket, or, in a clone, pip install \./p"):
        PocketServer().start()


def test_the_weights_of_the_installed_wheel_are_found_if_there_is_no_clone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = tmp_path / "site" / "swift_client_pocket"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise AssertionError('the wheel was imported')\n")
    shutil.copy(PACKAGED_MODEL, installed)
    monkeypatch.setattr(weights, "CLONE", tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert PocketServer().model == installed / "model.gguf"


def test_a_file_that_is_missing_or_no_model_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model file"):
        PocketServer(tmp_path / "none.gguf").start()
    broken_file = tmp_path / "broken.gguf"
    broken_file.write_bytes(PACKAGED_MODEL.read_bytes()[:5000])
    with pytest.raises(ConfigurationError, match="cannot serve"):
        PocketServer(broken_file).start()
    with pytest.raises(ConfigurationError, match="slots"):
        PocketServer(slots=0)


def test_the_packaged_model_fits_its_bars() -> None:
    assert PACKAGED_MODEL.stat().st_size <= 8_000_000
