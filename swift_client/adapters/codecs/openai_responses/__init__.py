"""Codec of ``/responses``, which some of OpenAI's models speak alone; where there is a choice, chat is the better door.

It has no ``n`` and no ``seed``, and the final objects hold logprobs rounded to six decimals; :mod:`responses_reply`
reads a stream's exact ones. https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.openai_responses.response import StreamAssembler
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

_LOGPROBS_INCLUDE = "message.output_text.logprobs"
_FIELD_ALIASES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
"""Chat's names of fields that mean the same here."""


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
    """Describe the call that asks for one answer.

    Args:
        provider: the row.
        model: None means the row's default model.
        messages: chat messages; their text parts get this format's names.
        n: how many are wanted; the reply brings one.
        top_logprobs: length of the lists of alternatives; None asks for no logprobs at all.
        stream: whether the reply comes as server-sent events.
        sampling: further fields, sent untouched but for chat's names of the same thing (``max_tokens``); they win.
            What ``include`` asks for comes beside the logprobs.

    Raises:
        ConfigurationError: ``seed`` is asked for, which the API does not know.
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


def parse(data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
    """Decode a whole reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False
) -> Generator[None, None, Reply]:
    """Decode a whole reply.

    Args:
        data: the body of a 200, in one piece or as the server-sent events of a stream that has ended.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means the longest list.
        token_ids: whether to fill in ``top_ids``.

    Raises:
        ResponseDecodeError: the bytes are no response.
        ProviderError: the 200 holds an error, or the response failed before it said anything.
    """
    return StreamAssembler(top_logprobs=top_logprobs, token_ids=token_ids).parse_steps(data)


def _to_input_message(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kind = "output_text" if message.get("role") == "assistant" else "input_text"
    return {**message, "content": [_set_part_type(part, kind) for part in content]}


def _set_part_type(part: Any, kind: str) -> Any:
    return {**part, "type": kind} if isinstance(part, dict) and part.get("type") == "text" else part
