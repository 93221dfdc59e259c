"""Codec of ``/chat/completions``, as OpenAI and every OpenAI-compatible server speak it.

:func:`request` builds the call, :func:`parse` and :func:`parse_steps` read a whole reply, :class:`StreamAssembler` a
streamed one. Pure: nothing here sends anything.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.openai_chat.response import read_body
from swift_client.adapters.codecs.openai_chat.stream import StreamAssembler
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]


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
    """Describe the call that asks for ``n`` completions.

    Args:
        provider: the row; says how logprobs are asked for and which fields go with every call.
        model: None means the row's default model, and no ``model`` field where it has none.
        messages: chat messages, sent as they are.
        n: completions to ask for; the field is left out for 1, which some servers refuse to see.
        top_logprobs: length of the lists of alternatives; None asks for no logprobs at all.
        stream: whether the reply comes as server-sent events.
        sampling: further fields of the body, sent untouched; they win over everything else.
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


def parse(data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
    """Decode a whole reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False, echo: bool = False
) -> Generator[None, None, Reply]:
    """Decode a whole reply, yielding after each choice so that an event loop can breathe.

    Args:
        data: the body of a 200, in one piece or as the server-sent events of a stream that has ended.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
        echoes: whether the prompt may stand before the answers, as in legacy completions.

    Raises:
        ResponseDecodeError: the bytes are no chat completion, and hold no whole choice.
        ProviderError: the 200 holds an error object instead of choices.
    """
    if data.startswith(b"{"):  # one JSON document, which needs no assembler
        return read_body(data, top_logprobs=top_logprobs, token_ids=token_ids, echo=echo)
    return StreamAssembler(top_logprobs=top_logprobs, token_ids=token_ids, echo=echo).parse_steps(data)
