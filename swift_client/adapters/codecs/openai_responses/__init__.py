"""Codec of ``/responses``, the only API of some of OpenAI's models; prefer ``/chat/completions`` for the others.

It has no ``n`` and no ``seed``, and its final objects have logprobs rounded to six decimals; :mod:`.response` takes the
exact ones from a stream. https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.openai_responses.response import StreamAssembler
from swift_client.adapters.providers.provider import Provider, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

_LOGPROBS_INCLUDE = "message.output_text.logprobs"
# Chat's names of fields with the same meaning.
_FIELD_ALIASES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}

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
    """Build the request for one answer; see :class:`~swift_client.adapters.codecs.Codec`.

    Text parts of messages, and sampling fields with chat's names (``max_tokens``), are renamed to this format's. The
    caller's ``include`` is kept beside the one that asks for logprobs.

    Raises:
        ConfigurationError: ``seed`` is given, which the API does not have.
    """
    if "seed" in sampling:
        raise ConfigurationError(
            "The Responses API takes no seed.",
            hint="Leave seed= out, or use provider 'openai'.",
            provider=provider.name,
        )
    body: dict[str, Any] = {
        "input": [_to_input_message(message) for message in messages],
        "store": False,
        **provider.extra_body,
    }
    if model or provider.default_model:
        body["model"] = model or provider.default_model
    include = list(sampling.get("include") or ())
    if top_logprobs is not None and provider.logprobs_request != "none":
        # `include` alone brings the chosen tokens' logprobs and empty lists.
        body["top_logprobs"] = max(top_logprobs, 1)
        include += [] if _LOGPROBS_INCLUDE in include else [_LOGPROBS_INCLUDE]
    if stream:
        body["stream"] = True
    body |= {_FIELD_ALIASES.get(name, name): value for name, value in sampling.items()}
    if include:
        body["include"] = include
    return Request(method="POST", path="/responses", body=body, n=n, stream=stream)


def _to_input_message(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kind = "output_text" if message.get("role") == "assistant" else "input_text"
    return {**message, "content": [_set_part_type(part, kind) for part in content]}


def _set_part_type(part: Any, kind: str) -> Any:
    return {**part, "type": kind} if isinstance(part, dict) and part.get("type") == "text" else part
