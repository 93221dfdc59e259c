"""JSON in a text: its position, its value, and one canonical form for equal values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from swift_client.answers.markers import last_match
from swift_client.answers.numbers import parse_number, shorten_decimal

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)

Span = tuple[int, int]  # index of the first character and of the one after the last


def find_json(text: str) -> Span | None:
    """Find the JSON in a text.

    It is the complete text, else the last fenced block, else the longest value from the first "{" or the first "[".
    """
    fence = last_match(_FENCE, text)
    for begin, stop in ((0, len(text)), fence.span(1) if fence else (0, 0)):
        block = text[begin:stop]
        start, end = begin + len(block) - len(block.lstrip()), begin + len(block.rstrip())
        if start < end and value_end(text, start) == end:
            return start, end
    starts = [start for start in (text.find("{"), text.find("[")) if start >= 0]
    spans = [(start, last) for start in starts if (last := value_end(text, start)) is not None]
    return max(spans, key=lambda span: span[1], default=None)


def value_end(text: str, start: int) -> int | None:
    """Return the end of the value that begins at ``start``; None if there is none, or if it is nested too deeply."""
    try:
        return _POSITION_DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def member_spans(text: str, start: int) -> dict[str, Span]:
    """Return the positions of the values of the object that begins at ``start``, by key; the last of equal keys.

    Raises:
        ValueError, RecursionError: there is no object.
    """
    spans: dict[str, Span] = {}
    position = _skip_past(text, start, "{")
    while text[position : position + 1] != "}":
        if spans:
            position = _skip_past(text, position, ",")
        key, position = _POSITION_DECODER.raw_decode(text, position)
        value_start = _skip_past(text, position, ":")
        value_stop = _POSITION_DECODER.raw_decode(text, value_start)[1]
        spans[key] = value_start, value_stop
        position = _SPACE.match(text, value_stop).end()  # type: ignore[union-attr]  # it always matches
    return spans


def decode(text: str) -> Any:
    """Parse JSON, with numbers as Decimal.

    Raises:
        ValueError, RecursionError: it is not JSON, contains NaN, Infinity or a number beyond Decimal's range, or is
            nested too deeply.
    """
    return _DECODER.decode(text)


def canonicalize(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no white space, numbers by value.

    Equal values have the same canonical form: ``{"a": 1.0}`` and ``{"a":1}``, an enum and its value, two sets.

    Args:
        value: decoded JSON, or any Python object that pydantic can serialize.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    if isinstance(value, Enum):
        return canonicalize(value.value)
    if value is None or isinstance(value, (str, bool)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float, Decimal)):
        return _canonicalize_number(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
    if isinstance(value, Mapping):
        members = {key if isinstance(key, str) else canonicalize(key): member for key, member in value.items()}
        return "{" + ",".join(f"{json.dumps(key)}:{canonicalize(members[key])}" for key in sorted(members)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonicalize, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return "[" + ",".join(sorted(map(canonicalize, value))) + "]"
    if hasattr(value, "model_dump"):
        return canonicalize(value.model_dump())
    from pydantic_core import to_jsonable_python

    return canonicalize(to_jsonable_python(value, fallback=str))


def _canonicalize_number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is not a finite number")
    number = parse_number(str(value).lower())
    return str(value) if number is None else shorten_decimal(format(value, "f"))


def _skip_past(text: str, position: int, sign: str) -> int:
    """Return the position after ``sign`` and the white space around it."""
    match = re.compile(rf"\s*{re.escape(sign)}\s*").match(text, position)
    if match is None:
        raise ValueError(f"no {sign} at {position}")
    return match.end()


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _parse_decimal(number: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation as error:  # an exponent of 19 digits or more; it is an ArithmeticError
        raise ValueError(f"{number[:40]} is too large") from error


_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder(parse_float=_parse_decimal, parse_int=_parse_decimal, parse_constant=_reject_constant)
# Finds where a value ends, whatever its numbers are.
_POSITION_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_reject_constant)
