"""The shapes of OpenAI's Responses API, as msgspec structs that live only while a reply is decoded."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, repair_json


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


class IncompleteDetails(Struct, gc=False):
    """Why a response ended early."""

    reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; reasoning is part of the output."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ResponseBase(Struct, gc=False):
    """A response around its output."""

    status: str | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    error: Raw = Raw()


class Response(ResponseBase, gc=False):
    """The whole response, as a body or inside the events that begin and end a stream."""

    output: list[Item] | None = None


class LooseResponse(ResponseBase, gc=False):
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


class UndecodedEvent(Event, gc=False):
    """A whole item's event, which is decoded where it is needed."""

    data: bytes | memoryview = b""

    def decode(self) -> Event:
        """Return the event itself."""
        return decode_or_none(self.data, Event) or Event()


class TokenEntry(Struct, gc=False):
    """One chosen or listed token, for mixing a delta's number with the final object's bytes."""

    token: str | None = None
    logprob: float | None = None
    bytes: Raw | UnsetType = UNSET
    top_logprobs: list[TokenEntry] | UnsetType = UNSET


_EVENT_DECODER = msgspec.json.Decoder(Event)
_REPEATED_EVENT = re.compile(rb'\s*\{\s*"type"\s*:\s*"response\.(?:output_text|content_part|(output_item))\.done"')


def decode_event(event: bytes | memoryview) -> Event:
    """Decode one event, but for those that repeat what deltas have said and what the last event says once more.

    Every token comes five times over; not reading three of them saves a quarter of a stream's time. A whole item, which
    is needed where the last event has none, is kept as it came.

    Raises:
        ValueError, RecursionError: it is no event.
    """
    repeats = _REPEATED_EVENT.match(event)
    if repeats is None:
        return _EVENT_DECODER.decode(event)
    return UndecodedEvent(data=event) if repeats[1] else Event()


_RESPONSE_DECODER = msgspec.json.Decoder(Response)
_LOOSE_DECODER = msgspec.json.Decoder(LooseResponse)


def decode_response(data: bytes | Raw) -> tuple[Response, int]:
    """Decode a response; also return how many of its items cannot be read and are left out.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        return _RESPONSE_DECODER.decode(data), 0
    except DECODE_ERRORS:
        loose = _LOOSE_DECODER.decode(repair_json(data))
    items = None if loose.output is None else [decode_or_none(raw, Item) for raw in loose.output]
    response = Response(
        loose.status,
        loose.incomplete_details,
        loose.usage,
        loose.model,
        loose.error,
        None if items is None else [item or Item() for item in items],
    )
    return response, sum(item is None for item in items or ())


def add_bytes(delta_entries: list[Raw], final_entries: Raw) -> Raw:
    """Join the deltas' entries, with the final ones' bytes where a text does not say what its bytes are."""
    encoded = msgspec.json.encode(delta_entries)
    whole = Raw(encoded)
    if not _has_partial_characters(encoded):
        return whole
    known = decode_or_none(final_entries, list[Raw]) or []
    if len(known) != len(delta_entries):
        return whole
    entries = [
        _add_entry_bytes(*pair) if _has_partial_characters(bytes(pair[0])) else pair[0]
        for pair in zip(delta_entries, known, strict=True)
    ]
    return Raw(msgspec.json.encode(entries))


def _has_partial_characters(entries: bytes) -> bool:
    r"""Whether a token may be a piece of a character: OpenAI writes "\xe7", others U+FFFD, which JSON may escape."""
    if (b"\\" not in entries and b"\xef" not in entries) or b'"bytes"' in entries:  # the first two are quick to find
        return False
    return any(sign in entries for sign in (b"\\\\x", b"\xef\xbf\xbd", b"\\ufffd", b"\\uFFFD"))


def _add_entry_bytes(delta_entry: Raw, final_entry: Raw) -> Raw:
    one, two = decode_or_none(delta_entry, TokenEntry), decode_or_none(final_entry, TokenEntry)
    if one is None or two is None or one.token != two.token:
        return delta_entry
    for mine, theirs in [(one, two), *zip(one.top_logprobs or (), two.top_logprobs or (), strict=False)]:
        if mine.token == theirs.token:
            mine.bytes = theirs.bytes
    return Raw(msgspec.json.encode(one))
