"""Rows of a dataset as questions: the keys of a questions file are the columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swift_client.dataset.questions import parse_question
from swift_client.errors import ConfigurationError
from swift_client.store import StoredQuestion

_HINT = 'The columns are "prompt" or "messages", and optionally "id", "answer" or "answers" and "family".'


def read_questions(batches: Iterable[Any]) -> Iterator[StoredQuestion | tuple[str, ConfigurationError]]:
    """Yield the question of each row of ``pyarrow`` tables; for a wrong row its id, or its number, and the error.

    Raises:
        ConfigurationError: a column is missing.
    """
    number = 0
    for table in batches:
        names = set(table.column_names)
        if not names & {"prompt", "messages"}:
            raise ConfigurationError(f"The dataset has the columns {', '.join(sorted(names))}.", hint=_HINT)
        for row in table.to_pylist():
            number += 1
            try:
                yield parse_row(row)
            except ConfigurationError as error:
                yield str(row.get("id") or f"row {number}"), error


def parse_row(row: Mapping[str, Any]) -> StoredQuestion:
    """Return the question of a row; its messages are JSON, or structs whose empty fields are left out.

    Without a column for it, the id is a digest of the prompt: the same in every run, so that a run can be continued.

    Raises:
        ConfigurationError: a value is missing or wrong.
    """
    value = {name: content for name, content in row.items() if content is not None}
    messages = value.get("messages")
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"its messages are not JSON: {error}.", hint=_HINT) from error
    if messages is not None:
        value["messages"] = _drop_missing(messages)
    if "id" not in row:
        value["id"] = _digest(value.get("prompt", value.get("messages")))
    return parse_question(value)


def _digest(prompt: object) -> str:
    return hashlib.blake2b(json.dumps(prompt, default=str).encode(), digest_size=12).hexdigest()


def _drop_missing(value: Any) -> Any:
    """Return a value without the fields that Arrow adds to a struct because other rows have them."""
    if isinstance(value, Mapping):
        return {name: _drop_missing(content) for name, content in value.items() if content is not None}
    return [_drop_missing(part) for part in value] if isinstance(value, list) else value
