"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``target`` to write to; at the end that file takes its name, safe from a power cut.

    Where the block raises, ``target`` stays as it was and nothing is left behind. What an older file of that name held
    is gone only once the new one is whole. Raises OSError where the disk or the folder refuses.
    """
    target = Path(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
