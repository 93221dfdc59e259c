"""What a 400 says about a cap: how many choices or alternatives one call may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

LimitedParam = Literal["n", "top_logprobs"]

_PARAM_PATTERNS: tuple[tuple[LimitedParam, re.Pattern[str]], ...] = (
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

_LIMIT_PREFIXES = (  # what stands right before the cap, the surest first
    r"between\s+-?\d+\s+and",
    r"-?\d+\s*<=?\s*[\w`'\"]+\s*<=",
    r"(?:range|in|from)\s*(?:of\s*)?[\[(]?\s*-?\d+\s*(?:,|\.\.|-|to)",
    r"max(?:imum)?(?:\s+(?:allowed|value|number|limit|supported)(?:\s+of\s+[\w ]{1,30}?)?)*\s*(?:is|of|are|:|=)?",
    r"(?:at most|no more than|up to|not exceed|cannot exceed|<=|≤|less than or equal to|limit(?:ed)? (?:is|of|to))",
    r"only\s+(?:supports?\s+|accepts?\s+|allows?\s+)?[\"'`]?(?:n|(?:top_)?logprobs)?[\"'`]?\s*=?",
    r"must (?:be|equal)\s*(?:=|to\s)?",
)
_NUMBER = r"\s*[\"'`(\[]*(\d{1,6})\b(?!\.\d)"
_LIMIT_PATTERNS = tuple(re.compile(lead + _NUMBER, re.IGNORECASE) for lead in _LIMIT_PREFIXES)
_EXCLUSIVE_LIMIT = re.compile(r"(?:less than|smaller than|below|<)(?!=)" + _NUMBER, re.IGNORECASE)


def parse_parameter_limit(
    message: str, *, param: str | None = None, request_values: Mapping[str, int] | None = None
) -> tuple[LimitedParam, int] | None:
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
    request_values = request_values or {}
    field = _find_param(param) if param else _find_param(message) or _find_param_by_value(message, request_values)
    if field is None:
        return None
    cap = _find_limit(message)
    if cap is None:
        return ("n", 1) if field == "n" and request_values.get("n", 2) > 1 else None
    if cap < (1 if field == "n" else 0) or cap >= request_values.get(field, cap + 1):
        return None
    return field, cap


def _find_param(text: str) -> LimitedParam | None:
    return next((field for field, pattern in _PARAM_PATTERNS if pattern.search(text)), None)


def _find_param_by_value(message: str, request_values: Mapping[str, int]) -> LimitedParam | None:
    got = re.search(r"\b(?:got|received|given|was)\s*:?\s*(\d+)", message, re.IGNORECASE)
    fields: tuple[LimitedParam, ...] = ("n", "top_logprobs")
    matches = [field for field in fields if got and request_values.get(field) == int(got[1])]
    return matches[0] if len(matches) == 1 else None


def _find_limit(message: str) -> int | None:
    for pattern in _LIMIT_PATTERNS:
        if found := pattern.search(message):
            return int(found[1])
    found = _EXCLUSIVE_LIMIT.search(message)
    return int(found[1]) - 1 if found else None
