"""A reply whose wire format shows in its own bytes: the codec for whatever a person already holds.

Recognised are the replies of every codec, whole or streamed; the same as google-genai's objects write themselves
(``usage_metadata`` for ``usageMetadata``); lines of OpenAI's and Anthropic's batch output; and lists of any of these.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters import anthropic, failures, gemini, openai_chat, openai_completions, openai_responses
from swift_client.adapters.choices import completed
from swift_client.adapters.openai_chat import StreamAssembler, request
from swift_client.adapters.provider import Reply
from swift_client.adapters.tolerant import UNREADABLE, filled, lenient
from swift_client.types import Usage

__all__ = ["StreamAssembler", "codec_of", "parse", "parse_steps", "request"]

_CODECS: dict[str, Any] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
    "openai_responses": openai_responses,
    "gemini": gemini,
    "anthropic": anthropic,
}


class _Top(Struct):
    """The fields that tell the formats apart."""

    choices: Raw = Raw()
    object: Raw = Raw()
    candidates: Raw = Raw()
    usageMetadata: Raw = Raw()
    usage_metadata: Raw = Raw()
    output: Raw = Raw()
    type: Raw = Raw()
    stop_reason: Raw = Raw()
    custom_id: Raw = Raw()
    response: Raw = Raw()
    result: Raw = Raw()


class _BatchLine(Struct):
    """What OpenAI's batches wrap a body into."""

    body: Raw = Raw()


class _BatchResult(Struct):
    """What Anthropic's do."""

    message: Raw = Raw()
    error: Raw = Raw()


_CHOICES_AHEAD = re.compile(
    rb'\s*\{(?:\s*"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*\s*"choices"\s*:\s*\['  # after nothing but plain fields
)
"""Tells the commonest reply, which may be large, without reading it twice."""
_TOP = msgspec.json.Decoder(_Top)


def parse(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False, otherwise: str = "openai_chat"
) -> Reply:
    """Decode a reply at once; see :func:`parse_steps`."""
    return completed(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids, otherwise=otherwise))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False, otherwise: str = "openai_chat"
) -> Generator[None, None, Reply]:
    """Decode a reply of whatever format.

    Args:
        data: see the module.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
        otherwise: the codec where the bytes do not show theirs.

    Raises:
        ResponseDecodeError: it is no reply.
        ProviderError: it is an error.
    """
    options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids}
    if data[:64].lstrip().startswith(b"["):
        replies = lenient(data, list[Raw]) or []
        kinds = {codec_of(bytes(reply)) for reply in replies}
        if replies and kinds != {None} and not _are_pieces(replies, kinds):
            return (yield from _all(replies, otherwise=otherwise, **options))
        otherwise = "gemini" if kinds == {"gemini"} else otherwise
    name = codec_of(data)
    if name is None and (top := _top(data)) and (inner := _unwrapped(top)):
        data, name = inner, codec_of(inner)
    name = name or otherwise
    if name == "gemini" and (b'"usage_metadata"' in data or b'"finish_reason"' in data):
        data = _camel_case(data)
    reply: Reply = yield from _CODECS.get(name, openai_chat).parse_steps(data, **options)
    return reply


def codec_of(data: bytes) -> str | None:
    """Return the name of the codec that wrote a reply or a recorded stream; None where that does not show."""
    head = data[:4096]
    if quick := _CHOICES_AHEAD.match(head):
        return "openai_completions" if b'"text_completion"' in quick[0] else "openai_chat"
    if not head.lstrip().startswith(b"{"):
        start = head.find(b"data:")
        if start < 0:
            return None
        end = data.find(b"\n", start)
        data = data[start + 5 : end if end > 0 else len(data)]
    top = _top(data)
    if top is None:
        return None
    kind, named = lenient(top.type, str) or "", lenient(top.object, str)
    if filled(top.choices):
        return "openai_completions" if named == "text_completion" else "openai_chat"
    if any(map(filled, (top.candidates, top.usageMetadata, top.usage_metadata))):
        return "gemini"
    if kind.startswith("response.") or named == "response" or bytes(top.output)[:1] == b"[":
        return "openai_responses"
    if kind in ("message", "message_start") or (bytes(top.stop_reason) and not kind):
        return "anthropic"
    return None


def _top(data: bytes) -> _Top | None:
    try:
        return _TOP.decode(data)
    except UNREADABLE:
        return None


def _unwrapped(top: _Top) -> bytes | None:
    """Return the reply inside a line of a batch's output."""
    if not filled(top.custom_id):
        return None
    line, result = lenient(top.response, _BatchLine), lenient(top.result, _BatchResult)
    if result and filled(result.error):
        raise failures.from_error_object(lenient(result.error, object))
    inner = line.body if line else result.message if result else Raw()
    return bytes(inner) if filled(inner) else None


def _are_pieces(replies: list[Raw], kinds: set[str | None]) -> bool:
    """Whether a list holds one stream of Google's and not several replies: then its first piece has no end."""
    ended = any(name in bytes(replies[0]) for name in (b'"finishReason"', b'"finish_reason"'))
    return kinds == {"gemini"} and len(replies) > 1 and not ended


def _all(replies: list[Raw], **options: Any) -> Generator[None, None, Reply]:
    """Decode several replies and number their completions through."""
    read: list[Reply] = []
    for each in replies:
        reply = yield from parse_steps(bytes(each), **options)
        read.append(reply)
    completions = [completion for reply in read for completion in reply.completions]
    return Reply(
        completions=tuple(replace(completion, index=index) for index, completion in enumerate(completions)),
        usage=sum((reply.usage for reply in read), Usage()),
        model=next((reply.model for reply in read if reply.model), None),
        notes=tuple(f"Reply {number}: {note}" for number, reply in enumerate(read) for note in reply.notes),
    )


def _camel_case(data: bytes) -> bytes:
    """Write google-genai's Python names as they stand on the wire."""
    try:
        return msgspec.json.encode(_renamed(msgspec.json.decode(data)))
    except UNREADABLE:
        return data


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {_camel(name): item if name == "args" else _renamed(item) for name, item in value.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
