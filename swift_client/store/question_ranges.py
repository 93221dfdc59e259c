"""Reading a samples file of any size in parts: ranges of its questions, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from swift_client.store import records
from swift_client.store.records import Meta, SampleTotals, StoredQuestion
from swift_client.store.sqlite import not_a_samples_file
from swift_client.types import Usage

SELECT_QUESTIONS = "SELECT id, messages, answer, family FROM question"
REQUEST_PREFIX = "request "
"""Prefix of the names in ``meta`` of the request settings of each question of ``best_of``."""
BATCH_PREFIX = "batch "
"""Prefix of the names in ``meta`` of open batches."""
ERASURE_PREFIX = "erasure "
"""Prefix of the names in ``meta`` of erasures whose bytes may still be in the file."""
MAX_INTEGER = 2**63 - 1  # SQLite's largest integer
_QUESTIONS_PER_RANGE = 256  # questions in memory


class QuestionRanges:
    """The part of ``SampleStore`` that reads questions range by range; errors as there."""

    path: Path

    @property
    def meta(self) -> Meta | None:
        """Settings that all samples share."""
        raise NotImplementedError

    def _read_session(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def count_questions(self) -> int:
        """Return the number of questions, with or without samples."""
        with self._read_session() as run:
            (count,) = run("SELECT count(*) FROM question").fetchone()
            return int(count)

    def question_ranges(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield ranges of ``size`` questions, the last one of fewer, in the order in which they were added.

        A range is (first, last, number of questions), for ``questions_between()``.
        """
        last = -MAX_INTEGER - 1
        while True:
            with self._read_session() as run:
                first, last, count = run(
                    "SELECT min(rowid), max(rowid), count(*) FROM "
                    "(SELECT rowid FROM question WHERE rowid > ? ORDER BY rowid LIMIT ?)",
                    (last, size),
                ).fetchone()
            if not count:
                return
            yield first, last, count

    def questions_between(self, first: int, last: int) -> list[StoredQuestion]:
        """Return the questions of a range of ``question_ranges()``, in order."""
        with self._read_session() as run:
            rows = run(f"{SELECT_QUESTIONS} WHERE rowid BETWEEN ? AND ? ORDER BY rowid", (first, last))
            return list(map(records.parse_question, rows))

    def iterate_questions(self) -> Iterator[StoredQuestion]:
        """Yield the questions in the order in which they were added, those that are added meanwhile at the end."""
        for first, last, _ in self.question_ranges(_QUESTIONS_PER_RANGE):
            yield from self.questions_between(first, last)

    def models(self) -> set[tuple[str, str | None]]:
        """Return (provider, model) of all samples: of their requests, else of the file."""
        with self._read_session() as run:
            rows = run(
                "SELECT DISTINCT value FROM (SELECT DISTINCT question FROM sample) "
                "LEFT JOIN meta ON name = ? || question",
                (REQUEST_PREFIX,),
            ).fetchall()
            models = {records.parse_source(settings) for (settings,) in rows if settings is not None}
            if not any(settings is None for (settings,) in rows):
                return models
        if (meta := self.meta) is None:
            raise not_a_samples_file(self.path, "it does not name the model of its samples")
        return models | {(meta.provider, meta.model)}

    def source_of(self, question_id: str) -> tuple[str, str | None]:
        """Return (provider, model) of a question's samples: of its request, else of the file."""
        with self._read_session() as run:
            row = run("SELECT value FROM meta WHERE name = ?", (REQUEST_PREFIX + question_id,)).fetchone()
            if row is not None:
                return records.parse_source(row[0])
        if (meta := self.meta) is None:
            raise not_a_samples_file(self.path, "it does not name the model of its samples")
        return meta.provider, meta.model

    def settings_of(self, question_id: str) -> Mapping[str, Any]:
        """Return the settings of the requests of a question, without its messages; empty if none are stored.

        They are the fields of ``RequestKey`` for ``best_of``, else those of ``Meta`` for the whole file.
        """
        with self._read_session() as run:
            row = run("SELECT value FROM meta WHERE name = ?", (REQUEST_PREFIX + question_id,)).fetchone()
            if row is not None:
                settings = json.loads(row[0])
                if not isinstance(settings, Mapping):
                    raise ValueError(f"the settings of question {question_id!r} are not an object")
                return settings
        return {} if self.meta is None else records.meta_to_dict(self.meta)

    def counts(self) -> dict[str, int]:
        """Return the number of samples of each question that has some."""
        with self._read_session() as run:
            return dict(run("SELECT question, count(*) FROM sample GROUP BY question").fetchall())

    def indices(self) -> dict[str, set[int]]:
        """Return the sample indices of each question that has samples."""
        indices: dict[str, set[int]] = {}
        with self._read_session() as run:
            for question_id, number in run("SELECT question, number FROM sample"):
                indices.setdefault(question_id, set()).add(number)
        return indices

    def totals(self) -> SampleTotals:
        """Return the totals of all samples."""
        with self._read_session() as run:
            calls, prompt, completion, estimated, samples, cost, unknown = run(
                "SELECT count(*), total(prompt_tokens), total(completion_tokens), max(estimated), total(samples), "
                "total(cost), count(*) - count(cost) FROM reply"
            ).fetchone()
        tokens = {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}
        usage = Usage(**tokens, calls=calls, estimated=bool(estimated))
        return SampleTotals(samples=int(samples), usage=usage, cost=None if unknown else cost)
