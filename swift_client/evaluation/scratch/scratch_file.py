"""Arrays in a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from swift_client.errors import ConfigurationError

MAX_BYTES_IN_MEMORY = 2**20  # bytes of a file that stay in memory; most evaluations never write to the disk


class ScratchFile:
    """Bytes that are appended and read again, in memory while they are few.

    The file has no name, or is deleted with this object, so nothing is left when the process ends, however it ends.
    Its folder is that of ``tempfile``, by default ``/tmp``; the variable TMPDIR names another.

    Raises:
        ConfigurationError: the disk is full, or the file cannot be created, written or read; in any method.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MAX_BYTES_IN_MEMORY)  # noqa: SIM115 (closed by the finalizer)
        self.size = 0  # bytes
        weakref.finalize(self, self._file.close)

    def append(self, values: NDArray[Any]) -> int:
        """Append the bytes of an array, in C order, and return their offset."""
        offset, contiguous = self.size, np.ascontiguousarray(values)
        with _explain_errors():
            self._file.seek(offset)
            self._file.write(contiguous.data.cast("B") if contiguous.size else b"")
        self.size += contiguous.nbytes
        return offset

    def read(self, offset: int, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return ``count`` values from an offset, read-only."""
        with _explain_errors():
            self._file.seek(offset)
            data = self._file.read(count * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype, count)


@contextmanager
def _explain_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigurationError(
            f"Temporary files in {tempfile.gettempdir()} cannot be used: {reason}.",
            hint="Free disk space there, or set TMPDIR to a folder with more.",
        ) from error
