"""JSON objects of a log, one by one: JSON lines, also gzipped, or one JSON array; sizes are bounded."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from swift_client.collect.logs.problems import Problems
from swift_client.errors import ConfigurationError

MAX_LINE_BYTES = 64 * 2**20  # of one line; longer ones are left out
MAX_ARRAY_BYTES = 256 * 2**20  # of a file that is one JSON array, which is read at once
MAX_FILE_BYTES = 32 * 2**30  # of a file after decompression; a small one may unfold to terabytes

MAX_DEPTH = 100  # levels of nested lists and objects; more would exceed Python's recursion limit somewhere

# A JSON object with the number of its line, or of its entry in an array, from 1.
Numbered = tuple[int, dict[str, Any]]

_GZIP_MAGIC = b"\x1f\x8b"
# Fields of a page of an API, whose entries are the records: Langfuse, LangSmith.
_PAGES = (("data", "meta"), ("runs", "cursors"))
# A JSON object that goes on in the next line.
_INDENTED = re.compile(rb"\{[ \t]*\r?\n")
_EMPTY_PAGE: dict[str, Any] = {"data": []}


def read_records(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], problems: Problems
) -> Iterator[Numbered]:
    """Yield the JSON objects of a file, or those that were given; anything else is counted in ``problems``.

    Raises:
        ConfigurationError: the file cannot be read, is damaged, or larger than the limits.
    """
    if not isinstance(source, (str, os.PathLike)):
        for number, record in enumerate(source, start=1):
            try:
                text = json.dumps(dict(record), ensure_ascii=False)
            except (TypeError, ValueError, RecursionError):
                problems.add("line", "not an object of plain JSON values; left out", number)
                continue
            yield from (
                (number, value)
                for value in _unfold_page(_parse(text.encode("utf-8", "replace"), "line", number, problems))
            )
        return
    path = Path(source)
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            if magic == _GZIP_MAGIC:
                with gzip.open(raw) as file:
                    yield from _read_values(file, path, problems)
            else:
                yield from _read_values(raw, path, problems)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigurationError(f"The samples {path} are damaged: {error}.", hint="Copy the file again.") from error
    except OSError as error:
        raise ConfigurationError(
            f"The samples {path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error


def _read_values(file: io.BufferedReader | gzip.GzipFile, path: Path, problems: Problems) -> Iterator[Numbered]:
    head = file.peek(16)[:16].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] == b"[" or _INDENTED.match(head):
        yield from _read_document(file.read(MAX_ARRAY_BYTES + 1), path, problems)
        return
    for number, line in _read_lines(file, path, problems):
        if line.strip():
            for record in _unfold_page(_parse(line, "line", number, problems)):
                if isinstance(record, dict):
                    yield number, record
                else:
                    problems.add("line", "not a JSON object; left out", number)


def _read_lines(file: io.BufferedReader | gzip.GzipFile, path: Path, problems: Problems) -> Iterator[tuple[int, bytes]]:
    size = number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        is_long = len(line) > MAX_LINE_BYTES
        while line and is_long and not line.endswith(b"\n"):
            size += len(line)
            line = file.readline(MAX_LINE_BYTES + 1)
            _require_size(size, path)
        size += len(line)
        _require_size(size, path)
        if is_long:
            problems.add("line", f"longer than {MAX_LINE_BYTES >> 20} MB; left out", number)
        else:
            yield number, line


def _require_size(size: int, path: Path) -> None:
    if size > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"The samples {path} are larger than {MAX_FILE_BYTES >> 30} GB.",
            hint="Split the file, and import each part.",
        )


def _read_document(data: bytes, path: Path, problems: Problems) -> Iterator[Numbered]:
    """Yield the objects of a file that is one JSON value; their numbers are those of the entries."""
    if len(data) > MAX_ARRAY_BYTES:
        raise ConfigurationError(
            f"The samples {path} are one JSON value of more than {MAX_ARRAY_BYTES >> 20} MB.",
            hint="Write one JSON object per line, for example with `jq -c '.[]'`.",
        )
    values = _parse(data, "file", 1, problems)
    entries = values if isinstance(values, list) else _unfold_page(values)
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield number, entry
        else:
            problems.add("line", "not a JSON object; left out", number)


def _parse(data: bytes, noun: str, number: int, problems: Problems) -> Any:
    """Return the JSON value, without halves of surrogate pairs; an empty page if it is not JSON."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if b"\\ud" in data or b"\\uD" in data:  # nothing could store half a surrogate pair
            text = json.dumps(value, ensure_ascii=False)
            value = json.loads(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        problems.add(noun, "not JSON in UTF-8; left out", number)
        return _EMPTY_PAGE
    if _is_deep(value):
        problems.add(noun, f"nested more than {MAX_DEPTH} deep; left out", number)
        return _EMPTY_PAGE
    return value


def _is_deep(value: Any) -> bool:
    """Return True if the value is nested so deep that recursive code could fail."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        containers = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for container in containers for child in container if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _unfold_page(value: Any) -> list[Any]:
    """Return the records of a page of an API; any other value is a record itself."""
    if isinstance(value, dict):
        for name, other in _PAGES:
            if isinstance(entries := value.get(name), list) and value.keys() <= {name, other}:
                return entries
    return [value]
