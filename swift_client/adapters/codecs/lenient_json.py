"""Lenient JSON decoding: one odd field or byte never costs a whole reply that was paid for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from swift_client.adapters.transport import error_responses
from swift_client.errors import ResponseDecodeError

T = TypeVar("T")

# msgspec's and json's errors and UnicodeDecodeError are ValueErrors; deep nesting raises RecursionError.
DECODE_ERRORS = (ValueError, RecursionError)

_SEPARATOR = re.compile(r"[\s,]*")


def _parse_finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


# Python servers write NaN and Infinity, which are not JSON; like 1e999 they mean that there is no number.
# The standard library and not jiter, which refuses half a surrogate pair and hides where a cut array ends.
_LENIENT_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_parse_finite)


def decode_or_none(raw: Raw | bytes | memoryview, kind: type[T]) -> T | None:
    """Decode ``raw`` as ``kind``; None if it is missing or of another type."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except DECODE_ERRORS:
        return None


def decode_or_repair(decode: Callable[[bytes | Raw | memoryview], T], data: bytes | Raw | memoryview) -> T:
    """Decode, and on failure decode again with the JSON repaired; raise one of DECODE_ERRORS."""
    try:
        return decode(data)
    except DECODE_ERRORS:
        return decode(repair_json(data))


def has_value(raw: Raw | bytes) -> bool:
    """Return whether a field is present and neither null, false nor empty."""
    return bytes(raw) not in (b"", b"null", b'""', b"[]", b"{}", b"false")


def repair_json(data: bytes | Raw | memoryview) -> bytes:
    """Return JSON as strict JSON: NaN and Infinity become null, broken characters U+FFFD or "?"."""
    return dump_json(decode_leniently(bytes(data).decode("utf-8", "replace")))


def decode_leniently(text: str) -> Any:
    """Decode JSON that may contain NaN and Infinity, which become None; raise one of DECODE_ERRORS."""
    return _LENIENT_DECODER.decode(text)


def salvage_array(text: str, field: str) -> Generator[None, None, tuple[list[Raw], str] | None]:
    """Decode the array ``field`` of a damaged JSON object up to the damage, yielding after each item.

    Returns:
        The complete items as strict JSON, and the text without them; None if there is no such array.
    """
    start = re.search(rf'"{field}"\s*:\s*\[', text)
    if start is None:
        return None
    items: list[Raw] = []
    position = _skip_separators(text, start.end())
    while text[position : position + 1] != "]":
        try:
            item, position = _LENIENT_DECODER.raw_decode(text, position)
        except DECODE_ERRORS:
            break
        items.append(Raw(dump_json(item)))
        position = _skip_separators(text, position)
        yield
    return items, text[: start.end()] + text[position:]


def dump_json(value: Any) -> bytes:
    """Encode as strict JSON; half a surrogate pair becomes "?"."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def decode_error(data: bytes, problem: BaseException, kind: str) -> ResponseDecodeError:
    """Return the error for bytes that are not a ``kind`` ("chat completion")."""
    page = error_responses.error_from_html(data)
    if page:
        return page
    reason = str(problem).splitlines()[0] if isinstance(problem, msgspec.MsgspecError) else type(problem).__name__
    return ResponseDecodeError(
        f"The reply is not a complete JSON {kind} ({reason}): {excerpt(data)}",
        hint="Try again; if the error persists, check base_url=.",
        retryable=True,
    )


def truncation_note(n_complete: int) -> str:
    """Return the note on a damaged reply of which ``n_complete`` completions could be decoded."""
    return f"The reply is cut or damaged: only the {n_complete} complete completion(s) before the damage were read."


def excerpt(data: bytes) -> str:
    """Return the start of a body, for an error message."""
    start = data[:80].decode("utf-8", "replace")
    return repr(start + "..." if len(data) > 80 else start) if data else "it is empty"


def _skip_separators(text: str, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match else position
