"""Integrations in environments that have the packages they are for; ``make service-packages``."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from swift_client.pocket.server import PocketServer
from tests.children import ROOT, environment, python
from tests.clients import upstream
from tests.clients.upstream import ANSWERS, CITY, INVOICE, WEATHER
from tests.servers import FaultServer, Received, Response, after, chat_body, error, json_response
from tests.services import RunningService, run, service_config
from tools.service_packages import pins, python_of

FOLDER = Path(__file__).parent
PAGES = ROOT / "docs" / "integrations"
MODULES = ROOT / "swift_client" / "integrations"
MAX_LINES = 60
ANSWER = ANSWERS[1]  # two answers of three are 408; this one is surer
FACTS = ["408", "logprobs:k=20", 3, 41]  # 7 tokens at 1 and 17 at 2 dollars per million
PACKAGED = ["head pocket/pocket", "logprobs:k=20", True]
TOOL = ["weather", CITY]
FIELDS = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"  # as DSPy asks for
OURS = "swift_client.ConfigurationError"


def errors(package: str, *names: str) -> dict[str, str]:
    """Map HTTP statuses, and failures without one, to classes of a package."""
    keys = ("400", "401", "403", "404", "429", "500", "connection", "timeout")
    return {key: f"{package}.{name}" for key, name in zip(keys, names, strict=True)}


RESULTS: Mapping[str, Mapping[str, object]] = {
    "langchain": {
        "plain": [
            ANSWER,
            {
                "input_tokens": 7,
                "output_tokens": 17,
                "total_tokens": 24,
                "input_token_details": {"cache_read": 0},
            },
            FACTS,
        ],
        "plain_async": ANSWER,
        "either_kind": [ANSWER] * 3,
        "stream": [ANSWER],
        "many": [ANSWER] * 2,
        "options": [2, 3],
        "tool": [*TOOL, True],
        "tool_result": WEATHER,
        "structured": INVOICE,
        "chain": ANSWER,
        "runnable": ["408"] * 4,
        "errors": errors(
            "langchain_core",
            "ModelInvalidRequestError",
            "ModelAuthenticationError",
            "ModelPermissionDeniedError",
            "ModelNotFoundError",
            "ModelRateLimitError",
            "ModelAPIError",
            "ModelConnectionError",
            "ModelTimeoutError",
        ),
        "configuration_error": [OURS, OURS],
        "packaged_model": PACKAGED,
        "snippet": f"{ANSWER}\n408\n408\n",
    },
    "llamaindex": {
        "plain": [ANSWER, 17, FACTS],
        "chat": ANSWER,
        "in_async_code": [ANSWER] * 2,
        "either_kind": [ANSWER] * 2,
        "stream": [ANSWER] * 4,
        "options": [2, 3],
        "tool": TOOL,
        "no_tool_call": [[], "builtins.ValueError"],
        "agent": WEATHER,
        "structured": INVOICE,
        "counted_tokens": [7, 17],
        "errors": errors(
            "swift_client",
            "BadRequestError",
            "AuthenticationError",
            "AuthenticationError",
            "BadRequestError",
            "NoCompletionError",
            "NoCompletionError",
            "NoCompletionError",
            "NoCompletionError",
        ),
        "configuration_error": [OURS, OURS],
        "packaged_model": PACKAGED,
        "snippet": f"{ANSWER}\n408\n",
    },
    "pydantic_ai": {
        "plain": [ANSWER, 17, FACTS, "m"],
        "either_kind": ANSWER,
        "in_async_code": [ANSWER] * 3,
        "stream": [ANSWER, FACTS],
        "options": 2,
        "tool": WEATHER,
        "structured": INVOICE,
        "structured_by_tool": INVOICE,
        "fallback": ANSWER,
        "saved_history": ANSWER,
        "errors": errors(
            "pydantic_ai",
            "ModelRequestRejectedError",
            "ModelAuthenticationError",
            "ModelAuthenticationError",
            "ModelNotFoundError",
            "ModelRateLimitError",
            "ModelServerError",
            "ModelConnectionError",
            "ModelTimeoutError",
        ),
        "configuration_error": OURS,
        "packaged_model": PACKAGED,
        "snippet": f"{ANSWER}\n408\n",
    },
    "dspy": {
        "plain": [408, ["answer"], ["408", "logprobs:k=20", 3, 73], FIELDS.format(408)],
        "in_async_code": [408] * 3,
        "either_kind": ["398"] * 2,  # its reranker does not read the field, so the best score decides
        "options": [3, 2],
        "usage": 33,
        "module": [408, True],
        "optimizer": [408, 408],
        "errors": errors(
            "dspy",
            "LMInvalidRequestError",
            "LMAuthError",
            "LMAuthError",
            "LMInvalidRequestError",
            "LMRateLimitError",
            "LMServerError",
            "LMTransportError",
            "LMTimeoutError",
        ),
        "unreadable": ["dspy.AdapterParseError", OURS],
        "through_the_service": 398,  # as above
        "packaged_model": PACKAGED,
        "snippet": "408\n408\n",
    },
    "litellm": {
        "plain": [ANSWER, 17, FACTS, "stop"],
        "cost": 41,
        "in_async_code": [ANSWER] * 3,
        "stream": [ANSWER, "stop", ANSWER],
        "tool": ["weather", json.dumps(CITY)],
        "tool_stream": ["weather", json.dumps(CITY), "tool_calls"],
        "structured": json.dumps(INVOICE),
        "options": 2,
        "either_kind": ANSWER,
        "errors": errors(
            "litellm",
            "BadRequestError",
            "AuthenticationError",
            "AuthenticationError",
            "NotFoundError",
            "RateLimitError",
            "InternalServerError",
            "APIConnectionError",
            "Timeout",
        ),
        "errors_in_streams": ["litellm.RateLimitError", "litellm.MidStreamFallbackError"],
        "configuration_error": "litellm.BadRequestError",
        "packaged_model": PACKAGED,
        "snippet": f"{ANSWER}\n408\n",
    },
    "inspect_ai": {
        "plain": [ANSWER, 1.0, 17, 41, FACTS, ["system", "user", "assistant"]],
        "either_kind": 1.0,
        "options": 2,
        "errors": ["refused", "This solver does not call tools."],
        "through_the_service": 1.0,
        "packaged_model": PACKAGED,
        "snippet": "1.0\n408\n",
    },
}
"""Results of the checks of each script, by the name of its environment."""


def reply(request: Received) -> Response:
    """Refuse with the status in the model's name, take too long, write DSPy's fields, or answer."""
    model = request.json["model"]
    if model.startswith("status-"):
        return error(int(model.removeprefix("status-")), "refused")
    delay = 1.0 if model == "slow" else 0.0
    if model != "plain" and "[[ ## answer ## ]]" in str(request.json["messages"][0]["content"]):
        texts = [FIELDS.format(number) for number in (398, 408, 408)]
        return after(delay, json_response(chat_body([texts[i % 3] for i in range(request.json.get("n", 1))], k=20)))
    return after(delay, upstream.reply(request))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.serve(reply)
        yield running


@pytest.fixture(scope="module")
def service(server: FaultServer) -> Iterator[RunningService]:
    config = service_config(server)
    with run(replace(config, models={"best-mini": config.models["best"]})) as running:
        yield running


@pytest.fixture(scope="module")
def pocket() -> Iterator[PocketServer]:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    with PocketServer() as running:
        yield running


def page_of(name: str) -> str:
    return (PAGES / f"{name.replace('_', '-')}.md").read_text()


INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            python_of(name) is None,
            reason=f"the environment of {name} is not installed; `make service-packages` makes it",
        ),
    )
    for name in RESULTS
]


@pytest.mark.parametrize("name", INSTALLED)
def test_an_integration_works_with_its_package(
    name: str, server: FaultServer, service: RunningService, pocket: PocketServer, tmp_path: Path
) -> None:
    for file in (FOLDER / f"use_{name}.py", FOLDER / "rerankers.py", ROOT / "tests" / "clients" / "harness.py"):
        (tmp_path / file.name).write_text(file.read_text())
    code = re.search(r"^```python\n(.*?)^```$", page_of(name), re.DOTALL | re.MULTILINE)
    assert code is not None
    (tmp_path / "snippet.py").write_text(code[1])
    variables = environment(
        PYTHONWARNINGS="default",
        LITELLM_LOCAL_MODEL_COST_MAP="True",  # the default is to fetch it when it is imported
        OPENAI_BASE_URL=server.url,
        OPENAI_API_KEY="unused",
        POCKET_URL=pocket.base_url,
        SERVICE_URL=service.url,
        SWIFT_BASE_URL=service.url,
        SWIFT_API_KEY="unused",
    )
    command = [str(python_of(name)), f"use_{name}.py", server.url, "unused", "snippet.py"]
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == RESULTS[name]


@pytest.mark.parametrize("name", list(RESULTS))
def test_a_page_names_the_version_that_is_tested(name: str) -> None:
    tested = {pin.replace("==", " ") for pin in pins(name)}
    named = set(re.findall(r"Tested with `(\S+ \S+)`", page_of(name)))

    assert named
    assert named <= tested


def test_each_integration_is_short() -> None:
    shared = {"__init__.py", "best_of_call.py", "peer_packages.py"}
    lines = {path.name: path.read_text().count("\n") for path in MODULES.glob("*.py") if path.name not in shared}

    assert {name for name, count in lines.items() if count > MAX_LINES} == set()


@pytest.mark.parametrize("name", list(RESULTS))
def test_a_missing_package_is_named(name: str, tmp_path: Path) -> None:
    peer = {"langchain": "langchain_core", "llamaindex": "llama_index"}.get(name, name)
    code = f"import sys; sys.modules[{peer!r}] = None; import swift_client.integrations.{name}"
    result = python("-c", code, cwd=tmp_path)

    assert result.returncode == 1
    last = result.stderr.decode().splitlines()[-1]
    assert last.startswith("swift_client.errors.MissingExtraError: This integration needs the package")
    assert "pip install" in last
