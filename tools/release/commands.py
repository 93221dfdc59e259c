"""Child processes of the release: their output is shown only if they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.release.rows import CheckFailed

TAIL = 25
"""Lines of a failed command's output that are shown."""


def run(*command: str | Path, cwd: Path, environment: Mapping[str, str] | None = None, code: int = 0) -> str:
    """Run a command and return its output, with that on standard error.

    Raises:
        CheckFailed: it cannot be started, or ends with another code than ``code``.
    """
    words = [str(word) for word in command]
    # A path in PYTHONPATH would let an installed package be taken from elsewhere.
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        result = subprocess.run(
            words,
            cwd=cwd,
            env={**clean, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CheckFailed(f"{words[0]} cannot be started: {error.strerror}") from error
    if result.returncode != code:
        lines = "\n".join(result.stdout.strip().splitlines()[-TAIL:])
        raise CheckFailed(f"{Path(words[0]).name} {' '.join(words[1:4])} ended with {result.returncode}:\n{lines}")
    return result.stdout
