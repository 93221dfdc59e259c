r"""Taking the dress off LaTeX: spacing, text and sizing commands go, fractions and roots get one writing."""

from __future__ import annotations

import re

_LATEX = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?", ""),
        (r"\\!|\{,\}(?=\d)|\\,(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|~", " "),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boxed|fbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*\{\s*([^{}\s]+)\s*\}\s*(?:\{\s*([^{}\s]+)\s*\}|(\d))", r"\\frac{\1}{\2\3}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\leq(?![A-Za-z])", r"\\le"),
        (r"\\geq(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])", r"\\ne"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", ""),
        (r"([\^_])\{(\w)\}", r"\1\2"),
        (r"\\([%$#&_])", r"\1"),
        (r"\\[()\[\]](?=.|$)", ""),
    )
]


def strip_formatting(text: str) -> str:
    """Return ``text`` with one command for each meaning and none that only changes the looks."""
    if "\\" in text or "~" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = re.sub(r"°\s?[cf]?(?![a-z])", "", text)
    text = re.sub(r"√\s?(\d+|[a-z])", r"\\sqrt{\1}", text)
    return re.sub(r"(?<![a-z\\])sqrt\(([^()]*)\)", r"\\sqrt{\1}", text)


_MIXED = re.compile(r"([+-]?)\s?(\d+)\s?\\frac\{(\d+)\}\{(\d+)\}")
_FRACTION = re.compile(r"(?:^|(?<=[\s(\[,{+=-]))\\frac\{(-?\w+|-?\\pi)\}\{(\d+|[a-z])\}(?=$|[\s,)\]}+=-])")


def simplify_fractions(text: str) -> str:
    r"""``\frac{14}{3}`` is ``14/3`` and ``2\frac{1}{2}`` is ``2 1/2``; within products the command stays."""
    text = _MIXED.sub(r"\1\2 \3/\4", text) if _MIXED.fullmatch(text) else text
    return _FRACTION.sub(r"\1/\2", text)


_WORD = re.compile(r"(?<![\\A-Za-z{])(?!(?:and|or)\b)(?:[A-Za-z]{3}|(?<=\d )[A-Za-z]{2})")


def has_words(text: str) -> bool:
    r"""Whether ``text`` holds words ("star", "5 pm") rather than symbols (``2xy``, ``\begin{matrix}``) only."""
    return _WORD.search(text) is not None
