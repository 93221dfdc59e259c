"""Environments of other packages for the benchmarks, with pinned versions, each made once in a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 300


class PeerUnavailableError(Exception):
    """A peer cannot be installed or run; the message is the reason."""


def default_cache() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swift-client-benchmarks"


def environment_python(peer: str, pins: Sequence[str], cache: Path) -> Path:
    """Return the interpreter of a peer's environment; make the environment if it is not there.

    Args:
        peer: its name, part of the folder's name.
        pins: requirements with versions, the peer itself first.
        cache: folder of the environments.

    Raises:
        PeerUnavailableError: it cannot be made: no network, or no wheel for this Python.
    """
    folder = cache / f"{peer}-{pins[0].partition('==')[2]}-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"
    if not complete.exists():
        try:
            venv.create(folder, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            complete.touch()
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or str(error)).strip().splitlines()
            raise PeerUnavailableError(f"not installed: {lines[-1][:200] if lines else error}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerUnavailableError(f"not installed: {error}") from error
    return python
