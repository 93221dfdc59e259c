"""Atomic writing of files, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# An existing file is never opened, and a symlink never followed.
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_MAX_NAME_BYTES = 180  # of the target's name that the temporary name repeats; file systems allow 255 in all
_ABANDONED_SECONDS = 24 * 3600.0  # age of a temporary file whose process must have been killed


@contextmanager
def atomic_write(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a new empty file beside ``target``, which replaces ``target`` when the block ends.

    Its name is random, and only its owner can read it (mode 0600), as ``target`` afterwards. It is synced to disk
    first, so that ``target`` is complete even after a power failure. If the block raises, ``target`` is unchanged and
    the temporary file is removed; one that a killed process left is removed by a write of ``target`` a day later.
    Raises OSError if the file cannot be written.
    """
    target = Path(target)
    prefix = os.fsdecode(b"." + os.fsencode(target.name)[:_MAX_NAME_BYTES] + b".")
    _remove_abandoned_files(target.parent, prefix)
    temporary = target.with_name(f"{prefix}{secrets.token_hex(8)}.draft")
    os.close(os.open(temporary, _NEW_FILE, 0o600))
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned_files(folder: Path, prefix: str) -> None:
    """Remove the temporary files of killed processes, and those that SQLite writes beside them."""
    oldest = time.time() - _ABANDONED_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_temporary = entry.name.startswith(prefix) and ".draft" in entry.name[len(prefix) :]
            if is_temporary and entry.stat(follow_symlinks=False).st_mtime < oldest:
                with contextlib.suppress(OSError):  # another user's, or removed meanwhile
                    os.unlink(entry.path)
