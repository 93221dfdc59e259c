"""The JSON schema of OpenAI's chat completions as msgspec structs.

Fields that the codec does not use are not declared: msgspec skips them at C speed. Fields on which servers disagree are
``Raw`` and decoded leniently later, so one odd field never costs a whole reply that was paid for. Shapes of logprobs
seen in practice: ``logprobs.content`` (OpenAI, vLLM, SGLang, llama.cpp, Ollama), ``tokens/token_logprobs/top_logprobs``
(Together, Fireworks, legacy completions), and one number per streamed token (Together).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_leniently,
    dump_json,
    repair_json,
    salvage_array,
    truncation_note,
)


class Alternative(Struct, gc=False):
    """One listed token, decoded without its text, which matters only if two logprobs are equal."""

    logprob: float | None = None


class TextAlternative(Alternative, gc=False):
    """One listed token with its text, which distinguishes nearly all tokens of equal logprob."""

    token: str | None = None


class BytesAlternative(TextAlternative, gc=False):
    """One listed token with its bytes, for equal texts that are different parts of a character."""

    bytes: Raw = Raw()


# The fields of each alternative that are decoded.
AlternativeT = TypeVar("AlternativeT", bound=Alternative)


class Token(Struct, Generic[AlternativeT], gc=False):
    """One chosen token with its list of alternatives."""

    token: str | None = None
    logprob: float | None = None
    bytes: Raw = Raw()
    top_logprobs: list[AlternativeT] | None = None


class Logprobs(Struct, Generic[AlternativeT], gc=False):
    """Logprobs in both shapes; a server fills in one of them."""

    content: list[Token[AlternativeT]] | None = None
    refusal: list[Token[AlternativeT]] | None = None
    reasoning_content: Raw = Raw()  # DeepSeek's thinking tokens; others list theirs before the answer's
    tokens: list[str | None] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | list[AlternativeT] | None] | dict[str, float | None] | None = None


class Message(Struct, gc=False):
    """The text of the answer, or a refusal or tool calls instead."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning: Raw = Raw()
    reasoning_content: Raw = Raw()
    tool_calls: list[Any] | None = None
    function_call: Any = None


class TextChoice(Struct, gc=False):
    """One choice without its logprobs."""

    index: Any = None
    message: Message | None = None
    text: str | None = None  # legacy completions have it instead of a message
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM: the stop word, or the number of the token, that ended it
    error: Raw = Raw()  # OpenRouter: the upstream's error


class Choice(TextChoice, Generic[AlternativeT], gc=False):
    """One choice."""

    logprobs: Logprobs[AlternativeT] | None = None


class Envelope(Struct, gc=False):
    """A reply whose choices are not decoded yet."""

    choices: list[Raw] | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    system_fingerprint: Raw = Raw()
    error: Raw = Raw()
    message: Raw = Raw()
    detail: Raw = Raw()
    timings: Raw = Raw()  # sent by llama.cpp only, whose usage counts the tokens of one choice


class WireUsage(Struct, gc=False):
    """Token counts; each may be missing."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class LogprobsDelta(Struct, gc=False):
    """Logprobs in both shapes in a stream; entries stay JSON until the choice is complete."""

    content: list[Raw] | None = None
    refusal: list[Raw] | None = None
    reasoning_content: Raw = Raw()
    tokens: list[Raw] | None = None
    token_logprobs: list[Raw] | None = None
    top_logprobs: list[Raw] | dict[str, Raw] | None = None


class ChunkChoice(Struct, gc=False):
    """One choice's part of a chunk."""

    index: Any = None
    delta: Message | None = None
    text: str | None = None
    logprobs: LogprobsDelta | float | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    error: Raw = Raw()


class Chunk(Struct, gc=False):
    """One server-sent event."""

    choices: list[ChunkChoice] | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    system_fingerprint: Raw = Raw()
    error: Raw = Raw()
    message: Raw = Raw()
    detail: Raw = Raw()


# The types of fields that are decoded; a value of another type is dropped, see ``drop_misfits()``.
_CHOICE_TYPES: Mapping[str, Any] = MappingProxyType({"message": dict, "delta": dict, "text": str, "finish_reason": str})
_MESSAGE_TYPES: Mapping[str, Any] = MappingProxyType({"content": (str, list), "refusal": str, "tool_calls": list})


def drop_misfits(choice: object) -> object:
    """Return a choice of decoded JSON without the values of wrong types, so that they do not cost its text."""
    if not isinstance(choice, dict):
        return choice
    choice = _of_types(choice, _CHOICE_TYPES)
    for name in ("message", "delta"):
        if name in choice:
            choice[name] = _of_types(choice[name], _MESSAGE_TYPES)
    return choice


def _of_types(fields: dict[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if isinstance(value, types.get(name, object))}


_MAX_DENSE_BYTES = 1_000_000
_ENVELOPE_DECODER = msgspec.json.Decoder(Envelope)
_REASON_KEY = b'"finish_reason":'
_REASON_UNDERSCORE = _REASON_KEY.index(b"_")
_NEAR_BYTES = 4096  # between a choice's finish reason and its start or the next one's
_MAX_UNDERSCORES = 100_000
_FIRST_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*(\{\s*"\w+"\s*:)')


def split_choices_fast(data: bytes) -> Envelope | None:
    """Split a reply at the bytes that start each choice; None if they do not show the choices.

    It takes a third of the time of skipping the choices' JSON, which is decoded again later. The split proves itself:
    if every piece is a JSON value and the reply with only the last piece is valid, the bytes have no other reading. If
    a piece turns out to be unreadable, the caller falls back to ``decode_envelope()``.
    """
    first = _FIRST_CHOICE.search(data, 0, 4096)
    if first is None:
        return None
    starts = _find_starts(data, first[1], first.start(1))
    if len(starts) == 1:
        return None
    try:
        envelope = _ENVELOPE_DECODER.decode(data[: starts[0]] + data[starts[-1] :])
    except DECODE_ERRORS:
        return None
    # Cut off the comma and white space between two choices, without copying the choices.
    view, pieces = memoryview(data), []
    for start, stop in pairwise(starts):
        tail = data[stop - 64 : stop]
        pieces.append(Raw(view[start : stop - len(tail) + len(tail.rstrip().removesuffix(b","))]))
    envelope.choices = pieces + (envelope.choices or [])
    return envelope


def _find_starts(data: bytes, opening: bytes, start: int) -> list[int]:
    """Return where choices start: each like the first, with the same key.

    Each has one finish reason, near its start or near the next one's. A search for the underscore of that key takes a
    third of the time of a search for ``opening``.
    """
    near = [start]
    n_reasons, position = 0, start
    for _ in range(_MAX_UNDERSCORES):
        position = data.find(b"_", position + 1)
        if position < 0:
            break
        if data.startswith(_REASON_KEY, position - _REASON_UNDERSCORE):
            n_reasons += 1
            low, high = max(near[-1] + 1, position - _NEAR_BYTES), position + _NEAR_BYTES
            before, after = data.rfind(opening, low, position), data.find(opening, position, high)
            near += [found for found in (before, after) if found > 0]
            if n_reasons > len(near):
                break
    if position < 0 and len(near) == n_reasons:
        return near
    # The plain search, for choices without a finish reason and texts of underscores.
    starts = [start]
    while (start := data.find(opening, start + 1)) > 0:
        starts.append(start)
    return starts


def decode_envelope(data: bytes) -> Generator[None, None, tuple[Envelope, str | None]]:
    """Split a reply into its choices; also return a note if it is cut.

    JSON that is cut, or that contains NaN, Infinity, half a surrogate pair or a broken character, is decoded choice by
    choice with the standard library, yielding after each; then every choice before the damage is kept.

    Raises:
        ValueError, RecursionError: nothing can be decoded.
    """
    try:
        # A body of many tiny items would become objects of many times its size; below, only some of them are read.
        if len(data) < _MAX_DENSE_BYTES or data.count(b",") * 4 < len(data):
            return _ENVELOPE_DECODER.decode(data), None
    except DECODE_ERRORS:
        pass
    text = data.decode("utf-8", "replace")
    salvaged = yield from salvage_array(text, "choices")
    if salvaged is None:
        return _ENVELOPE_DECODER.decode(repair_json(data)), None
    choices, rest = salvaged
    try:
        envelope = _ENVELOPE_DECODER.decode(dump_json(decode_leniently(rest)))
    except DECODE_ERRORS:
        if not choices:
            raise
        return Envelope(choices=choices), truncation_note(len(choices))
    envelope.choices = choices
    return envelope, None
