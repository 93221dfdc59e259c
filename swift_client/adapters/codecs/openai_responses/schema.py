"""The shapes of OpenAI's Responses API, as msgspec structs that live only while a reply is decoded."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from swift_client.adapters.codecs.lenient_json import UNREADABLE, lenient, repaired


class Part(Struct, gc=False):
    """One part of a message."""

    text: str | None = None
    refusal: str | None = None
    logprobs: Raw = Raw()


class Item(Struct, gc=False):
    """One item of the output: a message, reasoning, a call."""

    type: str | None = None
    phase: str | None = None
    """"commentary" on what the model is doing, before the "final_answer"."""
    content: list[Part] | None = None
    summary: Raw = Raw()
    """Reasoning has one; its ``content`` only where an open model's is shown whole."""
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class Incomplete(Struct, gc=False):
    """Why a response ended early."""

    reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; reasoning is part of the output."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Frame(Struct, gc=False):
    """A response around its output."""

    status: str | None = None
    incomplete_details: Incomplete | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    error: Raw = Raw()


class Response(Frame, gc=False):
    """The whole response, as a body or inside the events that begin and end a stream."""

    output: list[Item] | None = None


class LooseResponse(Frame, gc=False):
    """One whose items are read one by one, because one of them is odd."""

    output: list[Raw] | None = None


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str | None = None
    response: Raw = Raw()
    output_index: int | None = None
    content_index: int | None = None
    delta: Any = None
    logprobs: list[Raw] | None = None
    item: Raw = Raw()
    error: Raw = Raw()
    code: Any = None
    message: str | None = None


class Unread(Event, gc=False):
    """A whole item's event, which is decoded where it is needed."""

    data: bytes | memoryview = b""

    def event(self) -> Event:
        """Return the event itself."""
        return lenient(self.data, Event) or Event()


class Listed(Struct, gc=False):
    """One chosen or listed token, for mixing a delta's number with the final object's bytes."""

    token: str | None = None
    logprob: float | None = None
    bytes: Raw | UnsetType = UNSET
    top_logprobs: list[Listed] | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(Event)
_REPEATS = re.compile(rb'\s*\{\s*"type"\s*:\s*"response\.(?:output_text|content_part|(output_item))\.done"')


def decode_event(event: bytes | memoryview) -> Event:
    """Decode one event, but for those that repeat what deltas have said and what the last event says once more.

    Every token comes five times over; not reading three of them saves a quarter of a stream's time. A whole item, which
    is needed where the last event has none, is kept as it came.

    Raises:
        ValueError, RecursionError: it is no event.
    """
    repeats = _REPEATS.match(event)
    if repeats is None:
        return _DECODER.decode(event)
    return Unread(data=event) if repeats[1] else Event()


_RESPONSE = msgspec.json.Decoder(Response)
_LOOSE = msgspec.json.Decoder(LooseResponse)


def response_of(data: bytes | Raw) -> tuple[Response, int]:
    """Decode a response; also return how many of its items cannot be read and are left out.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        return _RESPONSE.decode(data), 0
    except UNREADABLE:
        loose = _LOOSE.decode(repaired(data))
    items = None if loose.output is None else [lenient(raw, Item) for raw in loose.output]
    response = Response(
        loose.status,
        loose.incomplete_details,
        loose.usage,
        loose.model,
        loose.error,
        None if items is None else [item or Item() for item in items],
    )
    return response, sum(item is None for item in items or ())


def with_bytes(exact: list[Raw], final: Raw) -> Raw:
    """Join the deltas' entries, with the final ones' bytes where a text does not say what its bytes are."""
    encoded = msgspec.json.encode(exact)
    whole = Raw(encoded)
    if not _unclear(encoded):
        return whole
    known = lenient(final, list[Raw]) or []
    if len(known) != len(exact):
        return whole
    entries = [
        _entry_with_bytes(*pair) if _unclear(bytes(pair[0])) else pair[0] for pair in zip(exact, known, strict=True)
    ]
    return Raw(msgspec.json.encode(entries))


def _unclear(entries: bytes) -> bool:
    r"""Whether a token may be a piece of a character: OpenAI writes "\xe7", others U+FFFD, which JSON may escape."""
    if (b"\\" not in entries and b"\xef" not in entries) or b'"bytes"' in entries:  # the first two are quick to find
        return False
    return any(sign in entries for sign in (b"\\\\x", b"\xef\xbf\xbd", b"\\ufffd", b"\\uFFFD"))


def _entry_with_bytes(exact: Raw, final: Raw) -> Raw:
    one, two = lenient(exact, Listed), lenient(final, Listed)
    if one is None or two is None or one.token != two.token:
        return exact
    for mine, theirs in [(one, two), *zip(one.top_logprobs or (), two.top_logprobs or (), strict=False)]:
        if mine.token == theirs.token:
            mine.bytes = theirs.bytes
    return Raw(msgspec.json.encode(one))
