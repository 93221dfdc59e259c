"""Hidden states of a samples file in ``<samples>.states``, appended reply by reply and memory-mapped for reading.

They are too large for the samples file and do not compress. The file begins with its layout as JSON, followed by one
record per completion: a header of 24 bytes, the question's id, and (T, C) float16, all padded to 8 bytes. Only the
offsets of the records are kept in memory. A record that a killed run left incomplete is ignored by readers and
truncated by the next writer.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self, get_args

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.store.atomic_write import atomic_write
from swift_client.types import F16, Completion, StatePosition

_MAGIC = b"swftHID1"
_MAX_FACTS_BYTES = 2**20
_MAX_ID_BYTES = 2**16
_MAX_COLUMNS = 2**24
_FILE_HEADER = struct.Struct("<8sQ")  # magic, and bytes of the JSON document with padding
# Mark, bytes of the question's id, index of the completion, tokens.
_RECORD_HEADER = struct.Struct("<4sIQQ")
_RECORD_MARK = b"rows"


@dataclass(frozen=True, kw_only=True)
class StateLayout:
    """The C columns of captured states: D for each layer in this order, then V of the vocabulary."""

    layers: tuple[int, ...] = ()  # positions in transformers' ``hidden_states``
    width: int = 0  # D, size of a layer's state
    # Position of the layers' states; the vocabulary's logprobs are always those that produced the token.
    moment: StatePosition = "read"
    vocabulary: int = 0  # V, size of the vocabulary; 0 if its logprobs are not stored

    @property
    def columns(self) -> int:
        """C, the number of columns."""
        return len(self.layers) * self.width + self.vocabulary

    def select_layers(self, layers: Sequence[int] | None = None) -> StateLayout:
        """Return these layers only, all by default. Raises ConfigurationError for one that was not captured."""
        missing = [layer for layer in layers or () if layer not in self.layers]
        if missing or not self.layers:
            raise ConfigurationError(
                f"Hidden state {missing[0]} was not captured." if missing else "No hidden states were captured.",
                hint=f"Captured: {', '.join(map(str, self.layers)) or 'none'}. Collect with --capture --layers.",
            )
        return replace(self, layers=self.layers if layers is None else tuple(layers), vocabulary=0)

    def select_vocabulary(self) -> StateLayout:
        """Return the vocabulary only. Raises ConfigurationError if it was not captured."""
        if not self.vocabulary:
            raise ConfigurationError(
                "The whole vocabulary's logprobs were not captured.", hint="Collect with --capture --vocabulary."
            )
        return StateLayout(vocabulary=self.vocabulary, moment="produced")

    def column_slices(self, other: StateLayout) -> list[slice]:
        """Return the slices of the columns of this layout within ``other``, which contains them."""
        slices: list[slice] = []
        for start in (other.layers.index(layer) * self.width for layer in self.layers):
            if slices and slices[-1].stop == start:
                slices[-1] = slice(slices[-1].start, start + self.width)
            else:
                slices.append(slice(start, start + self.width))
        return slices + ([slice(other.columns - self.vocabulary, other.columns)] if self.vocabulary else [])


class StateFile:
    """The hidden states of a samples file's completions; a context manager.

    Args:
        samples: the samples file next to it.
        write_layout: append completions of this layout, and create the file if missing. The writer must have the
            samples file locked.

    Raises:
        ConfigurationError: the file is missing, not a states file, damaged, of another layout, or cannot be opened.
    """

    def __init__(self, samples: str | os.PathLike[str], *, write_layout: StateLayout | None = None) -> None:
        self.path = Path(f"{os.fspath(samples)}.states")
        self._records: dict[tuple[str, int], tuple[int, int]] = {}
        self._first: int  # where the records begin
        self._end: int
        try:
            self._file = _open_file(self.path, write=write_layout is not None)
            try:
                self.layout = self._read_index(write_layout)
            except BaseException:
                self._file.close()
                raise
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"There is no file of hidden states {self.path}.",
                hint="`swift-client collect --capture` writes it; keep it next to the samples file.",
            ) from error
        except OSError as error:
            raise self.error(error) from error
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"{self.path} is not a file of hidden states: {str(error).rstrip('.')}.",
                hint="`swift-client collect --capture` writes one.",
            ) from error
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None

    def keys(self) -> Iterable[tuple[str, int]]:
        """Return (question id, index) of each completion that has states."""
        return self._records.keys()

    def append(self, question_id: str, numbers: Sequence[int], completions: Sequence[Completion]) -> list[Completion]:
        """Append the completions' states, safe from a power cut, and return the completions without them.

        Raises:
            ConfigurationError: a completion has no states or other columns, or no disk space. Nothing is added.
        """
        # Check all before writing any; the index is updated only once the records are on the disk.
        arrays = [self._check_states(completion.hidden_states) for completion in completions]
        end, records = self._end, {}
        try:
            self._file.seek(end)
            for number, states in zip(numbers, arrays, strict=True):
                key, data = question_id.encode(), states.astype("<f2").tobytes()
                header = _RECORD_HEADER.pack(_RECORD_MARK, len(key), number, len(states))
                start = end + self._file.write(header + key.ljust(_padded_size(len(key)), b"\0"))
                end = start + self._file.write(data.ljust(_padded_size(len(data)), b"\0"))
                records[question_id, number] = start, len(states)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # the incomplete record is overwritten, or truncated by the next run
            raise self.error(error) from error
        self._records |= records
        self._end = end
        return [replace(completion, hidden_states=None) for completion in completions]

    def copy_records(self, target: Path, keys: Iterable[tuple[str, int]]) -> None:
        """Write the layout and the records of these completions into another file."""
        starts = {key: start - _RECORD_HEADER.size - _padded_size(len(key[0].encode())) for key, (start, _) in
                  self._records.items()}  # fmt: skip
        with target.open("wb") as file:
            file.write(self._read_bytes(0, self._first))
            for key in keys:
                start, tokens = self._records[key]
                end = start + _padded_size(tokens * self.layout.columns * 2)
                file.write(self._read_bytes(starts[key], end))

    def states(self, question_id: str, number: int, layout: StateLayout) -> F16:
        """Return a completion's states (T, C) in ``layout``, memory-mapped if its columns are contiguous.

        Raises:
            ConfigurationError: the completion has no states, or they contain NaN or infinities.
        """
        if (question_id, number) not in self._records:
            raise ConfigurationError(
                f"{self.path} lacks the states of question {question_id!r}, completion {number}.",
                hint="It belongs to another samples file or is truncated. Collect again into a new file.",
            )
        start, tokens = self._records[question_id, number]
        # The map covers the file as it was; map again if the record was appended later.
        if self._map is None or start >= len(self._map):
            self._map = np.memmap(self.path, np.uint8, "r")
        size = tokens * self.layout.columns * 2
        rows = self._map[start : start + size].view("<f2").reshape(tokens, self.layout.columns)
        parts = [rows[:, columns] for columns in layout.column_slices(self.layout)]
        states = rows if layout == self.layout else parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if not np.isfinite(states).all():
            raise ConfigurationError(
                f"{self.path} is damaged: question {question_id!r}, completion {number} has states with NaN.",
                hint="Collect again into a new file.",
            )
        return states

    def close(self) -> None:
        """Release the file; calling it twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_index(self, write_layout: StateLayout | None) -> StateLayout:
        """Read the layout and the offsets of the records, for a writer of ``write_layout`` if given.

        A writer starts a new file if this one is empty, and truncates a record that a killed run left incomplete.
        """
        header = self._file.read(_FILE_HEADER.size)
        # A killed run may leave a part of the header. Any other short file is not ours and stays as it is.
        is_cut_header = len(header) < _FILE_HEADER.size and _MAGIC.startswith(header[: len(_MAGIC)])
        if write_layout is not None and is_cut_header:
            self._start_file(write_layout)
            return write_layout
        layout = self._read_layout(header)
        if write_layout is not None and write_layout != layout:
            raise self._layout_error(layout, write_layout)
        self._scan_records(layout)
        if write_layout is not None:
            self._file.seek(self._end)
            self._file.truncate()
        return layout

    def _start_file(self, layout: StateLayout) -> None:
        """Write the header of a file without records."""
        facts = json.dumps(asdict(layout)).encode()
        facts = facts.ljust(_padded_size(len(facts)))
        self._file.seek(0)
        self._file.truncate()
        self._file.write(_FILE_HEADER.pack(_MAGIC, len(facts)) + facts)
        self._first = self._end = _FILE_HEADER.size + len(facts)

    def _read_layout(self, header: bytes) -> StateLayout:
        """Read the layout that follows the file's header. Raises ValueError if this is another kind of file."""
        # A short or foreign header is refused before its length is trusted.
        if len(header) < _FILE_HEADER.size:
            raise ValueError("it is shorter than the header")
        magic, length = _FILE_HEADER.unpack(header)
        if magic != _MAGIC or length > min(_MAX_FACTS_BYTES, self._size()):
            raise ValueError("it begins with something else")
        return _parse_layout(json.loads(self._file.read(length)))

    def _scan_records(self, layout: StateLayout) -> None:
        """Read the headers of the records, which follow the layout, and note where their states are."""
        size, self._first = self._size(), self._file.tell()
        self._end = self._first
        while True:
            self._file.seek(self._end)
            header = self._file.read(_RECORD_HEADER.size)
            if len(header) < _RECORD_HEADER.size:  # the end, or cut by a killed run
                break
            mark, id_size, number, tokens = _RECORD_HEADER.unpack(header)
            if mark != _RECORD_MARK or id_size > _MAX_ID_BYTES:
                raise ValueError(f"it is damaged at byte {self._end:,}")
            start = self._end + _RECORD_HEADER.size + _padded_size(id_size)
            end = start + _padded_size(tokens * layout.columns * 2)
            if end > size:  # cut by a killed run
                break
            self._records[self._file.read(id_size).decode(), number] = start, tokens
            self._end = end

    def _read_bytes(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _layout_error(self, layout: StateLayout, write_layout: StateLayout) -> ConfigurationError:
        """Return the error for a writer of another layout than the file's, which names what differs."""
        old, new = asdict(layout), asdict(write_layout)
        differing = [name for name in old if old[name] != new[name]]
        in_file, in_run = (
            " and ".join(f"{name} {list(facts[name]) if name == 'layers' else facts[name]}" for name in differing)
            for facts in (old, new)
        )
        return ConfigurationError(
            f"{self.path} holds {in_file}, but this run captures {in_run}.",
            hint="Use the same --layers and --vocabulary, or another --out.",
        )

    def _check_states(self, states: F16 | None) -> F16:
        if states is None or states.shape[1:] != (self.layout.columns,):
            columns = "none" if states is None else f"{states.shape[1]:,} per token"
            raise ConfigurationError(
                f"A completion has hidden states of another kind: {columns}, not {self.layout.columns:,}.",
                hint="Collect with the same --layers as before, or into another file.",
            )
        return states

    def error(self, error: OSError) -> ConfigurationError:
        """Return the error for a file that cannot be read or written."""
        return ConfigurationError(
            f"{self.path} cannot be used: {error.strerror or error}.", hint="Check its folder and the free disk space."
        )


def delete_states(
    samples: str | os.PathLike[str], existing: Callable[[], Collection[tuple[str, int]]], *, dry_run: bool
) -> int:
    """Rewrite the states beside a samples file without those of samples that no longer exist, if there are any.

    The caller has the samples file locked. The new file replaces the old one at once.

    Args:
        samples: the samples file.
        existing: returns (question id, index) of each sample; called if there are states.
        dry_run: only count.

    Returns:
        The number of completions without whose states the file was written.

    Raises:
        ConfigurationError: the file is not a states file, or it cannot be written.
    """
    path = Path(f"{os.fspath(samples)}.states")
    if not path.exists() or not path.stat().st_size:
        return 0
    with StateFile(samples) as file:
        keys = existing()
        stored = list(file.keys())
        kept = [key for key in stored if key in keys]
        count = len(stored) - len(kept)
        if count and not dry_run:
            try:
                with atomic_write(path) as draft:
                    file.copy_records(draft, kept)
            except OSError as error:
                raise file.error(error) from error
    return count


def _open_file(path: Path, *, write: bool) -> BinaryIO:
    flags = (os.O_RDWR | os.O_CREAT) if write else os.O_RDONLY
    file = os.fdopen(os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600), "r+b" if write else "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a regular file")
    return file


def _parse_layout(facts: Any) -> StateLayout:
    """Parse the JSON document. Raises ValueError for an impossible layout."""
    names = {"layers", "width", "moment", "vocabulary"}
    if not isinstance(facts, dict) or facts.keys() != names or not isinstance(facts["layers"], list):
        raise ValueError("it does not describe its columns")
    layout = StateLayout(**{**facts, "layers": tuple(facts["layers"])})
    numbers = [*layout.layers, layout.width, layout.vocabulary]
    if (
        any(type(number) is not int or not 0 <= number < _MAX_COLUMNS for number in numbers)
        or len(set(layout.layers)) < len(layout.layers)
        or layout.moment not in get_args(StatePosition)
        or not 0 < layout.columns < _MAX_COLUMNS
    ):
        raise ValueError("its description of the columns is impossible")
    return layout


def _padded_size(size: int) -> int:
    return 8 * math.ceil(size / 8)
