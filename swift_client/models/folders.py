"""The two folders in which heads are found by themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGED_FOLDER = Path(__file__).parent / "packaged"
"""Heads that come with this package."""
FOLDER_VARIABLE = "SWIFT_CLIENT_HEADS"
"""Environment variable: another folder in place of the user's."""


def user_folder() -> Path:
    """Return the folder of the user's heads, which need not exist.

    ``SWIFT_CLIENT_HEADS`` where it is set; else ``swift-client/heads`` in ``$XDG_DATA_HOME`` (``~/.local/share``), on
    macOS in ``~/Library/Application Support``, on Windows in ``%LOCALAPPDATA%``.
    """
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    if sys.platform == "darwin":
        base = "~/Library/Application Support"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        asked = os.environ.get("XDG_DATA_HOME", "")
        base = asked if os.path.isabs(asked) else "~/.local/share"  # the XDG specification ignores relative paths
    return Path(os.path.expanduser(base)) / "swift-client" / "heads"
