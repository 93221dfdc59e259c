"""JSON read leniently, for every codec: one odd field or byte never costs a whole paid reply."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from swift_client.adapters.transport import error_responses
from swift_client.errors import ResponseDecodeError

T = TypeVar("T")

DECODE_ERRORS = (ValueError, RecursionError)
"""What decoding hostile bytes raises: msgspec's and json's errors and UnicodeDecodeError are ValueErrors."""

_SEPARATOR = re.compile(r"[\s,]*")


def _parse_finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


# Python servers write NaN and Infinity, which are no JSON; like 1e999 they mean that there is no number.
_LENIENT_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_parse_finite)


def decode_or_none(raw: Raw | bytes | memoryview, kind: type[T]) -> T | None:
    """Decode ``raw`` as ``kind``; None where it is missing or something else."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except DECODE_ERRORS:
        return None


def has_value(raw: Raw) -> bool:
    """Whether the field is there and neither null nor empty."""
    return bytes(raw) not in (b"", b"null", b'""', b"[]", b"{}", b"false")


def repair_json(data: bytes | Raw) -> bytes:
    """Return JSON as strict JSON: NaN and Infinity become null, broken characters U+FFFD or "?"."""
    return dump_json(decode_leniently(bytes(data).decode("utf-8", "replace")))


def decode_leniently(text: str) -> Any:
    """Decode JSON that may hold NaN and Infinity, which become None; raise one of UNREADABLE."""
    return _LENIENT_DECODER.decode(text)


def salvage_array(text: str, field: str) -> Generator[None, None, tuple[list[Raw], str] | None]:
    """Read the array ``field`` of a JSON object as far as it is whole, yielding after each item.

    Returns:
        The whole items as strict JSON, and the text without them; None where there is no such array.
    """
    start = re.search(rf'"{field}"\s*:\s*\[', text)
    if start is None:
        return None
    items: list[Raw] = []
    at = _skip_commas(text, start.end())
    while text[at : at + 1] != "]":
        try:
            item, at = _LENIENT_DECODER.raw_decode(text, at)
        except DECODE_ERRORS:
            break
        items.append(Raw(dump_json(item)))
        at = _skip_commas(text, at)
        yield
    return items, text[: start.end()] + text[at:]


def dump_json(value: Any) -> bytes:
    """Write strict JSON; half a surrogate pair becomes "?"."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def decode_error(data: bytes, problem: BaseException, kind: str) -> ResponseDecodeError:
    """Return the error for bytes that are no ``what`` ("chat completion")."""
    page = error_responses.error_from_html(data)
    if page:
        return page
    reason = str(problem).splitlines()[0] if isinstance(problem, msgspec.MsgspecError) else type(problem).__name__
    return ResponseDecodeError(
        f"The reply is no whole JSON {kind} ({reason}): {excerpt(data)}",
        hint="Try again; if it stays so, check base_url=.",
        retryable=True,
    )


def truncation_note(n_complete: int) -> str:
    """Return the note on a damaged reply of which ``whole`` completions could be read."""
    return f"The reply is cut or damaged: only the {n_complete} whole completion(s) before that were read."


def excerpt(data: bytes) -> str:
    """Return how a body begins, for a message."""
    start = data[:80].decode("utf-8", "replace")
    return repr(start + "..." if len(data) > 80 else start) if data else "it is empty"


def _skip_commas(text: str, index: int) -> int:
    found = _SEPARATOR.match(text, index)
    return found.end() if found else index
