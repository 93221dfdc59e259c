"""Several values in one answer: ``3 and 5``, ``(1, 2)``, ``A, C``, ``x = 5 or x = 6``.

Without brackets or within braces their order does not count; in ``(1, 2)`` and ``[1, 2]`` it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from swift_client.answers.values.markup import normalize_spaces
from swift_client.answers.values.value import Value

_BRACKETS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_SEPARATOR = re.compile(r" ?[,;] ?(?:(?:and|or|und|oder|et|ou|y|o|e) )?| (?:and|or|und|oder|et|ou|y|o|e|&) |\n")
_ASSIGNMENT = re.compile(r"([a-z](?:_\d)?) ?= ?")
_FRAME = re.compile(r"^(?:both|either|all of|(?:options?|choices?|answers?)(?= \(?[a-j]\b)) | only$")
_MAX_MEMBERS = 50


def parse_list(text: str, written: str, parse_member: Callable[[str, str], Value | None]) -> Value | None:
    """Return the several values that the cleaned ``text`` consists of, or None."""
    opening = next((mark for mark in _BRACKETS if text.startswith(mark) and text.endswith(_BRACKETS[mark])), "")
    inside = text[len(opening) : len(text) - len(opening)] if opening else text
    if opening and any(mark in inside for mark in "()[]"):  # "(A) and (C)"
        opening, inside = "", text
    parts = _split(inside if opening else _FRAME.sub("", inside))
    if not 2 <= len(parts) <= _MAX_MEMBERS or not all(parts):
        return None
    named = parts
    if not opening:
        parts = _strip_names(parts)
    found = [parse_member(part, written) for part in parts]
    if any(
        member is None or member.kind == "yes_no" or (member.kind in ("several", "letters") and part[0] not in "([")
        for part, member in zip(parts, found, strict=True)
    ):
        return None
    members = [member for member in found if member is not None]
    if members[0].unit and not members[-1].unit:  # 12 Oak Street, 10003
        return None
    if not opening and " or " in text and len({member.key for member in members}) == 1:  # 1/2 or 0.5
        return members[0]
    value = _make_list(members, opening)
    return value if opening or named == parts else replace(value, text=normalize_spaces(text))


def _split(text: str) -> list[str]:
    """Split at the separators that are not within brackets."""
    parts, begin = [], 0
    for match in _SEPARATOR.finditer(text):
        before = text[begin : match.start()]
        if sum(map(before.count, "([{")) == sum(map(before.count, ")]}")):
            parts.append(before.strip())
            begin = match.end()
    return [*parts, text[begin:].strip()]


def _strip_names(parts: Sequence[str]) -> list[str]:
    """Remove the name of the unknown from ``x=5`` and ``x=6``, but not from ``x=1`` and ``y=2``."""
    matches = [_ASSIGNMENT.match(part) for part in parts]
    names = {match[1] for match in matches if match}
    if len(names) == 1 and matches[0]:
        return [part[match.end() :] if match else part for part, match in zip(parts, matches, strict=True)]
    return list(parts)


def _make_list(members: list[Value], opening: str) -> Value:
    units = {member.unit.removesuffix("s") for member in members}
    # "3 apples and 5 pears" is not "5 apples and 3 pears"; in "3 and 5 cm" the unit is of both.
    keys = [(member.key, member.unit.removesuffix("s")) if len(units - {""}) > 1 else member.key for member in members]
    texts = [f"{member.text} {member.unit}" if len(units - {""}) > 1 else member.text for member in members]
    shown = ", ".join(texts)
    if opening in ("(", "["):
        return Value("several", (opening, *keys), f"{opening}{shown}{_BRACKETS[opening]}")
    order = sorted(range(len(keys)), key=lambda index: repr(keys[index]))
    kind = "letters" if all(member.kind == "letter" for member in members) else "several"
    shown = f"\\{{{shown}\\}}" if opening else shown
    return Value(kind, ("several", *(keys[index] for index in order)), shown)
