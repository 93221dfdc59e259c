"""Codec of ``/chat/completions``, the format of OpenAI and of every OpenAI-compatible server."""

from __future__ import annotations

from typing import Any

from swift_client.adapters.codecs.openai_chat.stream import StreamAssembler
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Request

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


def request(call: CompletionRequest) -> Request:
    """Build the request for ``n`` completions; see ``Codec``.

    The body has no ``model`` if neither the caller nor the provider names one, and no ``n`` if it is 1, since some
    servers reject the field.
    """
    body: dict[str, Any] = {"messages": list(call.messages), **call.provider.extra_body}
    if call.model_name:
        body["model"] = call.model_name
    if call.n > 1:
        body["n"] = call.n
    if k := call.n_alternatives:
        body |= {"logprobs": k} if call.provider.logprobs_request == "int" else {"logprobs": True, "top_logprobs": k}
    if call.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return call.post("/chat/completions", {**body, **call.sampling})
