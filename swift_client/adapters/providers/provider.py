"""What a provider is: a row of data. And what travels between a codec and the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, BinaryIO, Literal

from swift_client.types import Completion, Usage


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a provider is known to do. A row is a default: what a reply or a probe shows overrides it."""

    n_max: int | None
    """Completions one call may ask for; 1 means fan-out; None means no known limit."""
    top_logprobs_max: int
    """Longest list of alternatives; 0 means no logprobs at all."""
    logprobs_known: bool = False
    """True where the row itself vouches for logprobs on its default models."""
    streams_logprobs: bool = True
    logprob_space: Literal["raw", "after_temperature", "unknown"] = "unknown"
    """Whether temperature was applied before the logprobs were taken."""
    end_of_turn: Literal["absent", "listed", "unknown"] = "unknown"
    """Whether the end-of-turn token stands among the listed tokens; codecs take it off where it does."""
    thinking: Literal["never", "on_request", "by_default", "always"] = "never"
    """Which requests are answered with hidden reasoning *and therefore* without logprobs; "never" too where a thinking
    model gives them all the same. "by_default": all but those with ``reasoning_effort="none"``."""
    checked: str
    """ISO date on which these facts were last checked."""
    evidence: str = ""
    """Where they come from: recording, source, documentation, probe."""

    def thinks(self, fields: Mapping[str, Any]) -> bool:
        """Whether a request with these fields gets hidden reasoning instead of logprobs."""
        effort = _reasoning_effort(fields)
        if self.thinking == "by_default":
            return effort != "none"
        return self.thinking == "always" or (self.thinking == "on_request" and effort not in (None, "none"))


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider row. An OpenAI-compatible provider is one such row and nothing else."""

    name: str
    base_url: str | None
    """None: the caller gives ``base_url`` (or the client does)."""
    key_variable: str | None
    """Environment variable of the key; None for servers that need none."""
    codec: str
    """Name of the wire format, a key of ``adapters.CODECS``."""
    default_model: str | None
    capabilities: Capabilities
    models: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """(pattern, fields of Capabilities that differ) for families of models, the most specific first; the first that
    matches holds. Patterns are those of :mod:`fnmatch`, in lower case. See :func:`capabilities_of`."""
    logprobs_request: Literal["bool", "int", "none"] = "bool"
    """"bool": ``logprobs: true, top_logprobs: k``; "int": ``logprobs: k``; "none": never sent."""
    extra_body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Fields this provider needs in every request (with the reason beside the row)."""
    base_url_variable: str | None = None
    """Environment variable that overrides ``base_url``, where the ecosystem has one."""
    base_path: str = ""
    """Path that a given address without one gets, where ``base_url`` is None and so shows none."""
    sign_in: Literal["google", "azure"] | None = None
    """Whose library signs in where no key is given; see :mod:`sign_in`."""
    key_header: str = "authorization"
    """Header that carries the key: alone, but for "authorization", where it is "Bearer KEY"."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Headers that go with every request. Like ``key_header`` read only where ``openai_family`` is False."""

    batches: bool = False
    """Whether it runs batches in OpenAI's way; see :mod:`openai_batch`."""

    @property
    def openai_family(self) -> bool:
        """Whether the openai client sends this row's requests, with its own ways to sign in."""
        return self.codec.startswith("openai_")


def capabilities_of(provider: Provider, model: str | None) -> Capabilities:
    """Return what is known of one model: the row's facts, with those of the first pattern that matches its name."""
    name = (model or "").lower().rpartition("models/")[2].removeprefix("ft:")  # as Google and fine-tuning spell it
    different = next((facts for pattern, facts in provider.models if fnmatchcase(name, pattern)), {})
    return replace(provider.capabilities, **different)


def _reasoning_effort(fields: Mapping[str, Any]) -> str | None:
    """Read how much thinking a request asks for, in the spellings of Chat, Responses and OpenRouter, and DeepSeek."""
    reasoning, thinking = fields.get("reasoning"), fields.get("thinking")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else fields.get("reasoning_effort")
    if effort is None and isinstance(thinking, Mapping) and thinking.get("type") in ("disabled", "enabled"):
        effort = "none" if thinking["type"] == "disabled" else "enabled"
    return effort if isinstance(effort, str) else None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A pure description of one HTTP call: nothing here knows the key or the host."""

    method: str
    path: str
    """Relative to the base URL, such as "/chat/completions"."""
    body: Mapping[str, Any]
    n: int
    """How many completions this call asks for."""
    stream: bool = False
    upload: tuple[str, BinaryIO] | None = None
    """Name and content of a file that goes with the fields of ``body``, as a form. Only the openai family sends it."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One parsed reply."""

    completions: tuple[Completion, ...]
    """In the order of the wire index, as many as came (may be fewer or more than asked)."""
    usage: Usage
    """prompt_tokens as reported; completion_tokens counted from tokens where the report cannot be right."""
    model: str | None = None
    notes: tuple[str, ...] = ()
    """One sentence for each irregularity that a user should know (cut reply, fake logprobs, ...)."""
    closed_early: bool = False
    """Whether its stream was closed on purpose before it ended."""
