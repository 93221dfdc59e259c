r"""Marked answers in a completion: ``\boxed{...}``, "the answer is ...", "#### 18", "A: 18".

Everything here is linear in the length of the text, so a megabyte of braces takes a fraction of a second.
"""

from __future__ import annotations

import json
import re
from collections import deque
from itertools import islice

from swift_client.answers.normalize import MAX_VALUE_LENGTH, has_words, normalize
from swift_client.answers.numbers import parse_number

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")


def find_boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}`` or ``\fbox{...}``, braces matched; None without one."""
    start = min((index for index in (text.find("\\boxed"), text.find("\\fbox")) if index >= 0), default=-1)
    if start < 0:
        return None
    last: tuple[int, int] | None = None
    starts: list[int] = []  # per open brace: start of the box's content, -1 if it does not open a box
    for token in _BOX_TOKEN.finditer(text, start):
        mark = token[0]
        if mark == "}":
            content = starts.pop() if starts else -1
            if 0 <= content < token.start() and (last is None or content > last[0]):
                last = (content, token.start())
        elif mark.endswith("{"):
            if mark == "{":
                starts.append(-1)
            elif len(mark) > 2:
                starts.append(token.end())
    return text[slice(*last)].strip() or None if last else None


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match of ``pattern`` in ``text``."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


_MARK = re.compile(
    r"""
      \#{4}[ ]?                                                          # GSM8K's references: "#### 18"
    | ^[ *_]{0,4}A[*_]{0,2}:[*_]{0,2}                                    # "A: 18"
    | (?<!["'])\b(?i:answer(?![ ]choice)|correct[ ](?:option|choice))\b[^.\n:=]{0,60}?
      (?:\b(?i:is|be|are)\b[ ]{0,2}:?|[:=])[*_]{0,3}                     # "the answer is", "**Answer:**"
    | \b(?i:final[ ]answer)\b[*_ ]{0,4}\n                                # a heading of its own
    """,
    re.VERBOSE | re.MULTILINE,
)
# Limit on the markers that are tried, from the end, so that a text full of markers stays cheap.
_MAX_MARKS = 8


def find_marked_answer(text: str) -> str | None:
    """Return the last marked answer as written, or None.

    A number, formula, option letter or yes/no may be followed by more words. Other words are an answer only at the end
    of the text: "the answer is not simple, because ..." does not mark one.
    """
    box = find_boxed(text)
    if box is not None:
        return box
    ends = [mark.end() for mark in _MARK.finditer(text)]
    for end in islice(reversed(ends), _MAX_MARKS):
        value = _value_at(text, end)
        if value is not None:
            return value
    return None


_SENTENCE_END = re.compile(r"\n|[.!?](?=[\s*]|$)|,? (?:because|since)\b|, (?:so|which|as|where)\b| [-–—] ")
_IN_MATH = re.compile(r"[*_]{0,3}(?:\$\$?([^$\n]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\])", re.DOTALL)
_LEADING_VALUE = re.compile(
    r"""
      (?P<amount>[-+−]?[$€£¥₹]?\s?[-+−]?(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:\s?/\s?\d+|%)?)
        (?=$|[\s*).,;:!])(?!\s?(?:to|or|and|[-–+*/=^×])\s?[\d$])
    | (?P<option>(?:(?i:option|choice)\s)?(?:\([A-J]\)|[A-J](?=$|[\s).:,*])(?!\s[a-z])))
    | (?P<word>(?i:yes|no|true|false)\b(?=$|[\s.,;:!*]))
    """,
    re.VERBOSE,
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|mbox)\{[^}]*\}")


def _value_at(text: str, start: int) -> str | None:
    window = text[start : start + MAX_VALUE_LENGTH].lstrip(" \n:*_`\"'")
    math = _IN_MATH.match(window)
    if math:
        formula: str = next(filter(None, math.groups()))
        # "$18 per day and $2" is about money, "$18$" and "$3 + 4$" are formulas
        if not has_words(_TEXT_COMMAND.sub("", formula)):
            return formula
    end = _SENTENCE_END.search(window)
    value = window[: end.start() if end else None].replace("**", "").strip()
    after = window[end.end() :] if end else ""
    if not value:
        return None
    if parse_number(normalize(value)) is not None or _looks_like_formula(value):
        return value
    leading_value = _LEADING_VALUE.match(value)
    if leading_value:
        return leading_value[0]
    ends_text = not after.strip(" \n*_`\"'.)") and len(text) - start <= MAX_VALUE_LENGTH
    return value if ends_text and len(value) <= 80 and len(value.split()) <= 8 else None


def _looks_like_formula(text: str) -> bool:
    return len(text) <= 80 and re.search(r"[\d\\]", text) is not None and not has_words(_TEXT_COMMAND.sub("", text))


_EXCLAMATION_OR_QUESTION = re.compile(r"[A-Za-z]!$|\?$")
_CODE = re.compile(r"[;`<]|=>|\w\w\(|^[#@/]|\b(?:def|return|import|select)\b", re.IGNORECASE)


def short_reply(text: str) -> str | None:
    """Return the text if it is only an answer: one line of at most five words, no code and no JSON."""
    text = text.strip()
    if not text or len(text) > 64 or "\n" in text or _EXCLAMATION_OR_QUESTION.search(text) or len(text.split()) > 5:
        return None
    if "\\" not in text and ("{" in text or _CODE.search(text)):
        return None
    if text[0] in "[{":
        try:
            json.loads(text)
        except ValueError:
            return text
        return None
    return text
