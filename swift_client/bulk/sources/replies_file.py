"""A file of raw replies as a source; tasks are ranges of its bytes.

It has JSON lines ``{"id", "reply", "prompt" | "messages"}``, of which only ``reply`` is required.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_repair
from swift_client.bulk.rank_questions import rank_reply
from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.settings import RankSettings
from swift_client.bulk.sources.source import Task
from swift_client.errors import ConfigurationError
from swift_client.types import Message

MAX_LINE_BYTES = 256 * 2**20  # as the largest reply that a client accepts
_TASK_BYTES = 2 * 2**20  # after so many bytes a task ends with the line
_TASK_LINES = 256
_READ_BYTES = 2**20


class _Line(msgspec.Struct):
    reply: msgspec.Raw
    id: str | int | float | None = None
    prompt: str | list[dict[str, Any]] | None = None
    messages: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class RepliesFile:
    """The lines of a file of replies. A task is (offset, bytes, number of the first line)."""

    path: Path

    def tasks(self) -> Iterator[tuple[Task, float]]:
        """See ``Source``."""
        with self._translate_read_errors(), self.path.open("rb") as file:
            total = max(1, self.path.stat().st_size)
            offset, size, first, number = 0, 0, 1, 1
            while length := _skip_line(file):
                size, number = size + length, number + 1
                if size >= _TASK_BYTES or number - first >= _TASK_LINES:
                    yield (offset, size, first), min(1.0, (offset + size) / total)
                    offset, size, first = offset + size, 0, number
            if size:
                yield (offset, size, first), 1.0

    @contextmanager
    def open(self, settings: RankSettings) -> Iterator[Callable[[Task], list[RankedRow]]]:
        """See ``Source``."""
        decoder = msgspec.json.Decoder(_Line)
        with self._translate_read_errors():
            file = self.path.open("rb")
        with file:

            def rank(task: Task) -> list[RankedRow]:
                with self._translate_read_errors():
                    return list(_rank_lines(file, task, decoder, settings))

            yield rank

    @contextmanager
    def _translate_read_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"The replies {self.path} cannot be read: {error.strerror or error}.", hint="Check the path."
            ) from error


def _rank_lines(
    file: BinaryIO, task: Task, decoder: msgspec.json.Decoder[_Line], settings: RankSettings
) -> Iterator[RankedRow]:
    offset, size, number = task
    file.seek(offset)
    while size > 0 and (line := file.readline(min(size, MAX_LINE_BYTES + 1))):
        size -= len(line)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            size -= _skip_line(file)
            yield RankedRow.of_error(None, f"Line {number} is longer than {MAX_LINE_BYTES} bytes.")
        elif line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield _rank_line(line, number, decoder, settings)
        number += 1


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of a line, in constant memory, and return its length."""
    length = 0
    while piece := file.readline(_READ_BYTES):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


def _rank_line(data: bytes, number: int, decoder: msgspec.json.Decoder[_Line], settings: RankSettings) -> RankedRow:
    try:
        line = decode_or_repair(decoder.decode, data.removeprefix(b"\xef\xbb\xbf"))
        prompt: str | list[Message] | None = line.prompt if line.messages is None else line.messages
        # The bytes of a reply are decoded by its codec; a recorded stream stands in a string.
        raw = bytes(line.reply)
        reply = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw
    except DECODE_ERRORS as error:
        return RankedRow.of_error(None, f'Line {number} is not {{"id": ..., "reply": {{...}}}} in JSON: {error}.')
    name = line.id if isinstance(line.id, str | None) else msgspec.json.encode(line.id).decode()
    return rank_reply(name, reply, settings, prompt)
