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
from swift_client.types import MAX_TOKEN_COUNT

T = TypeVar("T")

# msgspec's and json's errors and UnicodeDecodeError are ValueErrors; deep nesting raises RecursionError.
DECODE_ERRORS = (ValueError, RecursionError)

_OPENING = re.compile(r'\{\s*"\w+"\s*:')
_SEPARATOR = re.compile(r"[\s,]*")


def _parse_finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


# Python servers write NaN and Infinity, which are not JSON; like 1e999 they mean that there is no number.
# The standard library and not jiter, which refuses half a surrogate pair and hides where a cut array ends.
# Raw control characters inside strings are taken as they are.
_LENIENT_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_parse_finite, strict=False)
# A string, or a comma before the end of an object or array.
_REPAIRABLE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+["\\]?|,(?=\s*[}\]])', re.DOTALL)
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])?')
_MAX_ITEMS = 10_000  # items of a damaged array that are read
_MAX_DAMAGED_ITEMS = 64  # more are not searched for the next whole one
# Fields of which a choice has at least one; other objects inside a damaged choice have none.
_CHOICE_FIELDS = frozenset({"message", "text", "delta", "content", "finish_reason", "finishReason"})


def decode_or_none(raw: Raw | bytes | memoryview, kind: type[T]) -> T | None:
    """Decode ``raw`` as ``kind``; None if it is missing or of another type."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except DECODE_ERRORS:
        return None


def decode_counts(raw: Raw, kind: type[T]) -> T | None:
    """Decode a usage object count by count; None if it is missing.

    Numbers written as text or with a fraction count. A count that is negative, absurdly large or not a number is left
    out, as if it were missing.
    """
    counts = decode_or_none(raw, dict[str, Any])
    return None if counts is None else msgspec.convert(_clean_counts(counts), kind)


def nonsense_note(usage: Raw) -> str | None:
    """Return a note on the token counts of a usage object that are left out because they cannot be right."""
    counts = decode_or_none(usage, dict[str, Any]) or {}
    # A field that is missing or null is not a claim.
    dropped = [name for name in counts if name.endswith("_tokens") and _is_nonsense(counts[name])]
    if not dropped:
        return None
    return f"The provider's count of {' and '.join(sorted(dropped)[:3])} cannot be right and is left out."


def _is_nonsense(count: object) -> bool:
    return count is not None and _parse_count(count) is None


def _clean_counts(counts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (_clean_counts(value) if isinstance(value, dict) else None)
        if name.lower().endswith("details")
        else _parse_count(value)
        for name, value in counts.items()
    }


def _parse_count(value: object) -> int | None:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MAX_TOKEN_COUNT else None


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
    """Decode JSON that may contain NaN and Infinity, which become None; raise one of DECODE_ERRORS.

    Raw control characters, invalid escapes and trailing commas are mended.
    """
    try:
        return _LENIENT_DECODER.decode(text)
    except ValueError:
        mended = _mend(text)
        if mended == text:
            raise
        return _LENIENT_DECODER.decode(mended)


def _mend(text: str) -> str:
    """Return JSON without trailing commas, and with the backslashes of invalid escapes doubled."""
    return _REPAIRABLE.sub(lambda match: _ESCAPE.sub(_double_invalid, match[0]) if match[0] != "," else "", text)


def _double_invalid(escape: re.Match[str]) -> str:
    return escape[0] if escape[1] else "\\\\"


def salvage_array(text: str, field: str) -> Generator[None, None, tuple[list[Raw], str] | None]:
    """Decode the array ``field`` of a damaged JSON object, yielding after each item.

    An item that cannot be read becomes ``null``, and the next one that begins like the first item is read.

    Returns:
        The items before the place where the text is cut, as strict JSON, and the text without them; None if there is
        no such array.
    """
    start = re.search(rf'"{field}"\s*:\s*\[', text)
    if start is None:
        return None
    items: list[Raw] = []
    n_damaged = 0
    position = _skip_separators(text, start.end())
    opening = _OPENING.match(text, position)
    n_read = 0
    while text[position : position + 1] != "]" and n_read < _MAX_ITEMS:
        n_read += 1
        try:
            item, position = _LENIENT_DECODER.raw_decode(text, position)
        except DECODE_ERRORS:
            # The damaged item reaches to the next one; the last one to the end of the text.
            next_start = text.find(opening[0], position + 1) if opening else -1
            stop = next_start if next_start > 0 else len(text)
            try:
                item, end = _LENIENT_DECODER.raw_decode(_mend(text[position:stop]))
            except DECODE_ERRORS:
                n_damaged += 1
                if next_start < 0 or n_damaged > _MAX_DAMAGED_ITEMS:
                    break
                item, position = None, next_start
            else:
                if next_start > 0:
                    position = next_start
                else:
                    text = text[:position] + _mend(text[position:])
                    position += end
        if items and isinstance(item, dict) and not _CHOICE_FIELDS & item.keys():
            item = None  # a part of a damaged item
        if item is not None or not items or bytes(items[-1]) != b"null":
            items.append(Raw(dump_json(item)))
        position = _skip_separators(text, position)
        yield
    while items and bytes(items[-1]) == b"null" and text[position : position + 1] != "]":
        items.pop()  # the text is cut there
    rest = text[position:] if n_read < _MAX_ITEMS else "]}"
    return items, text[: start.end()] + rest


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
