"""The rows of a samples file that an erasure deletes, in short transactions.

A transaction deletes replies with their samples, their questions and their origins. What refers to something that is
gone, such as selections and judgements, is found by that and not by what this run has deleted, so that a run finishes
what another one began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from swift_client.store.pruning.batch_requests import forget_requests, requested_questions
from swift_client.store.pruning.criterion import Criterion
from swift_client.store.pruning.result import PruneResult
from swift_client.store.question_ranges import REQUEST_PREFIX

Run = Callable[..., sqlite3.Cursor]

_REPLIES_PER_STEP = 100  # replies, or questions, that one transaction deletes
_ROWS_PER_STEP = 1_000  # rows of other tables that one transaction deletes

_SELECT_REPLIES = "SELECT id, question FROM reply WHERE"
_OF_USER = "id IN (SELECT reply FROM reply_origin WHERE user = ?)"
_OLD = "EXISTS (SELECT 1 FROM reply_origin WHERE reply = id AND time < ?)"
_UNDATED = "NOT EXISTS (SELECT 1 FROM reply_origin WHERE reply = id)"
_SELECT_EMPTY_QUESTIONS = (
    "SELECT id FROM question WHERE NOT EXISTS (SELECT 1 FROM sample WHERE sample.question = question.id)"
)
# Selections of what is no longer in the file, or that are themselves to go.
_SELECT_SELECTIONS = (
    "SELECT id FROM selection WHERE time < :before "
    "OR EXISTS (SELECT 1 FROM selection_user WHERE selection_user.id = selection.id AND user = :user) "
    "OR NOT EXISTS (SELECT 1 FROM question WHERE question.id = selection.question) "
    "OR EXISTS (SELECT 1 FROM json_each(numbers) WHERE value IS NOT NULL AND NOT EXISTS "
    "(SELECT 1 FROM sample WHERE sample.question = selection.question AND sample.number = value))"
)
_SELECT_VERDICTS = (
    "SELECT verdict.id FROM verdict LEFT JOIN verdict_origin USING (id) "
    "WHERE time < :before OR (:undated AND time IS NULL) OR (verdict_origin.question != '' "
    "AND NOT EXISTS (SELECT 1 FROM question WHERE question.id = verdict_origin.question))"
)
_DELETE_SELECTION = "DELETE FROM selection WHERE id = ?"
_DELETE_VERDICT = "DELETE FROM verdict WHERE id = ?"
_DELETE_VERDICTS = "DELETE FROM verdict WHERE id IN (SELECT id FROM verdict_origin WHERE question = ?)"
# Rows of what is no longer in the file, and replies that brought nothing new to a question that is gone.
_DELETE_ORPHANS = {
    "feedback": "DELETE FROM feedback WHERE id NOT IN (SELECT id FROM selection)",
    "selection_user": "DELETE FROM selection_user WHERE id NOT IN (SELECT id FROM selection)",
    "verifier_score": "DELETE FROM verifier_score WHERE NOT EXISTS (SELECT 1 FROM sample "
    "WHERE sample.question = verifier_score.question AND sample.number = verifier_score.number)",
    "verdict_origin": "DELETE FROM verdict_origin WHERE id NOT IN (SELECT id FROM verdict)",
    "reply": "DELETE FROM reply WHERE samples = 0 AND question NOT IN (SELECT id FROM question)",
    "reply_origin": "DELETE FROM reply_origin WHERE reply NOT IN (SELECT id FROM reply)",
}
_SELECT_UNDATED = (
    f"{_SELECT_REPLIES} {_UNDATED}",
    "SELECT id FROM verdict WHERE id NOT IN (SELECT id FROM verdict_origin)",
    _SELECT_EMPTY_QUESTIONS,
)
# Counts of the result by table.
_COUNTED = {
    "question": "questions",
    "reply": "replies",
    "sample": "completions",
    "selection": "selections",
    "feedback": "feedback",
    "verdict": "verdicts",
    "verifier_score": "verifier_scores",
}


class RowErasure:
    """Deletes rows and counts them.

    Args:
        path: the file, for messages.
        connection: writes to the file, which has the tables of format 6.
        criterion: what is to go.
        result: gets the counts.
        step: begins a transaction.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        criterion: Criterion,
        result: PruneResult,
        step: Callable[[], AbstractContextManager[Run]],
    ) -> None:
        self._path, self._connection, self._step = path, connection, step
        self._criterion, self._result = criterion, result

    def run(self) -> None:
        """Delete all that is to go."""
        question_id = self._find_question()
        condition, values = self._reply_condition(question_id)
        select, count = f"{_SELECT_REPLIES} {condition} LIMIT {_REPLIES_PER_STEP}", 1
        while count:
            with self._step() as run:
                rows = run(select, values).fetchall()
                self._delete_replies(run, rows)
                count = len(rows)
        if question_id is not None:
            self._delete_questions([question_id])
        elif self._criterion.undated:
            empty = [question for (question,) in self._connection.execute(_SELECT_EMPTY_QUESTIONS)]
            self._delete_questions([question for question in empty if question not in self._awaited_questions()])
        self._delete_rows("selection", _SELECT_SELECTIONS, _DELETE_SELECTION)
        self._delete_rows("verdict", _SELECT_VERDICTS, _DELETE_VERDICT)
        for table, statement in _DELETE_ORPHANS.items():
            with self._step() as run:
                self._count(table, run(statement))
        if self._criterion.before is not None:
            self._result.undated = sum(1 for query in _SELECT_UNDATED for _ in self._connection.execute(query))

    def _find_question(self) -> str | None:
        """Return the id of the question to erase, which a selection may name; None if something else is to go."""
        name = self._criterion.question
        row = self._connection.execute("SELECT question FROM selection WHERE id = ?", (name,)).fetchone()
        return name if row is None else str(row[0])

    def _reply_condition(self, question_id: str | None) -> tuple[str, tuple[Any, ...]]:
        """Return the condition of replies that are to go, and its values."""
        if question_id is not None:
            return "question = ?", (question_id,)
        if self._criterion.user is not None:
            return _OF_USER, (self._criterion.user,)
        return f"{_OLD} OR {_UNDATED}" if self._criterion.undated else _OLD, (self._criterion.before,)

    def _awaited_questions(self) -> set[str]:
        """Return the questions whose prompts stay while a batch is open: only age lets them stay."""
        if self._criterion.before is None:
            return set()
        return requested_questions(self._connection.execute, self._path)

    def _delete_replies(self, run: Run, rows: Sequence[tuple[int, str]]) -> None:
        """Delete replies with their samples and origins, and the questions that have none left."""
        for reply, question in rows:
            self._count("sample", run("DELETE FROM sample WHERE question = ? AND reply = ?", (question, reply)))
            self._count("reply", run("DELETE FROM reply WHERE id = ?", (reply,)))
            run("DELETE FROM reply_origin WHERE reply = ?", (reply,))  # its id is used again
        awaited = self._awaited_questions() if rows else set()
        for question in dict.fromkeys(question for _, question in rows):
            has_sample = run("SELECT 1 FROM sample WHERE question = ?", (question,)).fetchone()
            if has_sample or question in awaited:
                self._delete_verdicts(run, question)  # which may be about answers that are gone
            else:
                self._delete_question(run, question)

    def _delete_questions(self, questions: Sequence[str]) -> None:
        for start in range(0, len(questions), _REPLIES_PER_STEP):
            with self._step() as run:
                for question in questions[start : start + _REPLIES_PER_STEP]:
                    self._delete_question(run, question)

    def _delete_question(self, run: Run, question: str) -> None:
        self._count("question", run("DELETE FROM question WHERE id = ?", (question,)))
        run("DELETE FROM meta WHERE name = ?", (REQUEST_PREFIX + question,))
        self._delete_verdicts(run, question)
        self._result.batch_requests += forget_requests(run, self._path, question)

    def _delete_verdicts(self, run: Run, question: str) -> None:
        self._count("verdict", run(_DELETE_VERDICTS, (question,)))
        run("DELETE FROM verdict_origin WHERE question = ?", (question,))

    def _delete_rows(self, table: str, select: str, delete: str) -> None:
        """Delete the rows of a table whose ids a query returns."""
        criterion = self._criterion  # no time is before 0, and no digest is NULL
        values = {"before": criterion.before or 0.0, "user": criterion.user, "undated": criterion.undated}
        ids = self._connection.execute(select, values).fetchall()
        for start in range(0, len(ids), _ROWS_PER_STEP):
            with self._step() as run:
                for row in ids[start : start + _ROWS_PER_STEP]:
                    self._count(table, run(delete, row))

    def _count(self, table: str, deletion: sqlite3.Cursor) -> None:
        if name := _COUNTED.get(table):
            setattr(self._result, name, getattr(self._result, name) + deletion.rowcount)
