"""The child process that compares formulas with math-verify: one JSON line in, one out.

It may hang or fill the memory on a hostile formula, so it limits itself (memory, alarm) and its parent kills it at the
deadline. Only math-verify's LaTeX grammar is used: its plain-expression reader passes text to Python's ``eval``.
"""

from __future__ import annotations

import cmath
import json
import logging
import os
import signal
import sys
from functools import lru_cache
from typing import Any

_MAX_MEMORY = 2 << 30
"""Bytes of address space; sympy and its grammar take about a tenth of it."""


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


def _set_alarm(seconds: int) -> None:
    """End this process after ``seconds``, even inside C code and even if the parent is gone; 0 takes it back."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


@lru_cache(maxsize=1024)
def _parse_formula(formula: str) -> tuple[list[Any], complex | None]:
    """Return the parsed forms of a formula, and its value where it is a constant."""
    from math_verify import LatexExtractionConfig, parse

    forms = parse(f"${formula}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    if not forms or not getattr(forms[0], "is_number", False):
        return forms, None
    value = complex(forms[0].evalf())
    return forms, value if cmath.isfinite(value) else None


def _are_equal(a: str, b: str) -> bool | None:
    from math_verify import verify

    try:
        (left, x), (right, y) = _parse_formula(a), _parse_formula(b)
        if x is not None and y is not None and not cmath.isclose(x, y, rel_tol=1e-9):
            return False  # sixty times faster than to simplify the difference
        # not symmetric: an assignment may stand for its value only on one side
        return any(verify(gold, target, timeout_seconds=None) for gold, target in ((left, right), (right, left)))
    except Exception:  # any failure inside sympy means the same: not comparable
        return None


def main() -> None:
    """Answer ``[a, b, seconds]`` with true, false or null (could not be compared) until standard input ends."""
    logging.disable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    _limit_memory()
    import math_verify  # noqa: F401 - so that no question's time is spent on it

    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        _set_alarm(int(seconds) + 2)
        same = _are_equal(a, b)
        _set_alarm(0)
        answers.write(json.dumps(same) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
