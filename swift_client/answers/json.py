"""JSON in a text: where it stands, what it says, and one writing for equal values."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from swift_client.answers.markers import last_match
from swift_client.answers.numbers import parse_number, shorten_decimal

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)

Span = tuple[int, int]
"""First character and the one after the last."""


def find_json(text: str) -> Span | None:
    """Find the whole text, else the last fenced block, else the longest JSON from the first "{" or the first "["."""
    fenced = last_match(_FENCE, text)
    for begin, stop in ((0, len(text)), fenced.span(1) if fenced else (0, 0)):
        inside = text[begin:stop]
        first, last = begin + len(inside) - len(inside.lstrip()), begin + len(inside.rstrip())
        if first < last and value_end(text, first) == last:
            return first, last
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    found = [(at, end) for at in starts if (end := value_end(text, at)) is not None]
    return max(found, key=lambda span: span[1], default=None)


def value_end(text: str, start: int) -> int | None:
    """Return where the value that begins at ``start`` ends, or None where there is none, or one nested too deep."""
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def member_spans(text: str, start: int) -> dict[str, Span]:
    """Return where the values of the object that begins at ``start`` stand, by key, the last of equal keys.

    Raises:
        ValueError, RecursionError: there is no object.
    """
    found: dict[str, Span] = {}
    at = _skip_past(text, start, "{")
    while text[at : at + 1] != "}":
        if found:
            at = _skip_past(text, at, ",")
        key, at = _DECODER.raw_decode(text, at)
        at = _skip_past(text, at, ":")
        end = _DECODER.raw_decode(text, at)[1]
        found[key] = at, end
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing too
    return found


def decode(text: str) -> Any:
    """Read JSON, numbers as Decimal.

    Raises:
        ValueError, RecursionError: it is none, has NaN or Infinity, or is nested too deep.
    """
    return _DECODER.decode(text)


def canonicalize(value: Any) -> str:
    """Write a decoded value: sorted keys, no white space, and numbers by value: ``{"a": 1.0}`` equals ``{"a":1}``."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{canonicalize(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonicalize, value)) + "]"
    if isinstance(value, Decimal):
        number = parse_number(str(value).lower())
        return str(value) if number is None else shorten_decimal(format(value, "f"))
    return json.dumps(value, ensure_ascii=False)


def _skip_past(text: str, position: int, sign: str) -> int:
    """Return where what follows ``sign`` begins, white space around it left out."""
    found = re.compile(rf"\s*{re.escape(sign)}\s*").match(text, position)
    if found is None:
        raise ValueError(f"no {sign} at {position}")
    return found.end()


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_reject_constant)
