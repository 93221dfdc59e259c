"""Codec of ``/chat/completions``, the format of OpenAI and of every OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.openai_chat.stream import StreamAssembler
from swift_client.adapters.providers.provider import Provider, Request
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


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
    """Build the request for ``n`` completions; see :class:`~swift_client.adapters.codecs.Codec`.

    The body has no ``model`` if neither the caller nor the provider names one, and no ``n`` if it is 1, since some
    servers reject the field.
    """
    body: dict[str, Any] = {"messages": list(messages), **provider.extra_body}
    if model or provider.default_model:
        body["model"] = model or provider.default_model
    if n > 1:
        body["n"] = n
    if top_logprobs is not None and provider.logprobs_request != "none":
        # Never 0 or null: llama.cpp and vLLM then send no logprobs at all (vllm#47838).
        k = max(top_logprobs, 1)
        body |= {"logprobs": k} if provider.logprobs_request == "int" else {"logprobs": True, "top_logprobs": k}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Request(method="POST", path="/chat/completions", body={**body, **sampling}, n=n, stream=stream)
