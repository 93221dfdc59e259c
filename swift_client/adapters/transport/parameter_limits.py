"""What a 400 says about a cap: how many choices or alternatives one call may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Field = Literal["n", "top_logprobs"]

_FIELDS: tuple[tuple[Field, re.Pattern[str]], ...] = (
    ("top_logprobs", re.compile(r"log_?probs", re.IGNORECASE)),
    (
        "n",
        re.compile(
            r"(?<![\w'’])[\"'`]?\bn\b[\"'`]?(?![\w'’])"  # the word n, quoted or not, but not the one in "don't"
            r"|\bn_cmpl\b|candidate_?count|multiple candidates|num(?:ber of)? ?_?(?:choices|completions)",
            re.IGNORECASE,
        ),
    ),
)

_LEADS = (  # what stands right before the cap, the surest first
    r"between\s+-?\d+\s+and",
    r"-?\d+\s*<=?\s*[\w`'\"]+\s*<=",
    r"(?:range|in|from)\s*(?:of\s*)?[\[(]?\s*-?\d+\s*(?:,|\.\.|-|to)",
    r"max(?:imum)?(?:\s+(?:allowed|value|number|limit|supported)(?:\s+of\s+[\w ]{1,30}?)?)*\s*(?:is|of|are|:|=)?",
    r"(?:at most|no more than|up to|not exceed|cannot exceed|<=|≤|less than or equal to|limit(?:ed)? (?:is|of|to))",
    r"only\s+(?:supports?\s+|accepts?\s+|allows?\s+)?[\"'`]?(?:n|(?:top_)?logprobs)?[\"'`]?\s*=?",
    r"must (?:be|equal)\s*(?:=|to\s)?",
)
_NUMBER = r"\s*[\"'`(\[]*(\d{1,6})\b(?!\.\d)"
_CAPS = tuple(re.compile(lead + _NUMBER, re.IGNORECASE) for lead in _LEADS)
_BELOW = re.compile(r"(?:less than|smaller than|below|<)(?!=)" + _NUMBER, re.IGNORECASE)


def cap_from_message(
    message: str, *, param: str | None = None, asked: Mapping[str, int] | None = None
) -> tuple[Field, int] | None:
    """Read the cap that a 400 names for ``n`` or ``top_logprobs``, or None where it names none.

    The field comes from ``param`` (``error.param``), else from the sentence, else from the value that it complains
    about ("but got 20") where exactly one field of ``asked`` had that value. A complaint about ``n`` with no
    readable number means 1. Never read a 429 or a timeout with this.

    Args:
        message: the provider's own sentence.
        param: the field that the provider named, if any.
        asked: what the request asked, such as ``{"n": 16, "top_logprobs": 20}``; a "cap" that would not lower it is
            no cap and gives None.

    Returns:
        ``("n", >= 1)``, ``("top_logprobs", >= 0)`` or None.
    """
    asked = asked or {}
    field = _field(param) if param else _field(message) or _field_of_value(message, asked)
    if field is None:
        return None
    cap = _number(message)
    if cap is None:
        return ("n", 1) if field == "n" and asked.get("n", 2) > 1 else None
    if cap < (1 if field == "n" else 0) or cap >= asked.get(field, cap + 1):
        return None
    return field, cap


def _field(text: str) -> Field | None:
    return next((field for field, pattern in _FIELDS if pattern.search(text)), None)


def _field_of_value(message: str, asked: Mapping[str, int]) -> Field | None:
    got = re.search(r"\b(?:got|received|given|was)\s*:?\s*(\d+)", message, re.IGNORECASE)
    fields: tuple[Field, ...] = ("n", "top_logprobs")
    matches = [field for field in fields if got and asked.get(field) == int(got[1])]
    return matches[0] if len(matches) == 1 else None


def _number(message: str) -> int | None:
    for pattern in _CAPS:
        if found := pattern.search(message):
            return int(found[1])
    found = _BELOW.search(message)
    return int(found[1]) - 1 if found else None
