"""Hidden states beside a samples file, in ``<samples>.states``: appended reply by reply, read where they lie.

They are too large for the samples file and do not pack. The file begins with what its columns are (JSON); then comes
one record a completion: a head of 24 bytes and the question's id, then (T, C) float16, all padded to 8 bytes. Nothing
is held in memory but where the records begin; reading maps the file. What a killed run left half-written is cut off by
the next that writes, and overlooked by those who read.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, get_args

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.types import F16, Completion, StatePosition

_MAGIC = b"swftHID1"
_MAX_FACTS_BYTES = 2**20
_MAX_ID_BYTES = 2**16
_MAX_COLUMNS = 2**24
_FILE_HEADER = struct.Struct("<8sQ")
"""Magic, bytes of the JSON document, padding included."""
_RECORD_HEADER = struct.Struct("<4sIQQ")
"""Mark, bytes of the question's id, number of the completion, tokens."""
_RECORD_MARK = b"rows"


@dataclass(frozen=True, kw_only=True)
class StateLayout:
    """What the C columns of captured states are: D for each layer in this order, then V of the vocabulary."""

    layers: tuple[int, ...] = ()
    """As transformers numbers ``hidden_states``."""
    width: int = 0
    """D, numbers in one layer's state."""
    moment: StatePosition = "read"
    """Whose states the layers' are; the vocabulary's logprobs are always those that produced the token."""
    vocabulary: int = 0
    """V: logprobs of the whole vocabulary; 0 where they are not kept."""

    @property
    def columns(self) -> int:
        """C."""
        return len(self.layers) * self.width + self.vocabulary

    def select_layers(self, layers: Sequence[int] | None = None) -> StateLayout:
        """Return these layers alone, all by default. Raises ConfigurationError for one that was not captured."""
        missing = [layer for layer in layers or () if layer not in self.layers]
        if missing or not self.layers:
            raise ConfigurationError(
                f"Hidden state {missing[0]} was not captured." if missing else "No hidden states were captured.",
                hint=f"There are {', '.join(map(str, self.layers)) or 'none'}; collect with --capture --layers.",
            )
        return replace(self, layers=self.layers if layers is None else tuple(layers), vocabulary=0)

    def select_vocabulary(self) -> StateLayout:
        """Return the vocabulary alone. Raises ConfigurationError where it was not captured."""
        if not self.vocabulary:
            raise ConfigurationError(
                "The whole vocabulary's logprobs were not captured.", hint="Collect with --capture --vocabulary."
            )
        return StateLayout(vocabulary=self.vocabulary, moment="produced")

    def column_slices(self, other: StateLayout) -> list[slice]:
        """Return where the columns of this layout stand in ``other``, which holds them."""
        runs: list[slice] = []
        for start in (other.layers.index(layer) * self.width for layer in self.layers):
            if runs and runs[-1].stop == start:
                runs[-1] = slice(runs[-1].start, start + self.width)
            else:
                runs.append(slice(start, start + self.width))
        return runs + ([slice(other.columns - self.vocabulary, other.columns)] if self.vocabulary else [])


class StateFile:
    """The states of a samples file's completions; a context manager.

    Args:
        samples: the samples file that it stands beside.
        write: append to it, as completions of this layout; it is made where there is none. Whoever writes holds the
            samples file alone.

    Raises:
        ConfigurationError: missing, foreign, damaged, of another layout, or it cannot be read or written.
    """

    def __init__(self, samples: str | os.PathLike[str], *, write_layout: StateLayout | None = None) -> None:
        self.path = Path(f"{os.fspath(samples)}.states")
        self._records: dict[tuple[str, int], tuple[int, int]] = {}
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
                f"There are no hidden states {self.path}.",
                hint="`swift-client collect --capture` writes them; keep the two files together.",
            ) from error
        except OSError as error:
            raise self._file_error(error) from error
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"{self.path} holds no hidden states: {str(error).rstrip('.')}.",
                hint="`swift-client collect --capture` writes them.",
            ) from error
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None

    def keys(self) -> Iterable[tuple[str, int]]:
        """Return the question id and number of each completion that has states here."""
        return self._records.keys()

    def append(self, question_id: str, numbers: Sequence[int], completions: Sequence[Completion]) -> list[Completion]:
        """Write the completions' states down, safe from a power cut, and return the completions without them.

        Raises:
            ConfigurationError: a completion has no states, or others than the file; or no room. Nothing is added.
        """
        arrays = [self._check_states(each.hidden_states) for each in completions]
        end, places = self._end, {}
        try:
            self._file.seek(end)
            for number, states in zip(numbers, arrays, strict=True):
                key, data = question_id.encode(), states.astype("<f2").tobytes()
                self._file.write(
                    _RECORD_HEADER.pack(_RECORD_MARK, len(key), number, len(states))
                    + key.ljust(_padded_size(len(key)), b"\0")
                )
                self._file.write(data.ljust(_padded_size(len(data)), b"\0"))
                start = end + _RECORD_HEADER.size + _padded_size(len(key))
                places[question_id, number] = start, len(states)
                end = start + _padded_size(len(data))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # what was written so far is written over, or cut off by the next run
            raise self._file_error(error) from error
        self._records |= places
        self._end = end
        return [replace(each, hidden_states=None) for each in completions]

    def states(self, question_id: str, number: int, layout: StateLayout) -> F16:
        """Return a completion's states (T, C) in ``layout``, mapped where the file has them in one piece.

        Raises:
            ConfigurationError: there are none, or they hold NaN or infinities.
        """
        if (question_id, number) not in self._records:
            raise ConfigurationError(
                f"{self.path} lacks the states of question {question_id!r}, completion {number}.",
                hint="It belongs to another samples file, or was cut: collect again into a new file.",
            )
        start, tokens = self._records[question_id, number]
        if self._map is None or start >= len(self._map):
            self._map = np.memmap(self.path, np.uint8, "r")
        size = tokens * self.layout.columns * 2
        rows = self._map[start : start + size].view("<f2").reshape(tokens, self.layout.columns)
        parts = [rows[:, columns] for columns in layout.column_slices(self.layout)]
        found = rows if layout == self.layout else parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if not np.isfinite(found).all():
            raise ConfigurationError(
                f"{self.path} is damaged: question {question_id!r}, completion {number} has states that are none.",
                hint="Collect again into a new file.",
            )
        return found

    def close(self) -> None:
        """Release the file; calling it twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_index(self, new_layout: StateLayout | None) -> StateLayout:
        """Read what the file holds, and where; make it where it is empty and ``wanted``."""
        size = os.fstat(self._file.fileno()).st_size
        if new_layout is not None and size < _FILE_HEADER.size:
            facts = json.dumps(asdict(new_layout)).encode()
            facts += b" " * (_padded_size(len(facts)) - len(facts))
            self._file.truncate(0)
            self._file.write(_FILE_HEADER.pack(_MAGIC, len(facts)) + facts)
            self._end = _FILE_HEADER.size + len(facts)
            return new_layout
        magic, length = _FILE_HEADER.unpack(self._file.read(_FILE_HEADER.size).ljust(_FILE_HEADER.size))
        if magic != _MAGIC or length > min(_MAX_FACTS_BYTES, size):
            raise ValueError("it begins with something else")
        layout = _parse_layout(json.loads(self._file.read(length)))
        if new_layout is not None and layout != new_layout:
            raise ValueError(f"its columns are {layout}, not {new_layout}")
        at = _FILE_HEADER.size + length
        while at < size:
            self._file.seek(at)
            head = self._file.read(_RECORD_HEADER.size)
            mark, letters, number, tokens = (
                _RECORD_HEADER.unpack(head) if len(head) == _RECORD_HEADER.size else (_RECORD_MARK, 0, 0, size)
            )
            if mark != _RECORD_MARK or letters > _MAX_ID_BYTES:
                raise ValueError(f"it is damaged at byte {at:,}")
            start = at + _RECORD_HEADER.size + _padded_size(letters)
            end = start + _padded_size(tokens * layout.columns * 2)
            if end > size:
                break
            self._records[self._file.read(letters).decode(), number] = start, tokens
            at = end
        self._end = at
        if new_layout is not None:
            self._file.seek(at)
            self._file.truncate()
        return layout

    def _check_states(self, states: F16 | None) -> F16:
        if states is None or states.shape[1:] != (self.layout.columns,):
            found = "none" if states is None else f"{states.shape[1]:,} a token"
            raise ConfigurationError(
                f"A completion came with hidden states of another kind: {found}, not {self.layout.columns:,}.",
                hint="Collect with the same --layers as before, or into another file.",
            )
        return states

    def _file_error(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} cannot be used: {error.strerror or error}.", hint="Check its folder, and the room left on it."
        )


def _open_file(path: Path, *, write: bool) -> BinaryIO:
    flags = (os.O_RDWR | os.O_CREAT) if write else os.O_RDONLY
    file = os.fdopen(os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600), "r+b" if write else "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is no regular file")
    return file


def _parse_layout(facts: Any) -> StateLayout:
    """Read the JSON document. Raises ValueError for one that says nothing possible."""
    names = {"layers", "width", "moment", "vocabulary"}
    if not isinstance(facts, dict) or facts.keys() != names or not isinstance(facts["layers"], list):
        raise ValueError("it does not say what its columns are")
    layout = StateLayout(**{**facts, "layers": tuple(facts["layers"])})
    numbers = [*layout.layers, layout.width, layout.vocabulary]
    if (
        any(type(number) is not int or not 0 <= number < _MAX_COLUMNS for number in numbers)
        or len(set(layout.layers)) < len(layout.layers)
        or layout.moment not in get_args(StatePosition)
        or not 0 < layout.columns < _MAX_COLUMNS
    ):
        raise ValueError("it says impossible things of its columns")
    return layout


def _padded_size(size: int) -> int:
    return 8 * math.ceil(size / 8)
