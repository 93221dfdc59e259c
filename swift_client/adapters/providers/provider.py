"""The facts about a provider, and the Request and Reply that codecs and transports exchange."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, Protocol
from urllib.parse import unquote

from swift_client.errors import ProviderError
from swift_client.types import Completion, Usage

# (pattern, fields of Capabilities that differ) for families of models, most specific first.
ModelOverrides = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Known abilities of a provider. They are defaults: what a reply or a probe shows overrides them.

    Attributes:
        n_max: completions that one call may ask for; 1 means one call per completion; None means no known limit.
        top_logprobs_max: longest list of alternatives; 0 means no logprobs at all.
        logprobs_known: True if the entry itself guarantees logprobs on its default models.
        streams_logprobs: whether streamed replies have logprobs too.
        logprob_space: whether temperature was applied before the logprobs were taken.
        end_of_turn: whether the end-of-turn token is among the listed tokens; codecs remove it if so.
        thinking: which requests are answered with hidden reasoning *and therefore* without logprobs; "never" also for
            thinking models that return logprobs all the same. "by_default": all but those with
            ``reasoning_effort="none"``.
        checked: ISO date on which these facts were last checked.
        evidence: their source; the words are explained in ``swift_client.adapters.providers``.
    """

    n_max: int | None
    top_logprobs_max: int
    logprobs_known: bool = False
    streams_logprobs: bool = True
    logprob_space: Literal["raw", "after_temperature", "unknown"] = "unknown"
    end_of_turn: Literal["absent", "listed", "unknown"] = "unknown"
    thinking: Literal["never", "on_request", "by_default", "always"] = "never"
    checked: str
    evidence: str = ""

    def thinks(self, fields: Mapping[str, Any]) -> bool:
        """Return True if a request with these fields gets hidden reasoning instead of logprobs."""
        effort = _reasoning_effort(fields)
        if self.thinking == "by_default":
            return effort != "none"
        return self.thinking == "always" or (self.thinking == "on_request" and effort not in (None, "none"))


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One entry of the provider table. A provider with OpenAI's API is one such entry and nothing else.

    Attributes:
        name: the name that users pass as ``provider=``.
        base_url: None if the caller gives ``base_url`` (or the caller's client does).
        key_variable: environment variable of the key; None for servers that need no key.
        codec: name of the wire format, a key of ``adapters.CODECS``.
        default_model: the model if the caller names none.
        capabilities: what the provider's models can do.
        models: (pattern, fields of Capabilities that differ) for families of models, most specific first; the first
            match counts. Patterns are those of ``fnmatch``, in lower case. See ``capabilities_of()``.
        logprobs_request: "bool": ``logprobs: true, top_logprobs: k``; "int": ``logprobs: k``; "none": never sent.
        extra_body: fields this provider needs in every request (with the reason beside the entry).
        base_url_variable: environment variable that overrides ``base_url``, if the ecosystem has one.
        base_path: path for an address given without one, if ``base_url`` is None and so shows none.
        sign_in: whose library signs in if no key is given; see ``TOKEN_SOURCES`` of
            ``swift_client.adapters.transport.api_key``.
        key_header: header that carries the key: as it is, or as "Bearer KEY" in "authorization".
        headers: headers that go with every request, not shown in the repr. Like ``key_header`` ignored if the caller
            passes ``client=``.
        batches: whether it runs batches as OpenAI does; see ``swift_client.adapters.codecs.openai_batch``.
    """

    name: str
    base_url: str | None
    key_variable: str | None
    codec: str
    default_model: str | None
    capabilities: Capabilities
    models: ModelOverrides = ()
    logprobs_request: Literal["bool", "int", "none"] = "bool"
    extra_body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    base_url_variable: str | None = None
    base_path: str = ""
    sign_in: Literal["google", "azure"] | None = None
    key_header: str = "authorization"
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    batches: bool = False

    def __post_init__(self) -> None:
        """Move user and password from the base URL to the headers, so that no message shows them.

        HTTP clients would send them instead of the key.
        """
        scheme, separator, rest = (self.base_url or "").partition("://")
        host, slash, path = rest.partition("/")
        user, at, host = host.rpartition("@")
        if at:
            credentials = base64.b64encode(unquote(user).encode()).decode()
            object.__setattr__(self, "base_url", f"{scheme}{separator}{host}{slash}{path}")
            object.__setattr__(self, "headers", {"authorization": f"Basic {credentials}", **self.headers})

    @property
    def openai_family(self) -> bool:
        """True if it speaks one of OpenAI's APIs, so that a caller's openai client can send its requests."""
        return self.codec.startswith("openai_")


def capabilities_of(provider: Provider, model: str | None) -> Capabilities:
    """Return the capabilities of one model: the provider's, with those of the first pattern that matches its name."""
    name = (model or "").lower().rpartition("models/")[2].removeprefix("ft:")  # as Google and fine-tuning spell it
    overrides = next((facts for pattern, facts in provider.models if fnmatchcase(name, pattern)), {})
    return replace(provider.capabilities, **overrides)


def _reasoning_effort(fields: Mapping[str, Any]) -> str | None:
    """Read how much thinking a request asks for, in the spellings of Chat, Responses and OpenRouter, and DeepSeek."""
    reasoning, thinking = fields.get("reasoning"), fields.get("thinking")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else fields.get("reasoning_effort")
    if effort is None and isinstance(thinking, Mapping) and thinking.get("type") in ("disabled", "enabled"):
        effort = "none" if thinking["type"] == "disabled" else "enabled"
    return effort if isinstance(effort, str) else None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP call as data. It has neither the key nor the host.

    Attributes:
        method: "GET" or "POST".
        path: relative to the base URL, such as "/chat/completions".
        body: the JSON body, or the fields of the form if there is an ``upload``.
        n: completions this call asks for.
        stream: whether the reply is streamed.
        upload: name and content of a file sent as a form together with the fields of ``body``.
    """

    method: str
    path: str
    body: Mapping[str, Any]
    n: int
    stream: bool = False
    upload: tuple[str, BinaryIO] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One parsed reply.

    Attributes:
        completions: in the order of the wire index, as many as arrived (may be fewer or more than requested).
        usage: prompt_tokens as reported; completion_tokens counted from tokens if the report cannot be right.
        model: the model that the reply names.
        system_fingerprint: the configuration of the server that answered, as OpenAI and llama.cpp name it.
        notes: one sentence for each irregularity that a user should know about (cut reply, fake logprobs, ...).
        closed_early: whether its stream was closed on purpose before it ended.
        error: the error that ended its completions of finish reason "error", if the server sent one.
    """

    completions: tuple[Completion, ...]
    usage: Usage
    model: str | None = None
    system_fingerprint: str | None = None
    notes: tuple[str, ...] = ()
    closed_early: bool = False
    error: ProviderError | None = None


class LocalServer(Protocol):
    """A server that this process starts itself, at the first request."""

    def start(self) -> str:
        """Start the server unless it is running, and return its base URL."""

    def close(self) -> None:
        """Stop it."""
