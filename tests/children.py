"""Commands and scripts for tests, in this process or in a fresh interpreter, in an empty folder.

A start of Python with all imports takes more than a second, so most tests call :func:`command` and :func:`snippet`,
which run here with their own streams, folder and environment. :func:`process` and :func:`python` start a real process,
which can reach loopback only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = "120"


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a child; conftest.py has already taken keys, proxies and home out of ours."""
    path = os.pathsep.join((str(ROOT / "tests" / "loopback_only"), str(ROOT)))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "COLUMNS": COLUMNS, **extra}


def python(
    *arguments: str, cwd: Path, stdin: bytes = b"", timeout: float = 90.0, **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python *arguments`` in ``cwd`` with ``extra`` environment variables, in a process of its own."""
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, input=stdin, capture_output=True, timeout=timeout, env=environment(**extra))


def process(
    *arguments: str, cwd: Path, stdin: bytes = b"", timeout: float = 90.0, **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``swift-client *arguments`` in a process of its own."""
    start = "from swift_client.cli import main; main()"
    return python("-c", start, *arguments, cwd=cwd, stdin=stdin, timeout=timeout, **extra)


def command(*arguments: str, cwd: Path, stdin: bytes = b"", **extra: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``swift-client *arguments`` in this process."""
    from swift_client.cli import main

    return _run_here(main, ("swift-client", *arguments), cwd=cwd, stdin=stdin, extra=extra)


def snippet(
    code: str, *arguments: str, cwd: Path, name: str = "<snippet>", **extra: str
) -> subprocess.CompletedProcess[bytes]:
    """Run Python code as the main module of this process."""
    module = types.ModuleType("__main__")
    module.__file__ = name

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "__main__", module)
            exec(compile(code, name, "exec"), module.__dict__)  # noqa: S102 - it stands in our own pages

    return _run_here(run, (name, *arguments), cwd=cwd, stdin=b"", extra=extra)


def _run_here(
    run: Callable[[], None], arguments: tuple[str, ...], *, cwd: Path, stdin: bytes, extra: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Call ``run`` with streams, arguments, folder and environment of its own, and an exit code like a process."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for name in ("out", "err")}
    code: object = 0
    levels = {logger: logger.level for logger in (logging.getLogger(), logging.getLogger("swift_client"))}
    handlers = logging.getLogger().handlers[:]
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd):
        for name, value in {"COLUMNS": COLUMNS, **extra}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", list(arguments))
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        patch.setattr(sys, "stdout", streams["out"])
        patch.setattr(sys, "stderr", streams["err"])
        try:
            run()
        except SystemExit as done:
            code = done.code
        except Exception:
            traceback.print_exc()
            code = 1
    for logger, level in levels.items():
        logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers
    status = code if isinstance(code, int) else int(code is not None)
    output = {name: stream.buffer.getvalue() for name, stream in streams.items()}  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, status, output["out"], output["err"])
