"""The file of answers: one JSON line per question, appended as answers come, and continued by the next run."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.store.atomic_write import atomic_write
from swift_client.store.write_lock import WriteLock
from swift_client.types import Selection

_HINT = "Give the file of an earlier run, or one that does not exist."
# Errors that a run would repeat at the same price: such a line is an answer.
_FINAL_ERRORS = ("RejectedError",)


class _Source(msgspec.Struct):
    provider: str | None = None
    model: str | None = None


class _Error(msgspec.Struct):
    type: str


class _Line(msgspec.Struct):
    """The parts of a line that decide if its question is asked again."""

    id: str
    selection: _Source | None = None
    error: _Error | None = None

    @property
    def is_final(self) -> bool:
        return self.selection is not None or (self.error is not None and self.error.type in _FINAL_ERRORS)


class AnswersFile:
    """A file of answers, with the ids of the questions that it answers. One process writes at a time.

    ``{"id": ..., "selection": {...}}`` is the line of an answer, ``{"id": ..., "error": {...}}`` that of a question
    whose answer failed.

    Raises:
        ConfigurationError: a line has another form, the answers are those of another model, or the file cannot be
            read.
    """

    def __init__(self, path: Path, *, provider: str, model: str | None) -> None:
        self.path = path.resolve()  # a link stays one when lines are removed
        self.ids: set[str] = set()
        self._source = _Source(provider, model)
        self._file: int | None = None
        if self.path.exists() and not self.path.is_file():
            raise ConfigurationError(f"{self.path} is not a file.", hint=_HINT)
        try:
            n_bytes = sum(map(len, self._answer_lines(self.ids))) if self.path.exists() else 0
            self._has_other_lines = self.path.exists() and n_bytes != self.path.stat().st_size
        except OSError as error:
            raise self._file_error(error) from error

    def begin(self) -> None:
        """Open the file for more lines.

        The lines of errors go, and a last line that a killed run left incomplete: their questions are asked again.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        try:
            if self._has_other_lines:
                with atomic_write(self.path) as draft, draft.open("wb") as copy:
                    copy.writelines(self._answer_lines(set()))
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._file_error(error) from error

    def add_answer(self, question_id: str, selection: Selection) -> None:
        """Append the line of an answer. Raises ConfigurationError if it cannot be written."""
        self._append(question_id, "selection", selection.to_json())

    def add_error(self, question_id: str, facts: Mapping[str, Any]) -> None:
        """Append the line of an error. Raises ConfigurationError if it cannot be written."""
        self._append(question_id, "error", json.dumps(facts, allow_nan=False))

    def close(self) -> None:
        """Write everything to disk and close the file."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)

    def _append(self, question_id: str, name: str, value: str) -> None:
        if self._file is None:
            raise ValueError("begin() was not called")
        line = f'{{"id": {json.dumps(question_id)}, "{name}": {value}}}\n'.encode()
        try:
            written = os.write(self._file, line)  # in one piece, so that a killed run leaves one broken line at most
        except OSError as error:
            raise self._file_error(error) from error
        if written < len(line):
            raise self._file_error("the disk is full")

    def _answer_lines(self, ids: set[str]) -> Iterator[bytes]:
        """Yield the first line of each answer, as it is stored, and add its id to ``ids``."""
        with self.path.open("rb") as file:
            for number, stored_line in enumerate(file, start=1):
                try:
                    line = msgspec.json.decode(stored_line, type=_Line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if not stored_line.endswith(b"\n"):  # a killed run wrote a part of it
                        return
                    raise self._line_error(number, error) from error
                if line.selection is None and line.error is None:  # another file, such as that of the questions
                    raise self._line_error(number, "it has no selection and no error")
                if line.is_final and line.id not in ids:
                    self._require_same_model(line)
                    ids.add(line.id)
                    yield stored_line.rstrip(b"\n") + b"\n"

    def _require_same_model(self, line: _Line) -> None:
        if line.selection not in (None, self._source):
            raise ConfigurationError(
                f"{self.path} has answers of {_describe(line.selection)}, not of {_describe(self._source)}.",
                hint="Give another file for the answers of another model.",
            )

    def _line_error(self, number: int, reason: object) -> ConfigurationError:
        return ConfigurationError(f"{self.path}, line {number} is not the line of an answer: {reason}.", hint=_HINT)

    def _file_error(self, error: object) -> ConfigurationError:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{self.path} cannot be read or written: {reason}."
        return ConfigurationError(message, hint="Check the folder and the disk.")


@contextmanager
def open_answers(path: Path, *, provider: str, model: str | None) -> Iterator[AnswersFile]:
    """Open a file of answers for one process at a time; errors as of ``AnswersFile``."""
    try:
        lock = WriteLock(path.resolve(), shared=False, timeout=0)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"{path} is being written by another process.", hint="Wait for it, or give another file."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", hint="Give a file in a folder that you may write to."
        ) from error
    try:
        file = AnswersFile(path, provider=provider, model=model)
        try:
            yield file
        finally:
            file.close()
    finally:
        lock.release()


def _describe(source: _Source | None) -> str:
    return "/".join(filter(None, (source.provider, source.model))) if source else "nothing"
