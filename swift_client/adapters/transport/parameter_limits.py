"""Limits that a 400 states: the most choices or alternatives that one call may request."""

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

_LIMIT_PREFIXES = (  # the words right before the limit, most reliable first
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
    """Parse the limit that a 400 states for ``n`` or ``top_logprobs``.

    The parameter comes from ``param`` (``error.param``), else from the message, else from the rejected value ("but got
    20") if exactly one of ``request_values`` equals it. A complaint about ``n`` without a readable number means 1.
    Never use this for a 429 or a timeout.

    Args:
        message: the provider's own message.
        param: the parameter that the provider named, if any.
        request_values: values of the request, such as ``{"n": 16, "top_logprobs": 20}``; a "limit" that would not
            lower them is ignored.

    Returns:
        ``("n", >= 1)``, ``("top_logprobs", >= 0)``, or None if no limit is stated.
    """
    request_values = request_values or {}
    limited = _find_param(param) if param else _find_param(message) or _find_param_by_value(message, request_values)
    if limited is None:
        return None
    # A limit that the request already respects is something else, such as the lower end of a range.
    limit = _find_limit(message)
    if limit is None:
        return ("n", 1) if limited == "n" and request_values.get("n", 2) > 1 else None
    if limit < (1 if limited == "n" else 0) or limit >= request_values.get(limited, limit + 1):
        return None
    return limited, limit


def _find_param(text: str) -> LimitedParam | None:
    return next((param for param, pattern in _PARAM_PATTERNS if pattern.search(text)), None)


def _find_param_by_value(message: str, request_values: Mapping[str, int]) -> LimitedParam | None:
    rejected = re.search(r"\b(?:got|received|given|was)\s*:?\s*(\d+)", message, re.IGNORECASE)
    params: tuple[LimitedParam, ...] = ("n", "top_logprobs")
    matches = [param for param in params if rejected and request_values.get(param) == int(rejected[1])]
    return matches[0] if len(matches) == 1 else None


def _find_limit(message: str) -> int | None:
    for pattern in _LIMIT_PATTERNS:
        if match := pattern.search(message):
            return int(match[1])
    match = _EXCLUSIVE_LIMIT.search(message)
    return int(match[1]) - 1 if match else None
