"""The paper's question sets, from a file of yours or by name through the ``datasets`` library, record by record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from swift_client.dataset.paper_sets import PAPER_SETS, MalformedRecordError, PaperSet, Record, read_record
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.types import Message


@dataclass(frozen=True, kw_only=True)
class SetQuestion:
    """One question of a set, ready to be asked."""

    id: str
    """The set's own id, else its name and a hash of the question: the same in whatever order the set is read."""
    prompt: str
    answer: str | None
    family: str
    """Name of the set."""
    texts: tuple[str, ...] = ()
    """Answers that the set itself gives (PKU-SafeRLHF's two responses)."""
    labels: tuple[float, ...] = ()
    """One for each text: 1 preferred, 0 not."""

    @property
    def messages(self) -> list[Message]:
        """The prompt as chat messages."""
        return [{"role": "user", "content": self.prompt}]

    def to_dict(self) -> dict[str, Any]:
        """Return one line of a questions file: id, prompt, answer, family."""
        return {"id": self.id, "prompt": self.prompt, "answer": self.answer, "family": self.family}


def load_set(name: str | PaperSet, path: str | Path | None = None, *, split: str = "test") -> Iterator[SetQuestion]:
    """Read a set of PAPER_SETS, or a row of yours, one question at a time, each once: a repeated id is left out.

    ``path`` is a file of records: JSON lines (.jsonl, also .json), one JSON list (.json) or Parquet (.parquet; extra
    ``datasets``). Without one the ``split`` is downloaded by the ``datasets`` library. Raises ConfigurationError for
    an unknown set or split, a file that cannot be read, and a malformed record, which it names by its line or number;
    MissingExtraError without ``datasets``.
    """
    row = name if isinstance(name, PaperSet) else PAPER_SETS.get(name)
    if row is None:
        raise ConfigurationError(f"There is no set called {name!r}.", hint=f"Use one of {', '.join(PAPER_SETS)}.")
    return _iter_questions(row, *(_hub_records(row, split) if path is None else _file_records(Path(path))))


def _iter_questions(row: PaperSet, source: str, records: Iterator[tuple[str, Any]]) -> Iterator[SetQuestion]:
    """Read records, each with its place in ``where`` ("line 3")."""
    seen: set[str] = set()
    for place, fields in records:
        try:
            record = read_record(row, fields)
        except MalformedRecordError as error:
            raise _malformed_error(source, place, str(error), row) from error
        question = SetQuestion(
            id=record.id or _question_id(row, record),
            prompt=row.instruction + record.question,
            answer=record.answer,
            family=row.name,
            texts=record.texts,
            labels=record.labels,
        )
        if question.id not in seen:
            seen.add(question.id)
            yield question


def _question_id(row: PaperSet, record: Record) -> str:
    said = "\x00".join((record.question, *record.texts))
    return f"{row.name}-{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _malformed_error(source: str, place: str, problem: str, row: PaperSet | None = None) -> ConfigurationError:
    hint = f"The fields of a record are described at {row.source}." if row else "Mend or remove it."
    return ConfigurationError(f"{source}, {place}: {problem}.", hint=hint)


def _file_records(path: Path) -> tuple[str, Iterator[tuple[str, Any]]]:
    if path.suffix == ".parquet":
        return str(path), _parquet_records(path)
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in file if line.strip()), "")
    except OSError as error:
        raise _unreadable_error(path, error) from error
    is_list = path.suffix == ".json" and first.lstrip().startswith("[")
    return str(path), _json_list_records(path) if is_list else _json_line_records(path)


def _unreadable_error(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {error}.", hint="Give a .jsonl, .json or .parquet file.")


def _json_line_records(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _parse_json(line, str(path), f"line {number}")


def _parse_json(data: bytes, source: str, place: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _malformed_error(source, place, f"it is not JSON ({error})") from error


def _json_list_records(path: Path) -> Iterator[tuple[str, Any]]:
    for number, fields in enumerate(_parse_json(path.read_bytes(), str(path), "the whole file"), start=1):
        yield f"record {number}", fields


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.needs("datasets", "Reading Parquet") from error
    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise _unreadable_error(path, error) from error

    def records() -> Iterator[tuple[str, Any]]:
        with table:
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield f"record {number}", fields

    return records()


def _hub_records(row: PaperSet, split: str) -> tuple[str, Iterator[tuple[str, Any]]]:
    if split not in row.hub:
        raise ConfigurationError(f"{row.name} has no split {split!r}.", hint=f"Use one of {', '.join(row.hub)}.")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.needs("datasets", f"Loading {row.name} by name") from error
    repository, configuration, part = row.hub[split]
    name, first, last = _parse_slice(part)
    try:
        # streaming: nothing is downloaded that is not read; it takes no slices, so they are cut here
        stream = datasets.load_dataset(repository, configuration, split=name, streaming=True)
    except Exception as error:  # the library raises its own, the hub's, fsspec's and the network's errors
        raise _load_error(repository, error) from error

    def records() -> Iterator[tuple[str, Any]]:
        try:
            for number, fields in enumerate(stream, start=1):
                yield f"record {number}", fields
        except Exception as error:  # see above
            raise _load_error(repository, error) from error

    return repository, islice(records(), first, last)


def _load_error(repository: str, error: Exception) -> ConfigurationError:
    hint = "Check the network, or give a file with path=."
    return ConfigurationError(f"{repository} could not be loaded: {type(error).__name__}: {error}.", hint=hint)


def _parse_slice(part: str) -> tuple[str, int, int | None]:
    """``train[6000:6500]`` is ("train", 6000, 6500)."""
    name, _, cut = part.rstrip("]").partition("[")
    first, _, last = cut.partition(":")
    return name, int(first or 0), int(last) if last else None
