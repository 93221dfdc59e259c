"""The requests of open batches, in the records that ``collect.batch.service.BatchJob`` writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swift_client.store.question_ranges import BATCH_PREFIX
from swift_client.store.sqlite import not_a_samples_file

_REQUESTS = "wishes"  # key of the requests: lists that begin with the question's id
_SELECT = "SELECT name, value FROM meta WHERE substr(name, 1, ?) = ?"


def requested_questions(run: Callable[..., sqlite3.Cursor], path: Path) -> set[str]:
    """Return the questions of open batches. Raises ConfigurationError for a record that is damaged."""
    return {request[0] for _, facts in _read_batches(run, path) for request in facts[_REQUESTS]}


def forget_requests(run: Callable[..., sqlite3.Cursor], path: Path, question: str) -> int:
    """Take a question out of the records of open batches; return the number of its requests.

    A record without any other request is deleted. Raises ConfigurationError for a record that is damaged.
    """
    count = 0
    for name, facts in _read_batches(run, path):
        requests = [request for request in facts[_REQUESTS] if request[0] != question]
        if forgotten := len(facts[_REQUESTS]) - len(requests):
            count += forgotten
            run("UPDATE meta SET value = ? WHERE name = ?", (json.dumps({**facts, _REQUESTS: requests}), name))
        if not requests:
            run("DELETE FROM meta WHERE name = ?", (name,))
    return count


def _read_batches(run: Callable[..., sqlite3.Cursor], path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = run(_SELECT, (len(BATCH_PREFIX), BATCH_PREFIX)).fetchall()
    try:
        batches = [(name, json.loads(text)) for name, text in rows]
        if all(isinstance(request[0], str) for _, facts in batches for request in facts[_REQUESTS]):
            return batches
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise not_a_samples_file(path, f"its record of an open batch is damaged: {error}") from error
    raise not_a_samples_file(path, "its record of an open batch is damaged")
