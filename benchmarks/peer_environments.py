"""Environments of other packages, with pinned versions, each made once in a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 300
COMPLETE = "complete"
"""File in an environment with the pins that are installed."""


class PeerUnavailableError(Exception):
    """A peer cannot be installed or run; the message is the reason."""


def default_cache() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swift-client-benchmarks"


def installed_python(peer: str, pins: Sequence[str], cache: Path) -> Path | None:
    """Return the interpreter of an environment that is complete and has these pins, else None."""
    folder = _folder(peer, pins, cache)
    complete = folder / COMPLETE
    return _interpreter(folder) if complete.exists() and complete.read_text() == "\n".join(pins) else None


def environment_python(peer: str, pins: Sequence[str], cache: Path, *, options: Sequence[str] = ()) -> Path:
    """Return the interpreter of a peer's environment; make the environment if it is not there.

    Args:
        peer: its name, part of the folder's name.
        pins: requirements with versions, the peer itself first.
        cache: folder of the environments.
        options: further options of ``pip install``.

    Raises:
        PeerUnavailableError: it cannot be made: no network, or no wheel for this Python.
    """
    python = installed_python(peer, pins, cache)
    if python is None:
        folder = _folder(peer, pins, cache)
        python = _interpreter(folder)
        try:
            venv.create(folder, clear=True)
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
            command = [*pip, "--disable-pip-version-check", *options, *pins]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            (folder / COMPLETE).write_text("\n".join(pins))
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or str(error)).strip().splitlines()
            raise PeerUnavailableError(f"not installed: {lines[-1][:200] if lines else error}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerUnavailableError(f"not installed: {error}") from error
    return python


def _folder(peer: str, pins: Sequence[str], cache: Path) -> Path:
    return cache / f"{peer}-{pins[0].partition('==')[2]}-py{sys.version_info.major}{sys.version_info.minor}"


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
