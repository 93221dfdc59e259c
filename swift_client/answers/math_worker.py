"""Child process that compares formulas with math-verify: one JSON line in, one JSON line out.

A hostile formula may hang it or fill the memory, so it limits itself (memory, alarm) and its parent kills it at the
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

# Limit on the address space, in bytes; sympy and its grammar take about a tenth of it.
_MAX_MEMORY = 2 << 30


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


def _set_alarm(seconds: int) -> None:
    """End this process after ``seconds``, even inside C code and without its parent; 0 cancels the alarm."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


@lru_cache(maxsize=1024)
def _parse_formula(formula: str) -> tuple[list[Any], complex | None]:
    """Return the parsed forms of a formula, and its value if it is a constant."""
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
    except Exception:  # any error inside sympy means: not comparable
        return None


def main() -> None:
    """Answer each ``[a, b, seconds]`` on stdin with true, false or null (not comparable), until stdin ends."""
    logging.disable()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output printed by a library must not look like a reply
    _limit_memory()
    import math_verify  # noqa: F401 - not at the expense of the first comparison

    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        _set_alarm(int(seconds) + 2)
        equal = _are_equal(a, b)
        _set_alarm(0)
        replies.write(json.dumps(equal) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
