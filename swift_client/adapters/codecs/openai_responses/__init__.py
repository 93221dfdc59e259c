"""Codec of ``/responses``, the only API of some of OpenAI's models; prefer ``/chat/completions`` for the others.

It has no ``n`` and no ``seed``, and its final objects have logprobs rounded to six decimals; ``response`` takes the
exact ones from a stream. https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from typing import Any

from swift_client.adapters.codecs.openai_responses.response import StreamAssembler
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

_LOGPROBS_INCLUDE = "message.output_text.logprobs"
# Chat's names of fields with the same meaning.
_FIELD_ALIASES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}

parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


def request(call: CompletionRequest) -> Request:
    """Build the request for one answer; see ``Codec``.

    Text parts of messages, and sampling fields with chat's names (``max_tokens``), are renamed to this format's. The
    caller's ``include`` is kept beside the one that asks for logprobs.

    Raises:
        ConfigurationError: ``seed`` is given, which the API does not have.
    """
    if "seed" in call.sampling:
        hint = "Leave seed= out, or use provider 'openai'."
        raise ConfigurationError("The Responses API takes no seed.", hint=hint, provider=call.provider.name)
    body: dict[str, Any] = {
        "input": [*map(_to_input_message, call.messages)],
        "store": False,
        **call.provider.extra_body,
    }
    if call.model_name:
        body["model"] = call.model_name
    include = list(call.sampling.get("include") or ())
    if k := call.n_alternatives:
        # `include` alone brings the chosen tokens' logprobs and empty lists.
        body["top_logprobs"] = k
        include += [] if _LOGPROBS_INCLUDE in include else [_LOGPROBS_INCLUDE]
    if call.stream:
        body["stream"] = True
    body |= call.rename_sampling(_FIELD_ALIASES)
    if include:
        body["include"] = include
    return call.post("/responses", body)


def _to_input_message(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kind = "output_text" if message.get("role") == "assistant" else "input_text"
    return {**message, "content": [_set_part_type(part, kind) for part in content]}


def _set_part_type(part: Any, kind: str) -> Any:
    return {**part, "type": kind} if isinstance(part, dict) and part.get("type") == "text" else part
