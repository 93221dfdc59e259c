"""Containers of replies: JSON lists, JSON lines, kept chunks of a stream, and lines of batch output."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, has_value, repair_json
from swift_client.adapters.codecs.openai_batch import failed_request_error, parse_output_line
from swift_client.adapters.transport import error_responses

_NON_SPACE = re.compile(rb"\S")
_BLOCK_BYTES = 1 << 18  # bytes that are compared at once, so that they stay in the processor's cache


class _Chunk(Struct):
    """The fields that show that an object is one event of a stream."""

    id: Any = None
    object: Any = None
    type: Any = None
    choices: Raw = Raw()


class _ChunkChoice(Struct):
    delta: Raw = Raw()
    text: Raw = Raw()
    finish_reason: Raw = Raw()


def split_values(data: bytes) -> list[bytes] | None:
    """Split a JSON list or JSON lines; None if ``data`` is one value, or not JSON.

    Lines may be empty, and a value may span several of them. A line that is not JSON is an item like the others, so
    its decoder reports it.
    """
    if data.startswith(b"["):
        items = decode_or_none(data, list[Raw]) or decode_or_none(_repair_or_empty(data), list[Raw])
        return None if items is None else [bytes(item) for item in items]
    first_end = data.find(b"\n")
    if not data.startswith(b"{") or first_end < 0 or not _NON_SPACE.search(data, first_end):
        return None
    # JSON lines, or values that span several lines each.
    one_per_line = _is_json(data[:first_end])
    if not one_per_line and not _has_line_with_brace(data):  # one value, indented
        return None
    lines = [line for line in data.splitlines() if line.strip()]
    values = lines if one_per_line else _scan_values(data) or lines
    return values if len(values) > 1 and any(map(_is_json, values)) else None


def _has_line_with_brace(data: bytes) -> bool:
    """Return whether a later line begins with a brace; a third of the time of a search for the two bytes."""
    for start in range(0, len(data) - 1, _BLOCK_BYTES):
        block = np.frombuffer(data, np.uint8, min(_BLOCK_BYTES + 1, len(data) - start), start)
        if ((block[:-1] == ord("\n")) & (block[1:] == ord("{"))).any():
            return True
    return False


def join_chunks(parts: Sequence[bytes]) -> bytes | None:
    """Join the chunks of one stream as a server sends them; None if the parts are separate replies."""
    chunks = [decode_or_none(part, _Chunk) or _Chunk() for part in parts]
    one_id = isinstance(chunks[0].id, str) and len({str(chunk.id) for chunk in chunks}) == 1
    if not any(_is_event(chunk, legacy=one_id) for chunk in chunks):
        return None
    return b"".join(b"data: %b\n\n" % part for part in parts)


def extract_body(data: bytes) -> bytes | None:
    """Return the reply in a line of OpenAI's, Anthropic's or Google's batch output; None if it is not such a line.

    Raises:
        ProviderError: the request failed, or was never tried.
    """
    line = _decode_fields(data)
    # A request is named by custom_id at OpenAI and Anthropic, by key at Google. Its reply is in the body of OpenAI's
    # response, in Anthropic's result, or is Google's response itself.
    if "custom_id" in line and "result" in line:
        return _anthropic_body(line["result"])
    if "custom_id" in line and ("response" in line or "error" in line):
        output = parse_output_line(data)
        if output and output.error:
            raise output.error
        return output.body if output else None
    if "key" in line and "error" in line:
        raise error_responses.error_from_object(decode_or_none(line["error"], object))
    return bytes(line["response"]) if "response" in line else None


def _anthropic_body(raw: Raw) -> bytes | None:
    result = _decode_fields(raw)
    if "message" in result:
        return bytes(result["message"])
    kind = decode_or_none(result.get("type", b""), str)
    if kind in ("canceled", "expired"):
        raise failed_request_error({"code": f"batch_{kind}"})
    if "error" in result:
        error = decode_or_none(result["error"], object)
        inner = error.get("error") if isinstance(error, dict) else None
        raise error_responses.error_from_object(inner or error)
    return None


def _decode_fields(data: bytes | Raw) -> dict[str, Raw]:
    """Return the fields of an object that have a value; none if it is not an object."""
    return {name: value for name, value in (decode_or_none(data, dict[str, Raw]) or {}).items() if has_value(value)}


def _is_event(chunk: _Chunk, *, legacy: bool) -> bool:
    """Return whether it is an event; ``legacy`` chunks have a whole reply's name, but one id and no end."""
    kind = chunk.type if isinstance(chunk.type, str) else ""
    if chunk.object == "chat.completion.chunk" or kind == "message_start" or kind.startswith("response."):
        return True
    choices = decode_or_none(chunk.choices, list[_ChunkChoice]) or ()
    return any(
        has_value(choice.delta) or (legacy and has_value(choice.text) and not has_value(choice.finish_reason))
        for choice in choices
    )


def _repair_or_empty(data: bytes) -> bytes:
    try:
        return repair_json(data)
    except DECODE_ERRORS:
        return b""


def _is_json(line: bytes) -> bool:
    return decode_or_none(line, Raw) is not None or decode_or_none(_repair_or_empty(line), Raw) is not None


def _scan_values(data: bytes) -> list[bytes]:
    """Split concatenated JSON values; the last item is the rest that cannot be decoded."""
    text, position, decoder = data.decode("utf-8", "replace"), 0, json.JSONDecoder()
    values: list[bytes] = []
    while rest := text[position:].strip():
        position = len(text) - len(text[position:].lstrip())
        try:
            _, end = decoder.raw_decode(text, position)
        except DECODE_ERRORS:
            return [*values, rest.encode()] if values else []
        values.append(text[position:end].encode())
        position = end
    return values
