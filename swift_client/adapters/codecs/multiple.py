"""Several replies in one hand: a JSON list, JSON lines, or the chunks of one stream that somebody kept in a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, has_value, repair_json


def split_values(data: bytes) -> list[bytes] | None:
    """Return the items of a JSON list, or the values of JSON lines; None where ``data`` is one value, or no JSON.

    Lines may be empty, and a value may be printed over several of them. What cannot be read of JSON lines is an item
    like the others, so that whoever decodes it says so.
    """
    if data.startswith(b"["):
        items = decode_or_none(data, list[Raw]) or decode_or_none(_repair_or_empty(data), list[Raw])
        return None if items is None else [bytes(item) for item in items]
    first = data.find(b"\n")
    if not data.startswith(b"{") or first < 0 or not data[first:].strip():
        return None
    whole = _is_json(data[:first])
    if not whole and b"\n{" not in data:  # one value, indented
        return None
    lines = [line for line in data.splitlines() if line.strip()]
    values = lines if whole else _scan_values(data) or lines
    several = len(values) > 1 and any(map(_is_json, values))
    return values if several else None


def join_chunks(parts: Sequence[bytes]) -> bytes | None:
    """Return the chunks of one stream as a server sends them; None where the parts are replies of their own."""
    chunks = [decode_or_none(part, _Chunk) or _Chunk() for part in parts]
    one = isinstance(chunks[0].id, str) and len({str(chunk.id) for chunk in chunks}) == 1
    if not any(_is_event(chunk, legacy=one) for chunk in chunks):
        return None
    return b"".join(b"data: %b\n\n" % part for part in parts)


class _Chunk(msgspec.Struct):
    """What shows that an object is one event of a stream."""

    id: Any = None
    object: Any = None
    type: Any = None
    choices: Raw = Raw()


class _Choice(msgspec.Struct):
    delta: Raw = Raw()
    text: Raw = Raw()
    finish_reason: Raw = Raw()


def _is_event(chunk: _Chunk, *, legacy: bool) -> bool:
    """Whether it is an event; ``legacy`` chunks call themselves as whole replies do, but have one id and no end."""
    kind = chunk.type if isinstance(chunk.type, str) else ""
    if chunk.object == "chat.completion.chunk" or kind == "message_start" or kind.startswith("response."):
        return True
    choices = decode_or_none(chunk.choices, list[_Choice]) or ()
    return any(
        has_value(each.delta) or (legacy and has_value(each.text) and not has_value(each.finish_reason))
        for each in choices
    )


def _repair_or_empty(data: bytes) -> bytes:
    try:
        return repair_json(data)
    except DECODE_ERRORS:
        return b""


def _is_json(line: bytes) -> bool:
    return decode_or_none(line, Raw) is not None or decode_or_none(_repair_or_empty(line), Raw) is not None


def _scan_values(data: bytes) -> list[bytes]:
    """Return the JSON values that stand one behind the other, and what of the last ones cannot be read."""
    text, at, decoder = data.decode("utf-8", "replace"), 0, json.JSONDecoder()
    found: list[bytes] = []
    while rest := text[at:].strip():
        at = len(text) - len(text[at:].lstrip())
        try:
            _, end = decoder.raw_decode(text, at)
        except DECODE_ERRORS:
            return [*found, rest.encode()] if found else []
        found.append(text[at:end].encode())
        at = end
    return found
