"""Tests of signing in to Vertex and Azure with their real libraries, against token endpoints on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker
from swift_client.adapters import PROVIDERS, resolve
from swift_client.adapters.transport.api_key import ApiKeySource, azure_token_source, google_token_source
from swift_client.errors import ConnectionFailedError, MissingApiKeyError, MissingExtraError
from tests.servers import FaultServer, Received, Response, chat, json_response

pytest.importorskip("google.auth")
pytest.importorskip("azure.identity")


def account(folder: Path, token_uri: str) -> Path:
    """Write a service account's file, with a key made here."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    facts = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": key.decode()}
    path = folder / "account.json"
    path.write_text(json.dumps({**facts, "client_email": "me@p.iam.gserviceaccount.com", "token_uri": token_uri}))
    return path


def cloud(tokens: list[str], *, life: int = 3600) -> Callable[[Received], Response]:
    """Return tokens in turn at /token, and answer every other request as Gemini or chat."""

    def serve(request: Received) -> Response:
        if request.path.startswith("/token"):
            return json_response({"access_token": tokens.pop(0), "expires_in": life, "token_type": "Bearer"})
        if request.path.startswith("/msi"):
            expires = str(int(time.time()) + life)
            return json_response({"access_token": tokens.pop(0), "expires_on": expires, "token_type": "Bearer"})
        if "generateContent" in request.path:
            part = {"content": {"parts": [{"text": "4"}]}, "finishReason": "STOP"}
            return json_response({"candidates": [part] * request.json["generationConfig"]["candidateCount"]})
        return chat(["4"] * request.json["n"], k=2)

    return serve


def sent_tokens(server: FaultServer) -> list[str | None]:
    return [
        request.headers.get("authorization")
        for request in server.requests
        if not request.path.startswith(("/token", "/msi"))
    ]


async def test_vertex_signs_in_with_a_service_account_and_asks_for_one_token_for_many_calls(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve(cloud(["ya29.first"]))
    root = fault_server.url.removesuffix("/v1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path, f"{root}/token")))
    async with AsyncSwiftReranker("vertex", base_url=f"{root}/v1/projects/p", top_logprobs=2) as reranker:
        selections = await asyncio.gather(*(reranker.best_of("2 + 2?", n=2) for _ in range(4)))
    assert {selection.text for selection in selections} == {"4"}
    assert sent_tokens(fault_server) == ["Bearer ya29.first"] * 4


async def test_a_token_is_renewed_before_it_ends(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve(cloud(["one", "two", "three"], life=120))  # shorter than google-auth's margin of 225 s
    root = fault_server.url.removesuffix("/v1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path, f"{root}/token")))
    key = ApiKeySource(PROVIDERS["vertex"], None)
    assert [await key.read(), await key.read()] == ["one", "two"]


class Credentials:
    """A stand-in for google-auth's credentials, with a clock of its own."""

    def __init__(self) -> None:
        self.token, self.valid, self.threads = "old", False, list[str]()

    def refresh(self, request: object) -> None:
        self.threads.append(threading.current_thread().name)
        time.sleep(0.05)
        self.token, self.valid = f"new-{len(self.threads)}", True


async def test_calls_that_start_together_share_one_renewal_which_never_holds_the_loop() -> None:
    credentials = Credentials()
    key = ApiKeySource(PROVIDERS["vertex"], google_token_source(credentials))
    assert set(await asyncio.gather(*(key.read() for _ in range(16)))) == {"new-1"}
    assert len(credentials.threads) == 1
    assert "MainThread" not in credentials.threads


async def test_azure_signs_in_with_a_managed_identity(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve(cloud(["entra"]))
    root = fault_server.url.removesuffix("/v1")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{root}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    async with AsyncSwiftReranker("azure", "gpt-4.1-mini", base_url=f"{root}/openai/v1") as reranker:
        for _ in range(2):
            assert (await reranker.best_of("2 + 2?", n=2)).signal == "logprobs:k=2"
    assert sent_tokens(fault_server) == ["Bearer entra"] * 2
    identity_request = next(request for request in fault_server.requests if request.path.startswith("/msi"))
    assert "cognitiveservices.azure.com" in identity_request.path


async def test_a_credential_of_your_own_is_asked_for_the_right_scope() -> None:
    class Mine:
        def get_token(self, *scopes: str) -> Any:
            assert scopes == ("https://cognitiveservices.azure.com/.default",)
            return type("Token", (), {"token": "mine"})()

    assert await ApiKeySource(PROVIDERS["azure"], azure_token_source(Mine())).read() == "mine"


@pytest.mark.parametrize("name", ["vertex", "azure"])
async def test_a_key_that_is_given_or_set_wins_over_signing_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = PROVIDERS[name]
    assert await ApiKeySource(row, "given").read() == "given"
    monkeypatch.setenv(str(row.key_variable), "set")
    assert await ApiKeySource(row, None).read() == "set"
    assert await ApiKeySource(row, "given").read() == "given"


async def test_without_credentials_the_error_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(MissingApiKeyError, match="gcloud auth application-default login"):
        await ApiKeySource(PROVIDERS["vertex"], None).read()


async def test_an_unreachable_token_endpoint_is_a_failed_connection_that_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path, "http://127.0.0.1:9/token")))
    with pytest.raises(ConnectionFailedError) as excinfo:
        await ApiKeySource(PROVIDERS["vertex"], None).read()
    assert excinfo.value.retryable


async def test_a_refused_sign_in_keeps_the_clouds_words(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve(lambda request: json_response({"error": "invalid_grant", "error_description": "No such"}, 400))
    uri = fault_server.url.removesuffix("/v1") + "/token"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path, uri)))
    with pytest.raises(MissingApiKeyError, match="No such"):
        await ApiKeySource(PROVIDERS["vertex"], None).read()


@pytest.mark.parametrize(("name", "module"), [("vertex", "google.auth"), ("azure", "azure.identity")])
async def test_a_missing_library_is_named_with_its_extra(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'swift-client\[{name}\]'"):
        await ApiKeySource(PROVIDERS[name], None).read()


def test_the_project_in_the_environment_is_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    world = "https://aiplatform.googleapis.com/v1/projects/mine/locations/global/publishers/google"
    assert resolve("vertex")[0].base_url == world
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
    address = "https://europe-west4-aiplatform.googleapis.com/v1/projects/mine/locations/europe-west4/publishers/google"
    assert resolve("vertex")[0].base_url == address
    assert resolve("vertex", base_url="http://gpu/x")[0].base_url == "http://gpu/x"
    assert resolve("gemini")[0].base_url == PROVIDERS["gemini"].base_url


def test_nothing_of_it_is_imported_before_a_token_is_needed() -> None:
    code = (
        "import sys, swift_client, swift_client.adapters as a\n"
        "for name in ('azure', 'vertex'): a.connect(name, a.resolve(name, 'm', 'http://127.0.0.1:9/x')[0])\n"
        "print([m for m in ('google.auth', 'azure.identity', 'requests') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.stdout.strip() == "[]", run.stderr


async def test_a_row_of_your_own_without_a_key_variable_may_sign_in_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    row = replace(PROVIDERS["openai-compatible"], name="gateway", sign_in="google")
    with pytest.raises(MissingApiKeyError, match="Google"):
        await ApiKeySource(row, None).read()
