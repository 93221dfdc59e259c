from __future__ import annotations

import datetime
import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from swift_client.adapters import CODECS, PROVIDERS, CustomTransport, Provider, Request, connect, resolve
from swift_client.adapters.providers.toml_table import load_providers
from swift_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    LogprobsUnavailableError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    UnknownProviderError,
)
from swift_client.types import Completion, Message

EXPECTED = {
    *("openai", "azure", "pocket", "smollm2", "vllm", "sglang", "llamacpp", "ollama", "lmstudio", "together"),
    *("fireworks", "deepseek", "xai", "openrouter", "openai-compatible", "openai-completions", "openai-responses"),
    *("gemini", "vertex", "anthropic", "mistral", "cohere", "moonshot", "perplexity", "groq", "cerebras"),
    *("sambanova", "dashscope", "databricks", "nim", "bedrock", "llama-cpp-python", "tgi", "huggingface"),
}
ADDRESS_GIVEN_ELSEWHERE = {"azure", "pocket", "smollm2", "openai-compatible", "vertex", "databricks", "bedrock"}
ADDRESS_GIVEN_ELSEWHERE |= {"huggingface"}
KEYLESS = {"pocket", "smollm2", "vllm", "sglang", "llamacpp", "ollama", "lmstudio", "openai-compatible", "tgi"}
KEYLESS |= {"llama-cpp-python", "huggingface"}


def test_the_table_has_every_promised_provider() -> None:
    assert set(PROVIDERS) == EXPECTED


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)
def test_every_row_has_an_address_a_key_a_codec_and_dated_evidence(row: Provider) -> None:
    assert (row.base_url is None) == (row.name in ADDRESS_GIVEN_ELSEWHERE)
    if row.base_url:
        parts = urlsplit(row.base_url)
        assert parts.scheme == "http" if parts.hostname == "localhost" else parts.scheme == "https"
        assert not row.base_url.endswith("/")
    assert (row.key_variable is None) == (row.name in KEYLESS)
    assert importlib.util.find_spec(CODECS[row.codec])
    assert datetime.date.fromisoformat(row.capabilities.checked) >= datetime.date(2026, 8, 1)
    assert row.capabilities.evidence
    assert 0 <= row.capabilities.top_logprobs_max <= 20
    with pytest.raises(TypeError):
        row.extra_body["x"] = 1  # type: ignore[index]


ENTRY = """
checked = "2026-11-01"

[shared.short_lists]
top_logprobs_max = 5
evidence = "probe"

[acme]
base_url = "https://api.acme.test/v1"
top_logprobs_max = 20
evidence = "documentation"

[[acme.models]]
match = ["small*", "old*"]
like = "short_lists"
thinking = "always"
"""


def load(folder: Path, text: str) -> Mapping[str, Provider]:
    path = folder / "table.toml"
    path.write_text(text)
    return load_providers(str(path), earlier={"openai": PROVIDERS["openai"]})


def test_an_entry_says_only_what_differs(tmp_path: Path) -> None:
    acme = load(tmp_path, ENTRY)["acme"]
    assert (acme.codec, acme.key_variable, acme.capabilities.n_max) == ("openai_chat", None, None)
    assert acme.capabilities.checked == "2026-11-01"
    facts = {"checked": "2026-11-01", "top_logprobs_max": 5, "evidence": "probe", "thinking": "always"}
    assert acme.models == (("small*", facts), ("old*", facts))


def test_a_gateway_has_the_models_of_an_earlier_provider_with_its_prefix_before_its_own(tmp_path: Path) -> None:
    gateway = '[gateway]\nmodels_from = "acme"\nmodels_prefix = "a/"\ntop_logprobs_max = 1\nevidence = "prior"\n'
    own = '[[gateway.models]]\nmatch = "own*"\nn_max = 1\nevidence = "prior"\n'
    models = load(tmp_path, ENTRY + gateway + own)["gateway"].models
    assert [pattern for pattern, _ in models] == ["a/small*", "a/old*", "own*"]
    openai = load(tmp_path, ENTRY + gateway.replace('"acme"', '"openai"'))["gateway"].models
    assert openai == tuple(("a/" + pattern, facts) for pattern, facts in PROVIDERS["openai"].models)


@pytest.mark.parametrize(
    ("text", "changed", "problem"),
    [
        ("base_url =", "base_ulr =", "Unknown key 'base_ulr'"),
        ("thinking =", "thinks =", "Unknown key 'thinks'"),
        ("thinking =", "codec =", "Unknown key 'codec'"),  # a family of models differs in capabilities only
        ("like =", "models_from =", "Unknown key 'models_from'"),
        ("[acme]\n", '[acme]\nname = "other"\n', "Unknown key 'name'"),
        ("[acme]\n", "[acme]\ncapabilities = {}\n", "Unknown key 'capabilities'"),
        ('evidence = "documentation"', "", "The key 'evidence' is missing"),
        ("top_logprobs_max = 20", "", "Object missing required field `top_logprobs_max`"),
        ('like = "short_lists"', "", "The key 'evidence' is missing"),
        ('match = ["small*", "old*"]', "", "Object missing required field `match`"),
        (
            'match = ["small*", "old*"]',
            "match = 1",
            r"Expected `str \| array`, got `int` - at `\$\.models\[0\]\.match`",
        ),
        (
            "top_logprobs_max = 20",
            'top_logprobs_max = "20"',
            r"Expected `int`, got `str` - at `\$\.capabilities\.top_logprobs_max`",
        ),
        ('thinking = "always"', 'thinking = "often"', r"Invalid enum value 'often' - at `\$\.thinking`"),
        ("[acme]\n", "[acme]\nmodels_prefix = 1\n", r"Expected `str`, got `int` - at `\$\.models_prefix`"),
        ('like = "short_lists"', "like = []", r"Expected `str`, got `array` - at `\$\.models\[0\]\.like`"),
        ('like = "short_lists"', 'like = "long_lists"', "'like' names 'long_lists', which is not there or comes later"),
        ("[acme]\n", '[acme]\nmodels_from = "beta"\n', "'models_from' names 'beta', which is not there or comes later"),
    ],
)
def test_a_wrong_entry_is_an_error_that_names_file_provider_and_key(
    tmp_path: Path, text: str, changed: str, problem: str
) -> None:
    assert ENTRY.count(text) == 1
    with pytest.raises(ConfigurationError, match=rf"table\.toml: .*'acme'.*{problem}") as error:
        load(tmp_path, ENTRY.replace(text, changed))
    assert error.value.provider == "acme"


def test_a_key_outside_the_entries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"table\.toml: .*'date'.*Expected `object`, got `str`"):
        load(tmp_path, 'date = "2026-11-01"\n' + ENTRY)


@pytest.mark.parametrize(
    ("name", "model", "provider", "expected_model"),
    [
        ("openai", None, "openai", "gpt-4.1-mini"),
        ("openai", "gpt-4o", "openai", "gpt-4o"),
        ("openai/gpt-4o", None, "openai", "gpt-4o"),
        ("openai:gpt-4o", None, "openai", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o", "openai", "gpt-4o"),
        ("openrouter/meta-llama/llama-3", None, "openrouter", "meta-llama/llama-3"),
        ("openrouter", "meta-llama/llama-3:free", "openrouter", "meta-llama/llama-3:free"),
        ("ollama:llama3.2:1b", None, "ollama", "llama3.2:1b"),
        ("ollama/hf.co/x:Q4", None, "ollama", "hf.co/x:Q4"),
        ("pocket", None, "pocket", "pocket"),
        ("smollm2", None, "smollm2", "SmolLM2-135M-Instruct.Q4_1"),
    ],
)
def test_names_and_models_resolve_in_every_spelling(
    name: str, model: str | None, provider: str, expected_model: str
) -> None:
    row, got = resolve(name, model)
    assert (row.name, got) == (provider, expected_model)


def test_two_different_models_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="Two models"):
        resolve("openai/gpt-4o", "gpt-4.1")


@pytest.mark.parametrize(("name", "near"), [("opanai", "openai"), ("OpenAI", "openai"), ("llama.cpp", "llamacpp")])
def test_an_unknown_name_lists_near_ones_and_the_command(name: str, near: str) -> None:
    with pytest.raises(UnknownProviderError) as excinfo:
        resolve(name, "m")
    assert repr(near) in str(excinfo.value)
    assert "swift-client providers" in str(excinfo.value)


@pytest.mark.parametrize("name", ["", "/", "zzz", "💥", "x" * 1000])
def test_nonsense_names_are_unknown_providers(name: str) -> None:
    with pytest.raises(UnknownProviderError):
        resolve(name, "m")


def test_an_address_in_place_of_a_name_is_explained() -> None:
    with pytest.raises(ConfigurationError, match=r"not a provider.*openai-compatible"):
        resolve("http://localhost:8000/v1", "m")


def test_a_row_without_default_model_asks_for_one() -> None:
    with pytest.raises(ConfigurationError, match=r"no default model.*vllm/MODEL"):
        resolve("vllm")


@pytest.mark.parametrize(
    ("name", "base_url", "address"),
    [
        ("vllm", None, "http://localhost:8000/v1"),
        ("vllm", "http://gpu:9", "http://gpu:9/v1"),
        ("vllm", "http://gpu:9/", "http://gpu:9/v1"),
        ("vllm", "http://gpu:9/v1/chat/completions", "http://gpu:9/v1"),
        ("openai-compatible", "http://gpu:9", "http://gpu:9"),
        ("openai-completions", "http://gpu:9/v1/completions", "http://gpu:9/v1"),
        ("anthropic", "http://gpu:9/v1/messages", "http://gpu:9/v1"),
        ("gemini", "http://gpu:9", "http://gpu:9/v1beta"),
        ("vertex", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/",
         "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"),
        ("azure", "https://me.openai.azure.com/", "https://me.openai.azure.com/openai/v1"),
        ("azure", "https://me.openai.azure.com/openai/v1/", "https://me.openai.azure.com/openai/v1"),
        ("pocket", "http://127.0.0.1:5/v1", "http://127.0.0.1:5/v1"),
        ("databricks", "https://me.cloud.databricks.com", "https://me.cloud.databricks.com/serving-endpoints"),
        ("bedrock", "https://bedrock-mantle.eu-west-1.api.aws", "https://bedrock-mantle.eu-west-1.api.aws/v1"),
    ],
)  # fmt: skip
def test_addresses_are_completed_and_never_rewritten(name: str, base_url: str | None, address: str) -> None:
    assert resolve(name, "m", base_url)[0].base_url == address


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://x", "http://", "nonsense"])
def test_anything_but_an_address_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ConfigurationError, match="not an address"):
        resolve("vllm", "m", address)


@pytest.mark.parametrize(
    ("name", "variable", "value", "address"),
    [
        ("openai", "OPENAI_BASE_URL", "http://proxy/v1", "http://proxy/v1"),
        ("azure", "AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1"),
        ("ollama", "OLLAMA_HOST", "0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("ollama", "OLLAMA_HOST", "gpu:1234", "http://gpu:1234/v1"),
        ("ollama", "OLLAMA_HOST", "https://gpu", "https://gpu/v1"),
        ("vllm", "OPENAI_BASE_URL", "http://proxy/v1", "http://localhost:8000/v1"),
    ],
)
def test_the_ecosystems_variables_move_the_address_of_their_own_provider_only(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str, address: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert resolve(name, "m")[0].base_url == address
    assert resolve(name, "m", "http://mine/v1")[0].base_url == "http://mine/v1"


@pytest.mark.parametrize("name", ["azure", "openai-compatible"])
def test_a_row_without_address_asks_for_one(name: str) -> None:
    with pytest.raises(ConfigurationError, match="needs an address"):
        connect(name, resolve(name, "m")[0])


def test_a_row_of_your_own_is_a_provider() -> None:
    provider = Provider(
        name="mine",
        base_url="http://mine/v1",
        key_variable=None,
        codec="openai_chat",
        default_model="m",
        capabilities=PROVIDERS["vllm"].capabilities,
    )
    assert resolve(provider) == (provider, "m")


def test_importing_the_adapters_loads_no_client_library_and_reads_no_key() -> None:
    code = (
        "import sys, os, swift_client.adapters as a\n"
        "a.connect('openai', a.resolve('openai')[0])\n"
        "print([m for m in ('openai', 'httpx2', 'torch', 'pydantic') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.stdout.strip() == "[]", run.stderr


REQUEST = Request(
    method="POST",
    path="/chat/completions",
    body={"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "temperature": 0.5},
    n=2,
)


class Mine:
    name = "mine"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def complete(self, messages: list[Message], n: int, **options: Any) -> Any:
        self.calls.append((messages, n, options))
        return [Completion(text="a"), Completion(text="b", index=1)]


async def test_an_object_of_your_own_gets_messages_n_and_the_other_fields() -> None:
    client = Mine()
    row, model = resolve(client, "m")
    transport = connect(client, row)
    assert isinstance(transport, CustomTransport)
    reply = await transport.send(REQUEST)
    assert [completion.text for completion in reply if isinstance(completion, Completion)] == ["a", "b"]
    assert client.calls == [([{"role": "user", "content": "hi"}], 2, {"model": "m", "temperature": 0.5})]
    assert (row.name, model) == ("mine", "m")


async def test_a_plain_function_that_returns_a_dict_works_in_a_thread() -> None:
    class Plain:
        def complete(self, messages: list[Message], n: int, **options: Any) -> Any:
            return {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}

    reply = await connect(Plain(), resolve(Plain())[0]).send(REQUEST)
    assert isinstance(reply, bytes)
    assert b'"a"' in reply


class Status(Exception):
    status_code = 429


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError("no"), ProviderError),
        (KeyError("x"), ProviderError),
        (TimeoutError(), RequestTimeoutError),
        (ConnectionResetError("gone"), ConnectionFailedError),
        (Status("slow down"), RateLimitError),
        (LogprobsUnavailableError("none here"), LogprobsUnavailableError),
    ],
)
async def test_what_an_object_of_your_own_raises_becomes_one_of_our_errors(
    raised: Exception, kind: type[Exception]
) -> None:
    class Broken:
        async def complete(self, messages: list[Message], n: int, **options: Any) -> Any:
            raise raised

    with pytest.raises(kind) as excinfo:
        await connect(Broken(), resolve(Broken())[0]).send(REQUEST)
    assert excinfo.value.__context__ is None


def test_settings_that_an_object_of_your_own_cannot_use_are_refused_and_not_dropped() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        resolve(Mine(), "m", "http://localhost/v1")
    with pytest.raises(ConfigurationError, match="api_key"):
        connect(Mine(), resolve(Mine())[0], api_key="k")


@pytest.mark.parametrize(
    "wrong", [object(), 5, None, type("NoOptions", (), {"complete": lambda self, messages, n: []})()]
)
def test_objects_that_cannot_complete_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="options"):
        resolve(wrong)
