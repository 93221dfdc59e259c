"""Atomic writing of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``, which replaces ``target`` when the block ends.

    The file is synced to disk first, so that ``target`` is complete even after a power failure. If the block raises,
    ``target`` is unchanged and the temporary file is removed. Raises OSError if the file cannot be written.
    """
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
