"""The JSON schema of OpenAI's Responses API as msgspec structs."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

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
    phase: str | None = None  # "commentary" on the model's work, before the "final_answer"
    content: list[Part] | None = None
    summary: Raw = Raw()  # of reasoning; only an open model's reasoning has its ``content`` too
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class IncompleteDetails(Struct, gc=False):
    """The reason for a response that ended early."""

    reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; reasoning is part of the output."""

    input_tokens: int | None = None
    output_tokens: int | None = None


# An item of the output; Raw if the items are decoded one by one, because one of them is malformed.
ItemT = TypeVar("ItemT", Item, Raw)


class Response(Struct, Generic[ItemT], gc=False):
    """The complete response, as a body or in the first and last event of a stream."""

    status: str | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    error: Raw = Raw()
    output: list[ItemT] | None = None


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
    """The event of a complete item, decoded only if it is needed."""

    data: bytes | memoryview = b""

    def decode(self) -> Event:
        """Decode the event."""
        return decode_or_none(self.data, Event) or Event()


class TokenEntry(Struct, gc=False):
    """One chosen or listed token, for combining a delta's logprob with the final object's bytes."""

    token: str | None = None
    logprob: float | None = None
    bytes: Raw | UnsetType = UNSET
    top_logprobs: list[TokenEntry] | UnsetType = UNSET


_EVENT_DECODER = msgspec.json.Decoder(Event)
_REPEATED_EVENT = re.compile(rb'\s*\{\s*"type"\s*:\s*"response\.(?:output_text|content_part|(output_item))\.done"')


def decode_event(event: bytes | memoryview) -> Event:
    """Decode one event, except for those that only repeat the deltas and the last event.

    Every token arrives five times; skipping three of them saves a quarter of a stream's decoding time. A complete item
    is kept undecoded, in case the last event has none.

    Raises:
        ValueError, RecursionError: it is not an event.
    """
    repetition = _REPEATED_EVENT.match(event)
    if repetition is None:
        return _EVENT_DECODER.decode(event)
    return UndecodedEvent(data=event) if repetition[1] else Event()


_RESPONSE_DECODER = msgspec.json.Decoder(Response[Item])
_LOOSE_DECODER = msgspec.json.Decoder(Response[Raw])


def decode_response(data: bytes | Raw) -> tuple[Response[Item], int]:
    """Decode a response; also return the number of unreadable items, which are left empty.

    Raises:
        ValueError, RecursionError: it is not a response.
    """
    try:
        return _RESPONSE_DECODER.decode(data), 0
    except DECODE_ERRORS:
        response: Any = _LOOSE_DECODER.decode(repair_json(data))
    items = [decode_or_none(raw, Item) for raw in response.output or ()]
    response.output = None if response.output is None else [item or Item() for item in items]
    return response, items.count(None)


def add_bytes(delta_entries: list[Raw], final_entries: Raw) -> Raw:
    """Encode the deltas' entries, with the final entries' bytes for tokens that are parts of a character."""
    encoded = msgspec.json.encode(delta_entries)
    if not _has_partial_characters(encoded):
        return Raw(encoded)
    finals = decode_or_none(final_entries, list[Raw]) or []
    if len(finals) != len(delta_entries):
        return Raw(encoded)
    entries = [
        _add_entry_bytes(delta, final) if _has_partial_characters(bytes(delta)) else delta
        for delta, final in zip(delta_entries, finals, strict=True)
    ]
    return Raw(msgspec.json.encode(entries))


def _has_partial_characters(entries: bytes) -> bool:
    r"""Return whether a token may be part of a character: "\xe7" at OpenAI, else U+FFFD, which JSON may escape."""
    if (b"\\" not in entries and b"\xef" not in entries) or b'"bytes"' in entries:  # the first two are fast to find
        return False
    return any(mark in entries for mark in (b"\\\\x", b"\xef\xbf\xbd", b"\\ufffd", b"\\uFFFD"))


def _add_entry_bytes(delta_entry: Raw, final_entry: Raw) -> Raw:
    delta, final = decode_or_none(delta_entry, TokenEntry), decode_or_none(final_entry, TokenEntry)
    if delta is None or final is None or delta.token != final.token:
        return delta_entry
    alternatives = zip(delta.top_logprobs or (), final.top_logprobs or (), strict=False)
    for target, source in [(delta, final), *alternatives]:
        if target.token == source.token:
            target.bytes = source.bytes
    return Raw(msgspec.json.encode(delta))
