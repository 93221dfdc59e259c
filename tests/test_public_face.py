"""Tests of the public face that users rely on: names, signatures, and an import that touches nothing."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import fields

import pytest

import swift_client
from swift_client import AsyncSwiftReranker, Completion, Selection, SwiftReranker, parse_response, rank

CONSTRUCTOR = {
    "provider": inspect.Parameter.empty,
    "model": None,
    "head": "auto",
    "scorer": "auto",
    "answer": "auto",
    "select": "auto",
    "require_logprobs": "auto",
    "top_logprobs": None,
    "base_url": None,
    "api_key": None,
    "client": None,
    "timeout": 60.0,
    "max_retries": 2,
    "max_concurrency": 16,
}
BEST_OF = {
    "prompt": inspect.Parameter.empty,
    "n": 16,
    "min_completions": 1,
    "deadline": None,
    "seed": None,
    "stopping": None,
    "budget": None,
    "on_reject": "return",
    "response_model": None,
    "reference": None,
    **dict.fromkeys(
        (
            *("temperature", "top_p", "max_tokens", "stop", "presence_penalty", "frequency_penalty", "logit_bias"),
            *("reasoning_effort", "tools", "tool_choice", "response_format", "user", "extra_body"),
        )
    ),
}

LATER = {
    "on_event",
    "max_reply_bytes",
    "redact",
    "keep",
    "prices",
    "store",
    "warm_cache",
    "abort",
    "judge",
    "external",
    "fuse",
    "limit",
} | {"verifier", "similarity", "shadow", "drift"}
"""Arguments of the constructors beyond the fixed ones."""


def defaults(function: object) -> dict[str, object]:
    """Map each parameter of ``function`` but self and **sampling to its default."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name: p.default for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD}


def keyword_only(function: object) -> set[str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_the_public_list_is_exactly_this() -> None:
    assert set(swift_client.__all__) == {
        *("SwiftReranker", "AsyncSwiftReranker", "Cascade", "AsyncCascade", "rank", "parse_response"),
        *(
            "Completion",
            "Candidate",
            "Selection",
            "Usage",
            "Failure",
            "Event",
            "Budget",
            "Price",
            "RateLimit",
            "Verification",
            "Verifier",
            "__version__",
        ),
    }
    assert dir(swift_client) == sorted(swift_client.__all__)
    for name in swift_client.__all__:
        assert getattr(swift_client, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Reranker'"):
        _ = swift_client.Reranker


@pytest.mark.parametrize("face", [SwiftReranker, AsyncSwiftReranker])
def test_constructors_have_the_fixed_signature(face: type) -> None:
    parameters = defaults(face.__init__)

    assert {name: parameters.get(name, "absent") for name in CONSTRUCTOR} == CONSTRUCTOR
    assert list(parameters)[:2] == ["provider", "model"]
    assert keyword_only(face.__init__) == set(parameters) - {"provider", "model"}
    assert set(parameters) - set(CONSTRUCTOR) <= LATER


@pytest.mark.parametrize("face", [SwiftReranker, AsyncSwiftReranker])
def test_best_of_has_the_fixed_signature_and_passes_sampling_fields_on(face: type) -> None:
    signature = inspect.signature(face.best_of)

    assert defaults(face.best_of) == BEST_OF
    assert keyword_only(face.best_of) == set(BEST_OF) - {"prompt", "n"}
    assert any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


@pytest.mark.parametrize("face", [SwiftReranker, AsyncSwiftReranker])
def test_best_of_many_has_the_fixed_signature(face: type) -> None:
    fixed = {"prompts": inspect.Parameter.empty, "n": 16, "in_order": True, "return_exceptions": False}

    assert defaults(face.best_of_many) == {**fixed, "concurrency": None}
    assert keyword_only(face.best_of_many) == {"in_order", "return_exceptions", "concurrency"}


def test_both_faces_have_the_same_names() -> None:
    def names(face: type) -> set[str]:
        return {name for name in dir(face) if not name.startswith("_")}

    assert names(SwiftReranker) - {"close"} == names(AsyncSwiftReranker) - {"aclose", "arank"}
    assert hasattr(SwiftReranker, "__enter__")
    assert hasattr(AsyncSwiftReranker, "__aenter__")


def test_rank_and_parse_response_have_the_fixed_signatures() -> None:
    empty = inspect.Parameter.empty

    assert list(defaults(rank).values()) == [empty, "openai", "mean_logprob", "auto", "auto", *[None] * 6]
    names = ["provider", "scorer", "answer", "select", "response_model", "head", "prompt", "reference", "verifier"]
    names += ["similarity"]
    assert list(defaults(rank))[1:] == names
    assert list(defaults(parse_response).items())[1:] == [
        ("provider", "openai"),
        ("top_logprobs", None),
        ("token_ids", False),
    ]
    assert keyword_only(rank) == set(names)
    assert keyword_only(parse_response) == {"top_logprobs", "token_ids"}


def test_values_have_the_fixed_fields() -> None:
    assert [field.name for field in fields(Completion)] == [
        *("text", "index", "finish_reason", "tokens", "logprobs", "top_logprobs", "censored"),
        *("top_ids", "hidden_states", "projections", "thinking", "tool_calls", "answer_text"),
    ]
    for name in (
        *("text", "score", "probability", "answer", "candidates", "usage", "failures"),
        *("signal", "scorer", "elapsed", "to_dict"),
    ):
        assert name in dir(Selection) or name in {field.name for field in fields(Selection)}


WATCH = """
import json, os, sys
sockets, opened, keys = [], [], []
def hook(event, args):
    if event.startswith("socket."):
        sockets.append(event)
sys.addaudithook(hook)
class Watched(type(os.environ)):
    def __getitem__(self, name):
        keys.append(name)
        return super().__getitem__(name)
os.environ.__class__ = Watched
import swift_client
{more}
os.environ.__class__ = Watched.__mro__[1]
print(json.dumps({{"modules": sorted(sys.modules), "sockets": sockets, "keys": keys}}))
"""
HEAVY = {"openai", "torch", "sklearn", "transformers", "httpx2", "scipy", "pandas"}


def watched(more: str) -> dict[str, list[str]]:
    """Import in a fresh interpreter and return the modules loaded, socket events, and environment names read."""
    script = WATCH.format(more=more)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_importing_the_package_loads_no_provider_sdk_opens_no_socket_and_reads_no_key() -> None:
    report = watched("")

    assert not HEAVY & set(report["modules"])
    assert "numpy" not in report["modules"]
    assert report["sockets"] == []
    assert report["keys"] == []


def test_the_public_names_can_be_reached_without_any_of_it_either() -> None:
    report = watched("for name in swift_client.__all__: getattr(swift_client, name)")

    assert not HEAVY & set(report["modules"])
    assert report["sockets"] == []
    assert not [name for name in report["keys"] if "KEY" in name or "TOKEN" in name or "BASE_URL" in name]


def test_making_a_reranker_reads_no_key_yet() -> None:
    report = watched('swift_client.SwiftReranker("openai")')

    assert "torch" not in report["modules"]
    assert report["sockets"] == []
    assert "OPENAI_API_KEY" not in report["keys"]
