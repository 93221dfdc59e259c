"""Codec of Google's ``generateContent``, on AI Studio and on Vertex AI; the two differ in address and key only.

:func:`request` builds the call, :func:`parse` and :func:`parse_steps` read a whole reply, :class:`StreamAssembler` a
streamed one. https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from swift_client.adapters.codecs.gemini.response import StreamAssembler
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

_TOP_LEVEL_FIELDS = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "labels", "store"}
)
"""Fields of the request that stand beside ``generationConfig``; all others are part of it."""

_FIELD_ALIASES = {
    "max_tokens": "maxOutputTokens", "max_completion_tokens": "maxOutputTokens", "top_p": "topP", "top_k": "topK",
    "stop": "stopSequences", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}  # fmt: skip
"""OpenAI's names of fields that mean the same here."""

_ROLES = {"user": "user", "assistant": "model", "model": "model"}


def request(
    provider: Provider,
    model: str | None,
    messages: Sequence[Message],
    *,
    n: int,
    top_logprobs: int | None,
    stream: bool = False,
    sampling: Mapping[str, Any] = MappingProxyType({}),
) -> Request:
    """Describe the call that asks for ``n`` candidates.

    Args:
        provider: the row.
        model: "gemini-2.5-flash", or a path such as "tunedModels/mine"; None means the row's default model.
        messages: chat messages; "system" and "developer" ones become the system instruction. A message with ``parts``
            is Google's own and is sent as it is.
        n: candidates to ask for; the field is left out for 1.
        top_logprobs: length of the lists of alternatives; None asks for no logprobs at all.
        stream: whether the reply comes as server-sent events.
        sampling: further fields by Google's name or by OpenAI's where the two mean the same (``max_tokens``); they win.

    Raises:
        ConfigurationError: no model, or a message that has no equal here.
    """
    model = model or provider.default_model
    if not model:
        raise ConfigurationError("A call to generateContent names its model.", hint="Pass model=.")
    config: dict[str, Any] = {"candidateCount": n} if n > 1 else {}
    if top_logprobs is not None and provider.logprobs_request != "none":
        config |= {"responseLogprobs": True, "logprobs": max(top_logprobs, 1)}
    body = _build_contents(messages) | dict(provider.extra_body)
    for name, value in sampling.items():
        if name in _TOP_LEVEL_FIELDS:
            body[name] = value
        elif name == "generationConfig":
            config |= value
        else:
            name = _FIELD_ALIASES.get(name, name)
            config[name] = [value] if name == "stopSequences" and isinstance(value, str) else value
    if config:
        body["generationConfig"] = {**body.get("generationConfig", {}), **config}
    where = quote(model if "/" in model else f"models/{model}", safe="/")
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return Request(method="POST", path=f"/{where}:{verb}", body=body, n=n, stream=stream)


def parse(data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
    """Decode a whole reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False
) -> Generator[None, None, Reply]:
    """Decode a whole reply, yielding after each candidate so that an event loop can breathe.

    Args:
        data: the body of a 200: one object, a list of a stream's objects, or the server-sent events of a stream.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.

    Raises:
        ResponseDecodeError: the bytes are no such reply, and hold no whole candidate.
        ProviderError: the 200 holds an error, or Google blocked the prompt.
    """
    return StreamAssembler(top_logprobs=top_logprobs, token_ids=token_ids).parse_steps(data)


def _build_contents(messages: Sequence[Message]) -> dict[str, Any]:
    contents: list[Any] = []
    system: list[Any] = []
    for message in messages:
        role = message.get("role", "user")
        parts = message["parts"] if "parts" in message else _to_parts(message.get("content"))
        if role in ("system", "developer"):
            system += parts
        elif role in _ROLES or "parts" in message:
            contents.append({"role": _ROLES.get(role, role), "parts": parts})
        else:
            raise ConfigurationError(
                f"A message of role {role!r} has no equal in Google's format.",
                hint='Write it in Google\'s own: {"role": ..., "parts": [...]}.',
            )
    return {"contents": contents, **({"systemInstruction": {"parts": system}} if system else {})}


def _to_parts(content: object) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content}]
    parts = []
    for part in content if isinstance(content, list) else [content]:
        if not (isinstance(part, dict) and part.get("type", "text") == "text"):
            raise ConfigurationError(
                "A message's content that is no text has no equal in Google's format.",
                hint='Write it in Google\'s own: {"role": "user", "parts": [{"inlineData": ...}]}.',
            )
        parts.append({"text": part["text"]} if "type" in part else part)
    return parts
