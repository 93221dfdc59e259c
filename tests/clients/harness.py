"""Runs the checks of one client and prints their results as JSON, in the client's own environment.

The arguments of a script are the base URL of the service, a client's key and the file of the snippet on the page.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

URL, KEY, SNIPPET = sys.argv[1:]
QUESTION = "What is 17 * 24? End with: The answer is N."
MESSAGES = [{"role": "user", "content": QUESTION}]
ASK_WEATHER = [{"role": "user", "content": "How cold is it in Oslo?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER_TOOL = {"type": "function", "function": {"name": "weather", "description": "", "parameters": SCHEMA}}


def report(*checks: Callable[[], object]) -> None:
    """Print one JSON object: the result of each check by its name, and what the snippet prints."""
    results = {check.__name__: check() for check in checks}
    print(json.dumps({**results, "snippet": printed_by_snippet()}))


def printed_by_snippet() -> str:
    """Run the snippet and return all that it prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(Path(SNIPPET).read_text(), SNIPPET, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own page
    return output.getvalue()


def error_of(action: Callable[[], object]) -> str:
    """Return the class of the error that an action raises, such as "openai.NotFoundError"."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
    return "no error"
