"""A reply whose wire format shows in its own bytes: the codec for whatever a person already holds.

Recognised are the replies of every codec, whole or streamed; the same as google-genai's objects write themselves
(``usage_metadata`` for ``usageMetadata``); lines of OpenAI's, Anthropic's and Google's batch output; and several of
any of these, in a list or as JSON lines.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs import anthropic, gemini, openai_chat, openai_completions, openai_responses
from swift_client.adapters.codecs.batch_output import extract_body
from swift_client.adapters.codecs.gemini.sdk_names import PYTHON_FIELD_NAMES, to_camel_case
from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, has_value
from swift_client.adapters.codecs.multiple import join_chunks, split_values
from swift_client.adapters.codecs.openai_chat import StreamAssembler, request
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ProviderError, ResponseDecodeError
from swift_client.types import Usage

__all__ = ["StreamAssembler", "detect_codec", "parse", "parse_steps", "request"]

_CODECS: dict[str, Any] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
    "openai_responses": openai_responses,
    "gemini": gemini,
    "anthropic": anthropic,
}


class _TopLevelFields(Struct):
    """The fields that tell the formats apart."""

    choices: Raw = Raw()
    object: Raw = Raw()
    candidates: Raw = Raw()
    usageMetadata: Raw = Raw()
    usage_metadata: Raw = Raw()
    promptFeedback: Raw = Raw()
    prompt_feedback: Raw = Raw()
    output: Raw = Raw()
    type: Raw = Raw()
    stop_reason: Raw = Raw()


_CHOICES_PREFIX = re.compile(
    rb'\s*\{(?:\s*"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*\s*"choices"\s*:\s*\['  # after nothing but plain fields
)
"""Tells the commonest reply, which may be large, without reading it twice."""
_TOP_LEVEL_DECODER = msgspec.json.Decoder(_TopLevelFields)
_LEADING_BYTES = b"\xef\xbb\xbf \t\r\n"
"""What may stand before a file's JSON: a byte order mark and white space."""


def parse(data: bytes, **options: Any) -> Reply:
    """Decode a reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, **options))


def parse_steps(
    data: bytes,
    *,
    top_logprobs: int | None = None,
    token_ids: bool = False,
    default_codec: str = "openai_chat",
    strict: bool = False,
) -> Generator[None, None, Reply]:
    """Decode a reply of whatever format.

    Args:
        data: see the module.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
        otherwise: the codec where the bytes do not show theirs.
        strict: whether one of several replies that is an error is raised; else it is left out, and a note says so.

    Raises:
        ResponseDecodeError: it is no reply, or one of several is none.
        ProviderError: it is an error, or nothing but errors.
    """
    data = data.lstrip(_LEADING_BYTES)
    options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids}
    parts = split_values(data)
    if parts and len(parts) > 1 and (stream := join_chunks(parts)):
        return (yield from _parse_one(stream, default_codec, **options))
    if not parts or _is_gemini_stream(parts):
        return (yield from _parse_one(data, default_codec, **options))
    return (yield from _parse_all(parts, strict=strict, default_codec=default_codec, **options))


def _parse_one(data: bytes, default_codec: str, **options: Any) -> Generator[None, None, Reply]:
    name = detect_codec(data)
    if name is None and (inner := extract_body(data)):
        data, name = inner, detect_codec(inner)
    name = name or ("gemini" if data.startswith(b"[") and _mentions(data, b"candidates") else default_codec)
    if name == "gemini" and any(_mentions(data, word) for word in PYTHON_FIELD_NAMES):
        data = to_camel_case(data)
    reply: Reply = yield from _CODECS.get(name, openai_chat).parse_steps(data, **options)
    return reply


def detect_codec(data: bytes) -> str | None:
    """Return the name of the codec that wrote a reply or a recorded stream; None where that does not show."""
    head = data[:4096]
    if quick := _CHOICES_PREFIX.match(head):
        return "openai_completions" if b'"text_completion"' in quick[0] else "openai_chat"
    if not head.lstrip().startswith(b"{"):
        start = head.find(b"data:")
        if start < 0:
            return None
        end = data.find(b"\n", start)
        data = data[start + 5 : end if end > 0 else len(data)]
    top = _decode_top_level(data)
    if top is None:
        return None
    kind, named = decode_or_none(top.type, str) or "", decode_or_none(top.object, str)
    if has_value(top.choices):
        return "openai_completions" if named == "text_completion" else "openai_chat"
    google = top.candidates, top.usageMetadata, top.usage_metadata, top.promptFeedback, top.prompt_feedback
    if any(map(has_value, google)):
        return "gemini"
    if kind.startswith("response.") or named == "response" or bytes(top.output)[:1] == b"[":
        return "openai_responses"
    if kind in ("message", "message_start") or (bytes(top.stop_reason) and not kind):
        return "anthropic"
    return None


def _decode_top_level(data: bytes) -> _TopLevelFields | None:
    try:
        return _TOP_LEVEL_DECODER.decode(data)
    except DECODE_ERRORS:
        return None


def _mentions(data: bytes, field: bytes) -> bool:
    return b'"%b"' % field in data


def _is_gemini_stream(parts: list[bytes]) -> bool:
    """Whether parts are one stream of Google's and not several replies: then its first piece has no end."""
    ended = _mentions(parts[0], b"finishReason") or _mentions(parts[0], b"finish_reason")
    return (
        len(parts) > 1
        and not ended
        and detect_codec(parts[0]) == "gemini"
        and {*map(detect_codec, parts)} <= {"gemini", None}
    )


def _parse_all(parts: list[bytes], *, strict: bool, **options: Any) -> Generator[None, None, Reply]:
    """Decode several replies and number their completions through."""
    read: list[Reply] = []
    lost: list[ProviderError] = []
    notes: list[str] = []
    for number, part in enumerate(parts):
        try:
            reply = yield from parse_steps(part, strict=strict, **options)
        except ResponseDecodeError as problem:
            problem.message = f"Reply {number} of the list: {problem.message}"
            raise problem from None
        except ProviderError as problem:
            if strict:
                raise
            lost.append(problem)
            notes.append(f"Reply {number} is left out: {problem}")
            continue
        read.append(reply)
        notes += [f"Reply {number}: {note}" for note in reply.notes]
    if lost and not read:
        raise lost[0]
    completions = [completion for reply in read for completion in reply.completions]
    return Reply(
        completions=tuple(replace(completion, index=index) for index, completion in enumerate(completions)),
        usage=sum((reply.usage for reply in read), Usage()),
        model=next((reply.model for reply in read if reply.model), None),
        notes=tuple(notes),
    )
