"""Names of sampling fields: which are sent untouched, and which are refused before anything is sent."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Cascade, SwiftReranker
from swift_client.collect.collect import collect
from swift_client.errors import ConfigurationError
from swift_client.sampling.field_names import KNOWN_FIELDS, find_similar
from swift_client.store import SampleStore, StoredQuestion
from tests.servers import FaultServer

CONSTRUCTOR = sorted(set(inspect.signature(SwiftReranker.__init__).parameters) - {"self"})
RESERVED = ("verifier", "similarity", "redact", "max_reply_bytes")
TYPOS = {
    "temprature": "temperature",
    "temperautre": "temperature",
    "Temperature": "temperature",
    "N": "n",
    "max_token": "max_tokens",
    "maxTokens": "max_tokens",
    "max-tokens": "max_tokens",
    "topp": "top_p",
    "stpo": "stop",
    "reasonning_effort": "reasoning_effort",
    "repetion_penalty": "repetition_penalty",
    "chat_template_kwarg": "chat_template_kwargs",
    "enable_thnking": "enable_thinking",
    "timout": "timeout",
    "api_kye": "api_key",
    "deadlin": "deadline",
    "min_completion": "min_completions",
    "systm": "system",
}
VALUES: dict[str, Any] = {
    **dict.fromkeys(("top_k", "min_tokens", "best_of", "n_predict", "thinking_budget"), 3),
    **dict.fromkeys(("min_p", "repetition_penalty", "typical_p"), 0.5),
    **dict.fromkeys(("enable_thinking", "ignore_eos", "mode", "mood", "style", "x", "my_field"), True),
    **{name: {"a": 1} for name in ("metadata", "chat_template_kwargs", "generationConfig", "structured_outputs")},
}
"""Known fields of several providers, and names that nobody knows."""


def reranker(server: FaultServer) -> SwiftReranker:
    return SwiftReranker("openai-compatible", "m", base_url=server.url, max_retries=0)


@pytest.mark.parametrize("name", [*CONSTRUCTOR, *RESERVED])
def test_an_argument_of_the_constructor_is_refused_with_a_hint_and_nothing_is_sent(
    name: str, fault_server: FaultServer
) -> None:
    with reranker(fault_server) as client, pytest.raises(ConfigurationError, match=f"'{name}' is not a samp") as info:
        client.best_of("q", n=2, **{name: None})

    assert "reranker" in info.value.hint.lower()
    assert "extra_body" in info.value.hint
    assert fault_server.requests == []


@pytest.mark.parametrize(("typo", "name"), TYPOS.items())
def test_a_misspelled_field_is_refused_with_the_name_that_was_meant(
    typo: str, name: str, fault_server: FaultServer
) -> None:
    with reranker(fault_server) as client, pytest.raises(ConfigurationError, match=f"'{typo}'.* mean '{name}'"):
        client.best_of("q", n=2, **{typo: 1})

    assert fault_server.requests == []


def test_a_system_prompt_is_a_message(fault_server: FaultServer) -> None:
    with reranker(fault_server) as client, pytest.raises(ConfigurationError, match='"role": "system"'):
        client.best_of("q", n=2, system="Be brief.")

    assert fault_server.requests == []


def test_known_fields_of_any_provider_and_unknown_names_are_sent_untouched(fault_server: FaultServer) -> None:
    with reranker(fault_server) as client:
        client.best_of("q", n=2, **VALUES)

    body = fault_server.requests[0].json
    assert {name: body[name] for name in VALUES} == VALUES


def test_named_fields_are_sent_as_they_are_and_none_is_not_sent(fault_server: FaultServer) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.0, "top_p": 0.5, "max_tokens": 9, "stop": ["\n"], "presence_penalty": 0.1,
        "frequency_penalty": 0, "logit_bias": {"1": -100}, "reasoning_effort": "low", "tools": [], "user": "u",
        "tool_choice": "auto", "response_format": {"type": "json_object"},
    }  # fmt: skip
    with reranker(fault_server) as client:
        client.best_of("q", n=2, **fields)
        client.best_of("q", n=2, **dict.fromkeys(fields))

    given, absent = (request.json for request in fault_server.requests)
    assert {name: given[name] for name in fields} == fields
    assert not fields.keys() & absent.keys()


def test_extra_body_sends_what_is_refused_otherwise(fault_server: FaultServer) -> None:
    fields = {"store": True, "provider": {"only": ["x"]}, "temprature": 1, "system": "s", "verifier": None}
    with reranker(fault_server) as client:
        client.best_of("q", n=2, temperature=0.5, extra_body={**fields, "temperature": 0.7})

    body = fault_server.requests[0].json
    assert {name: body[name] for name in fields} == fields
    assert body["temperature"] == 0.7


@pytest.mark.parametrize("extra_body", [[("store", True)], "store=1", {1: 2}, {"n": 3}, {"stream": True}])
def test_a_wrong_extra_body_is_one_clear_error(extra_body: Any, fault_server: FaultServer) -> None:
    with reranker(fault_server) as client, pytest.raises(ConfigurationError, match="extra_body"):
        client.best_of("q", n=2, extra_body=extra_body)

    assert fault_server.requests == []


async def test_the_async_client_checks_names_too(fault_server: FaultServer) -> None:
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as client:
        with pytest.raises(ConfigurationError, match="mean 'temperature'"):
            await client.best_of("q", n=2, temprature=1)
        await client.best_of("q", n=2, extra_body={"store": True}, temperature=0.5)

    assert [request.json["store"] for request in fault_server.requests] == [True]


def test_collect_checks_names_and_takes_extra_body(fault_server: FaultServer, tmp_path: Path) -> None:
    def ask(out: str, **fields: Any) -> None:
        questions = [StoredQuestion(id="a", messages=({"role": "user", "content": "2 + 2?"},), answer="4")]
        collect(
            questions, tmp_path / out, provider="openai-compatible", model="m", base_url=fault_server.url, n=2,
            require_logprobs=False, **fields,
        )  # fmt: skip

    for name in ("temprature", "head", "similarity", "stopping", "system"):
        with pytest.raises(ConfigurationError, match=f"'{name}' is not a sampling field"):
            ask("refused.db", **{name: 1})
    assert fault_server.requests == []
    assert not (tmp_path / "refused.db").exists()

    ask("s.db", top_k=5, extra_body={"store": True})
    assert [(request.json["top_k"], request.json["store"]) for request in fault_server.requests] == [(5, True)]
    with SampleStore(tmp_path / "s.db") as store:
        assert store.meta.sampling == {"top_k": 5, "store": True}


def test_every_known_name_is_similar_to_itself_with_one_letter_less() -> None:
    missed = [name for name in KNOWN_FIELDS if len(name) > 2 and find_similar(name[:-1]) is None]

    assert missed == []


def test_cascades_take_the_fields_of_a_reranker() -> None:
    assert inspect.signature(Cascade.best_of) == inspect.signature(SwiftReranker.best_of)


def test_an_absurdly_long_name_is_compared_at_once() -> None:
    assert find_similar("temperature" * 100_000) is None
