"""Tests of the service's configuration: strict parsing, keys of clients, caps, addresses, reloading, the command."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from swift_client.errors import ConfigurationError, MissingApiKeyError
from swift_client.server import load_config, parse_config
from swift_client.server.access.client_keys import ClientKeys, create_key
from swift_client.server.access.identity import check_address, is_loopback
from swift_client.server.app import Service
from swift_client.server.chat.request import parse_chat_call
from swift_client.server.config import KeyConfig, ModelConfig, ServiceConfig
from swift_client.server.http.error_reply import HttpError
from swift_client.server.question.arguments import create_arguments
from tests.children import command
from tests.servers import FaultServer, after, chat
from tests.services import QUESTION, run, service_config, wait_until

FULL = """
[server]
host = "127.0.0.1"
port = 9000
path_prefix = "/llm"
cors_origins = ["https://app.example"]

[models.best-mini]
provider = "openai"
model = "gpt-4.1-mini"
n = 4
stopping = "auto"
verifier = { judge = "self", mode = "p_true" }
budget = { tokens = 8000 }
deadline = 20
sampling = { temperature = 0.8 }
caps = { n = 8, deadline = 60, max_tokens = 500, overrides = ["n", "deadline"] }

[models."meta-llama/Llama-3.1-8B"]
provider = "vllm"
model = "meta-llama/Llama-3.1-8B"
base_url = "http://localhost:8001/v1"
"""


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def model(**settings: Any) -> ModelConfig:
    return msgspec.convert({"provider": "openai-compatible", "model": "m", **settings}, ModelConfig)


def call(**body: Any) -> Any:
    return parse_chat_call({"model": "best", "messages": QUESTION, **body})


def test_a_file_is_read_whole() -> None:
    config = parse_config(FULL)

    assert (config.server.port, config.server.path_prefix) == (9000, "/llm")
    best = config.models["best-mini"]
    assert (best.n, best.deadline, best.sampling, best.caps.n) == (4, 20.0, {"temperature": 0.8}, 8)
    assert best.budget is not None
    assert best.budget.tokens == 8000
    Service(config)  # its rerankers can be made; nothing is sent


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[models.a", "not valid TOML", ""),
        ("", "no virtual model", r"\[models"),
        ("[modles.a]\nprovider = 'openai'", "modles", "models.NAME"),
        ("[models.a]\nprovider = 'openai'\nmodle = 'x'", r"\[models.a\]: 'modle' is unknown", "'model'"),
        ("[models.a]\nprovider = 'openai'\nzzz = 1", "'zzz' is unknown", "Known: provider"),
        ("[models.a]\nn = 4", "provider", ""),
        ("[models.a]\nprovider = 'openai'\nn = 0", r"\[models.a\]: .*>= 1.*\$.n", ""),
        ("[models.a]\nprovider = 'openai'\nn = '4'", r"Expected `int`, got `str`", ""),
        ("[models.a]\nprovider = 'openai'\nselect = 'worst'", "Invalid enum value 'worst'", ""),
        ("[models.a]\nprovider = 'openai'\n[models.a.budget]\ntoken = 5", r"models.a.budget\]: 'token'", "'tokens'"),
        ("[models.a]\nprovider = 'openai'\ncaps = { n = 2 }", "caps.n is 2, below n = 8", ""),
        ("[models.a]\nprovider = 'openai'\ncaps = { overrides = ['model'] }", "Invalid enum value 'model'", ""),
        ("[models.a]\nprovider = 'openai'\nkey = 'caller'\nstore = 's.db'", "cannot be combined", ""),
        ("[models]\na = 3", r"\[models.a\] is not a table", ""),
        ("models = 3", "'models' is not a table", ""),
        ("[server]\nport = 99999\n[models.a]\nprovider = 'openai'", "<= 65535", ""),
        ("[server]\npath_prefix = 'x'\n[models.a]\nprovider = 'openai'", "path_prefix 'x' is not a path", ""),
        ("[server]\ntls_key = 'x'\n[models.a]\nprovider = 'openai'", "both tls_certificate and tls_key", ""),
        ("[models.a]\nprovider = 'openai'\n[keys.bob]\nhash = 'x'\nmodels = ['b']", "no virtual model 'b'", ""),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_config(text)
    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"provider": "opnai"}, ConfigurationError),
        ({"head": "no-such-head"}, Exception),
        ({"verifier": {"judge": "nobody/x"}}, ConfigurationError),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, MissingApiKeyError),
        ({"budget": {}}, ConfigurationError),
        ({"scorer": "nonsense"}, ConfigurationError),
    ],
)
def test_what_only_a_reranker_knows_is_checked_at_the_start(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Service(ServiceConfig(models={"a": model(**settings)}))


# --- keys --------------------------------------------------------------------------------------------------------


def test_a_key_is_verified_by_its_salted_hash_alone() -> None:
    first, second = create_key("alice"), create_key("alice")
    keys = ClientKeys({"alice": KeyConfig(hash=first.hash)})

    assert keys.remembered_name(first.key) is None
    assert keys.verify(first.key) == "alice"
    assert keys.remembered_name(first.key) == "alice"
    for wrong in (second.key, first.key[:-1], first.key + "x", first.key.replace("alice", "bob"), "", "sk-alice.", "é"):
        assert keys.verify(wrong) is None
        assert keys.remembered_name(wrong) is None
    assert first.key.split(".")[1] not in first.hash


def test_the_hash_is_scrypt_as_the_standard_library_computes_it() -> None:
    made = create_key("alice")
    _, cost, block, parallel, salt, digest = made.hash.split("$")
    expected = hashlib.scrypt(
        made.key.encode(),
        salt=base64.urlsafe_b64decode(salt + "=="),
        n=int(cost),
        r=int(block),
        p=int(parallel),
        dklen=32,
    )

    assert base64.urlsafe_b64decode(digest + "=") == expected


@pytest.mark.parametrize(
    "text",
    ["", "plain", "scrypt$1$8$1$" + "a" * 22 + "$" + "a" * 43, "scrypt$1048576$8$1$" + "a" * 22 + "$" + "a" * 43],
)
def test_a_hash_that_was_not_made_here_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[keys.bob\]") as caught:
        ClientKeys({"bob": KeyConfig(hash=text)})
    assert "--new-key bob" in caught.value.hint


def test_a_service_with_keys_answers_nobody_else(upstream: FaultServer) -> None:
    alice, bob = create_key("alice"), create_key("bob")
    keys = {"alice": KeyConfig(hash=alice.hash), "bob": KeyConfig(hash=bob.hash, models=())}
    question = {"model": "best", "messages": QUESTION}

    with run(service_config(upstream, keys=keys)) as service:

        def status(key: str) -> tuple[int, str | None]:
            reply = service.post(question, headers={"authorization": f"Bearer {key}"})
            return reply.status_code, reply.json().get("error", {}).get("code")

        assert status(alice.key) == (200, None)
        assert status(alice.key + "x") == (401, "invalid_api_key")
        assert status("x") == (401, "invalid_api_key")
        assert service.post(question).status_code == 401
        assert status(bob.key) == (404, "model_not_found")  # a model that it may not use does not exist for it
        assert service.get("/v1/models").status_code == 401
        assert service.get("/v1/models", authorization=f"Bearer {bob.key}").json()["data"] == []
        assert service.get("/healthz").status_code == 200
        assert service.get("/v1/models", **{"x-swift-key": alice.key, "host": "any.example"}).status_code == 200


def test_the_callers_own_key_goes_upstream_and_no_other(upstream: FaultServer) -> None:
    upstream.serve(lambda received: after(0.2, chat(["The answer is 4"] * 3)))
    with run(service_config(upstream, key="caller", provider="openai", model="m")) as service:

        async def ask(key: str) -> None:
            async with openai.AsyncOpenAI(base_url=service.url, api_key=key, max_retries=0) as client:
                await client.chat.completions.create(model="best", messages=[{"role": "user", "content": key}])

        async def ask_all() -> None:
            await asyncio.gather(*(ask(f"sk-caller-{i}") for i in range(8)))

        asyncio.run(ask_all())
        without = service.post({"model": "best", "messages": QUESTION})

    pairs = {(r.headers["authorization"], r.json["messages"][0]["content"]) for r in upstream.requests}
    assert pairs == {(f"Bearer sk-caller-{i}", f"sk-caller-{i}") for i in range(8)}
    assert (without.status_code, without.json()["error"]["code"]) == (401, "invalid_api_key")


# --- caps --------------------------------------------------------------------------------------------------------


def test_a_request_overrides_within_the_caps_and_lowers_the_budget_only() -> None:
    table = model(n=4, deadline=20, budget={"tokens": 100}, caps={"n": 8, "deadline": 60, "max_tokens": 50})
    asked = {"n": 6, "deadline": 30, "stopping": "auto", "budget": {"tokens": 500, "usd": 1.0}, "reference": "r"}

    arguments = create_arguments(call(swift=asked, temperature=0.2, max_completion_tokens=40), table)

    assert (arguments["n"], arguments["deadline"], arguments["stopping"]) == (6, 30.0, "auto")
    assert (arguments["budget"].tokens, arguments["budget"].usd) == (100, 1.0)
    assert arguments["extra_body"] == {"temperature": 0.2, "max_completion_tokens": 40}


@pytest.mark.parametrize(
    ("body", "caps", "param"),
    [
        ({"swift": {"n": 9}}, {"n": 8}, "swift.n"),
        ({"n": 9}, {"n": 8}, "n"),
        ({"n": 4, "swift": {"n": 2}}, {"n": 8}, "swift.n"),
        ({"swift": {"n": 5}}, {}, "swift.n"),
        ({"swift": {"deadline": 61}}, {"deadline": 60}, "swift.deadline"),
        ({"max_tokens": 51}, {"max_tokens": 50}, "max_tokens"),
        ({"max_completion_tokens": "9"}, {"max_tokens": 50}, "max_completion_tokens"),
        ({"max_new_tokens": 9}, {"max_tokens": 50}, "max_new_tokens"),
        ({"options": {"num_predict": 9}}, {"max_tokens": 50}, "options"),
        ({"swift": {"stopping": "auto"}}, {"overrides": ["n"]}, "swift.stopping"),
    ],
)
def test_more_than_a_cap_allows_is_refused(body: dict[str, Any], caps: dict[str, Any], param: str) -> None:
    with pytest.raises(HttpError) as caught:
        create_arguments(call(**body), model(n=4, caps=caps))

    assert (caught.value.status, caught.value.param) == (400, param)


def test_defaults_of_the_model_stand_below_the_request_and_the_cap_is_sent() -> None:
    table = model(sampling={"temperature": 0.8, "max_tokens": 30, "top_p": 0.9}, caps={"max_tokens": 50})

    assert create_arguments(call(temperature=0.1), table)["extra_body"] == {
        "temperature": 0.1, "max_tokens": 30, "top_p": 0.9
    }  # fmt: skip
    assert create_arguments(call(max_completion_tokens=9), table)["extra_body"] == {
        "temperature": 0.8, "max_completion_tokens": 9, "top_p": 0.9
    }  # fmt: skip
    assert create_arguments(call(), model(caps={"max_tokens": 50}))["extra_body"] == {"max_tokens": 50}


# --- addresses, reloading, the command -----------------------------------------------------------------------------


def test_a_public_address_needs_keys(upstream: FaultServer) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(ConfigurationError, match="no client keys"):
            check_address(service_config(upstream, server={"host": host}))
    check_address(
        service_config(upstream, server={"host": "0.0.0.0"}, keys={"a": KeyConfig(hash=create_key("a").hash)})
    )
    check_address(service_config(upstream, server={"host": "0.0.0.0"}, key="caller"))
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "127.0.0.1.evil.example")] == [
        *(True, True, True, True), False
    ]  # fmt: skip


def test_cors_answers_the_origins_of_the_file_only(upstream: FaultServer) -> None:
    with run(
        service_config(upstream, server={"cors_origins": ["https://app.example"], "path_prefix": "/llm"})
    ) as service:
        assert service.url.endswith("/llm/v1")

        def allowed(origin: str) -> str | None:
            headers = {"origin": origin, "access-control-request-method": "POST"}
            headers["access-control-request-headers"] = "content-type,authorization"
            with httpx2.Client() as client:
                reply = client.options(f"{service.url}/chat/completions", headers=headers)
            return reply.headers.get("access-control-allow-origin")

        assert (allowed("https://app.example"), allowed("https://evil.example")) == ("https://app.example", None)
        assert service.post({"model": "best", "messages": QUESTION}).status_code == 200


def test_a_reload_changes_new_requests_and_running_ones_end(upstream: FaultServer) -> None:
    upstream.serve(lambda received: after(0.5, chat(["The answer is 4"] * received.json["n"])))
    with run(service_config(upstream)) as service:
        old = service.service.models

        async def ask() -> Any:
            async with openai.AsyncOpenAI(base_url=service.url, api_key="x", max_retries=0) as client:
                return await client.chat.completions.create(model="best", messages=QUESTION)  # type: ignore[arg-type]

        async def ask_and_reload() -> tuple[Any, Any]:
            running = asyncio.create_task(ask())
            await asyncio.to_thread(wait_until, lambda: upstream.requests)
            assert service.loop is not None
            new = service_config(upstream, n=5)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(service.service.reload(new), service.loop))
            return await running, await ask()

        first, second = asyncio.run(ask_and_reload())
        wait_until(lambda: old._n_requests == 0)

        assert [len(reply.model_extra["swift"]["candidates"]) for reply in (first, second)] == [3, 5]


def test_the_command_checks_and_makes_keys(tmp_path: Path, upstream: FaultServer) -> None:
    result = command("serve", "--new-key", "alice", "--json", cwd=tmp_path)
    made = json.loads(result.stdout)
    assert ClientKeys({"alice": KeyConfig(hash=made["hash"])}).verify(made["key"]) == "alice"

    (tmp_path / "swift.toml").write_text(FULL)
    result = command("serve", "--config", "swift.toml", "--check", "--json", cwd=tmp_path)
    assert (result.returncode, json.loads(result.stdout)["models"][0]) == (0, "best-mini")
    assert load_config(tmp_path / "swift.toml").models.keys() == parse_config(FULL).models.keys()

    (tmp_path / "swift.toml").write_text(FULL.replace("stopping", "stoping"))
    result = command("serve", "--config", "swift.toml", "--check", cwd=tmp_path)
    assert result.returncode == 3
    assert b"'stoping' is unknown" in result.stderr
    for arguments in (("--host", "0.0.0.0"), ("--config", "missing.toml"), ("--config", "swift.toml", "--model", "x")):
        assert command("serve", *arguments, "--check", cwd=tmp_path).returncode == 3


def test_web_pages_of_all_origins_need_keys(upstream: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="every web page"):
        check_address(service_config(upstream, server={"cors_origins": ["*"]}))


def test_tls_files_serve_https_and_wrong_ones_are_named(tmp_path: Path, upstream: FaultServer) -> None:
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    line += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    files = {"tls_certificate": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}

    with run(service_config(upstream, server=files)) as service:
        trusted = ssl.create_default_context(cafile=files["tls_certificate"])
        with httpx2.Client(verify=trusted) as client:
            assert service.url.startswith("https://127.0.0.1:")
            assert client.get(f"{service.url}/models").json()["data"][0]["id"] == "best"
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Service(service_config(upstream, server={**files, "tls_key": "missing.pem"}))
