"""JSON in a text: its position, its value, and one canonical form for equal values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from swift_client.answers.numbers import parse_number, shorten_decimal

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)

Span = tuple[int, int]  # index of the first character and of the one after the last


# What comes before a value says whether it is the verdict or an example.
_VERDICT_BEFORE = re.compile(
    r"(?:answer|verdict|result|output|final|response|decision|conclusion|evaluation|rating|judge?ment|score|correct(?:ed|ion)?"
    r"|antwort|ergebnis|urteil|réponse|résultat|respuesta|resultado|resposta|risposta|antwoord|ответ|答案|结果|結果|回答|답)"
    r"[^.!?\n{}\[\]]{0,40}[:：=]?[\s`*]*(?:json)?\s*$",
    re.IGNORECASE,
)
_EXAMPLE_BEFORE = re.compile(
    r"(?:example|e\.g\.|for instance|such as|like|format|schema|template|sample|input|given|beispiel"
    r"|exemple|ejemplo|esempio|exemplo"
    r"|voorbeeld|пример|例如|例)[^.!?\n{}\[\]]{0,30}[:：=]?[\s`*]*(?:json)?\s*$",
    re.IGNORECASE,
)


def find_json(text: str) -> Span | None:
    """Find the JSON that answers in a text.

    It is the complete text, else, of the values that stand in it, the last object or list of objects: one that words
    such as "verdict:" announce before one in a fenced block, any of them before an announced example. Lists without
    objects count only where there are no objects. What stands inside a value that breaks off is not an answer.
    """
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if start < end and value_end(text, start) == end:
        return start, end
    fences = [fence.span(1) for fence in _FENCE.finditer(text)]
    best, best_rank = None, (False, -2)
    for start, end in _values_in(text, fences):
        before = text[max(0, start - 80) : start]
        is_fenced = any(begin <= start and not text[begin:start].strip() for begin, stop in fences if end <= stop)
        rank = 2 if _VERDICT_BEFORE.search(before) else -1 if _EXAMPLE_BEFORE.search(before) else int(is_fenced)
        if ("{" in text[start:end], rank) >= best_rank:
            best, best_rank = (start, end), ("{" in text[start:end], rank)
    return best


_OPENING = re.compile(r'\{(?=\s{0,40}["}])|\[(?=\s{0,40}["\[{\]\-\dtfn])')
_MAX_FAILURES = 500  # starts that turn out to be none; each costs the decoder a count of the lines before it


def _values_in(text: str, fences: list[Span]) -> Iterator[Span]:
    """Find the outermost objects and lists in ``text``, and the values that fill a fenced block, in order.

    After a failure the search goes on where it occurred, so that each character is parsed at most a few times.
    """
    for begin, stop in fences:
        block = text[begin:stop]
        start, end = begin + len(block) - len(block.lstrip()), begin + len(block.rstrip())
        if start < end and text[start] not in "[{" and value_end(text, start) == end:
            yield start, end
    position = failures = 0
    while opening := _OPENING.search(text, position):
        start = opening.start()
        try:
            position = _POSITION_DECODER.raw_decode(text, start)[1]
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()):
                return  # the rest of the text is inside a value that breaks off
            failures += 1
            if failures > _MAX_FAILURES:
                return
            position = max(error.pos, start + 1)
        except (ValueError, RecursionError):
            return
        else:
            yield start, position


def is_json(text: str) -> bool:
    """Return whether ``text`` is an object or list of JSON and nothing else."""
    text = text.strip()
    return text[:1] in ("{", "[") and value_end(text, 0) == len(text)


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
