"""Codec of Anthropic's Messages API: text alone, one answer a call. https://platform.claude.com/docs/en/api/messages

There are no logprobs, no ``n`` and no ``seed``; the row says so, so that ``require_logprobs=True`` fails before
anything is paid for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.anthropic.response import StreamAssembler
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

_FIELD_ALIASES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
"""OpenAI's names of fields that mean the same here."""


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
        provider: the row; its ``extra_body`` holds the ``max_tokens`` that the API demands.
        model: None means the row's default model.
        messages: chat messages, sent as they are but for "system" and "developer" ones, which become ``system``.
        n: how many are wanted; the reply brings one.
        top_logprobs: has no equal.
        stream: whether the reply comes as server-sent events.
        sampling: further fields, sent untouched but for OpenAI's names of the same thing (``stop``); they win.

    Raises:
        ConfigurationError: ``seed`` is asked for, which no answer would obey.
    """
    if "seed" in sampling:
        raise ConfigurationError(
            "Anthropic's API takes no seed.", hint="Leave seed= out; answers differ anyway.", provider=provider.name
        )
    spoken = [message for message in messages if message.get("role") not in ("system", "developer")]
    system = [message.get("content") for message in messages if message.get("role") in ("system", "developer")]
    body: dict[str, Any] = {"model": model or provider.default_model, "messages": spoken, **provider.extra_body}
    if system:
        texts = [each for each in system if isinstance(each, str)]
        body["system"] = "\n\n".join(texts) if len(texts) == len(system) else _to_blocks(system)
    if stream:
        body["stream"] = True
    for name, value in sampling.items():
        name = _FIELD_ALIASES.get(name, name)
        body[name] = [value] if name == "stop_sequences" and isinstance(value, str) else value
    return Request(method="POST", path="/messages", body=body, n=n, stream=stream)


def parse(data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
    """Decode a whole reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False
) -> Generator[None, None, Reply]:
    """Decode a whole reply.

    Args:
        data: the body of a 200, in one piece or as the server-sent events of a stream that has ended.
        top_logprobs: has no equal.
        token_ids: has no equal.

    Raises:
        ResponseDecodeError: the bytes are no message.
        ProviderError: the 200 holds an error.
    """
    return StreamAssembler(top_logprobs=top_logprobs, token_ids=token_ids).parse_steps(data)


def _to_blocks(system: list[Any]) -> list[Any]:
    """Write system prompts that have blocks, such as one with ``cache_control``, as one list of blocks."""
    return [
        block
        for content in system
        for block in ([{"type": "text", "text": content}] if isinstance(content, str) else content or ())
    ]
