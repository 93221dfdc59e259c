"""Heads that another one replaced: they are kept beside the head's file, and can be put back.

``head.safetensors`` has its kept heads in the folder ``head.safetensors.kept``. Every change is one rename of a
complete file, so that a process may be killed at any moment: the head's file is then either the old or the new one,
and a head that is kept twice does no harm.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.models.file_format import AnyHead, load, save
from swift_client.models.library import scan
from swift_client.store.atomic_write import atomic_write
from swift_client.store.write_lock import WriteLock

_LOCK_SECONDS = 10.0  # a change takes milliseconds
_NAME = re.compile(r"(\d{4,9})(\.withdrawn)?\.safetensors")


@dataclass(frozen=True, kw_only=True)
class KeptHead:
    """The file of a head that another one replaced.

    Attributes:
        number: Counts up: a head that was replaced later has a larger number.
        path: Its file.
        withdrawn: True if ``rollback()`` replaced it, so that a further rollback leaves it out.
    """

    number: int
    path: Path
    withdrawn: bool


def kept_heads(path: str | os.PathLike[str]) -> tuple[KeptHead, ...]:
    """Return the heads that were replaced in this file, by rising number; empty without any."""
    folder = _folder(Path(path))
    matches = map(_NAME.fullmatch, os.listdir(folder) if folder.is_dir() else ())
    heads = [
        KeptHead(number=int(match[1]), path=folder / match[0], withdrawn=match[2] is not None)
        for match in matches
        if match
    ]
    return tuple(sorted(heads, key=lambda head: head.number))


def install_head(head: AnyHead, path: str | os.PathLike[str]) -> KeptHead | None:
    """Write a head to a file, atomically, and keep the head that the file had; return that one, None without any.

    Raises:
        ArtifactError: the file exists and is not a head, or cannot be written.
        ConfigurationError: another process changes the file at this moment.
    """
    path = Path(path)
    with _locked(path):
        replaced = _keep(path, withdrawn=False) if path.exists() else None
        save(head, path)
    return replaced


def rollback(path: str | os.PathLike[str], *, to: int | None = None) -> KeptHead:
    """Put a kept head back into its file, and keep the head that it replaces; return the one that is back.

    The head that is replaced counts as withdrawn: a further rollback goes to the one before, not back to it. It can be
    put back by its number.

    Args:
        path: the head's file.
        to: number of the kept head; default: the latest one that no rollback has withdrawn.

    Raises:
        ConfigurationError: no such head is kept, or another process changes the file at this moment.
        ArtifactError: a file is not a head, or cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ArtifactError(f"There is no head {path}.", hint="Check the path.")
    with _locked(path):
        heads = kept_heads(path)
        target = _find_target(path, heads, to)
        load(target.path)  # raises for a damaged file
        with _os_errors(path):
            # All that were replaced after the target are withdrawn with the current head.
            for head in heads:
                if head.number > target.number and not (head.withdrawn or target.withdrawn):
                    head.path.rename(_file(path, head.number, withdrawn=True))
            if _is_head(path):  # a damaged file is not worth keeping
                _keep(path, withdrawn=not target.withdrawn)
            os.replace(target.path, path)
    return target


def find_head_file(head: str | os.PathLike[str]) -> Path:
    """Return the file of a head that may be replaced: a path, or the name of one in the user's folder.

    Raises ConfigurationError for the name of a head that is part of the package.
    """
    entries = scan().by_name(head) if isinstance(head, str) else ()
    if not entries:
        return Path(head)
    own = [entry.path for entry in entries if not entry.is_packaged]
    if not own:
        raise ConfigurationError(
            f"The head {head} is part of swift-client and is never replaced.", hint="Give the file of your own head."
        )
    return own[0]


def _find_target(path: Path, heads: tuple[KeptHead, ...], number: int | None) -> KeptHead:
    """Return the kept head to put back. A change that was killed may have kept the current one too."""
    with _os_errors(path):
        current = path.read_bytes() if path.exists() else b""
        others = [head for head in heads if head.path.read_bytes() != current]
    if number is not None:
        others = [head for head in others if head.number == number]
    else:
        others = [head for head in others if not head.withdrawn]
    if others:
        return others[-1]
    numbers = ", ".join(str(head.number) for head in heads)
    if number is not None:
        raise ConfigurationError(
            f"No other head with the number {number} is kept beside {path}.", hint=f"Numbers: {numbers or 'none'}."
        )
    hint = f"Of {numbers}, all withdrawn, one can be put back by its number." if heads else ""
    raise ConfigurationError(
        f"No earlier head is kept beside {path}.",
        hint=hint or "`swift-client retrain --install` keeps the head that it replaces.",
    )


def _is_head(path: Path) -> bool:
    try:
        load(path)
    except ArtifactError:
        return False
    return True


def _keep(path: Path, *, withdrawn: bool) -> KeptHead:
    """Copy the head of a file to its kept ones, unless an interrupted call has done so."""
    load(path)  # raises for a file that is not a head
    heads = kept_heads(path)
    latest = heads[-1] if heads else None
    with _os_errors(path):
        content = path.read_bytes()
        if latest and latest.withdrawn == withdrawn and latest.path.read_bytes() == content:
            return latest
        number = latest.number + 1 if latest else 1
        target = _file(path, number, withdrawn=withdrawn)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
    return KeptHead(number=number, path=target, withdrawn=withdrawn)


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.kept")


def _file(path: Path, number: int, *, withdrawn: bool) -> Path:
    return _folder(path) / f"{number:04}{'.withdrawn' if withdrawn else ''}.safetensors"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing the same head."""
    try:
        lock = WriteLock(path.resolve(), shared=False, timeout=_LOCK_SECONDS)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"Another process changes {path} at this moment.", hint="Run it again when that one has ended."
        ) from error
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into an ArtifactError."""
    try:
        yield
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"The head {path} cannot be replaced: {error.strerror}.", hint="Check its folder's permissions and free space."
    )
