"""Selections in a samples file by their id, and the feedback of people on them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.errors import ConfigurationError, UnknownSelectionError
from swift_client.store.packing import replace_surrogates, unpack
from swift_client.store.records import StoredQuestion, parse_question, to_json
from swift_client.store.schema import ORIGINS, SELECTIONS
from swift_client.store.sqlite import add_tables, has_tables
from swift_client.store.verdict_store import VerdictStore
from swift_client.types import Completion

_SELECT_SELECTIONS = "SELECT id, question, time, served_as, prompt, number, numbers, facts FROM selection"
_SELECT_FEEDBACK = (
    "SELECT correct, feedback.time, id, question, selection.time, served_as, prompt, number, numbers, facts "
    "FROM feedback JOIN selection USING (id) ORDER BY feedback.rowid"
)
_SELECT_SHOWN = (
    "SELECT substr(sample.text, 1, ?), correct, selection.id, selection.question, selection.time, served_as, prompt, "
    "selection.number, numbers, facts FROM selection "
    "LEFT JOIN sample ON sample.question = selection.question AND sample.number = selection.number "
    "LEFT JOIN feedback ON feedback.id = selection.id"
)
# Choices, with feedback and whether their samples can be graded without it.
_SELECT_CHOICES = (
    "SELECT correct, question.answer IS NOT NULL OR EXISTS (SELECT 1 FROM sample WHERE sample.question = question.id "
    "AND label IS NOT NULL), selection.id, question, selection.time, served_as, prompt, number, numbers, facts "
    "FROM selection JOIN question ON question.id = selection.question LEFT JOIN feedback ON feedback.id = selection.id "
    "ORDER BY selection.rowid"
)
_MAX_PROMPT, _MAX_ANSWER = 2000, 1000  # characters that are recorded
_MAX_FACTS = 32_000_000  # characters of the facts of selections that are read together
_SELECT_SAMPLES = "SELECT number, text, finish_reason, arrays FROM sample WHERE question = ? ORDER BY number"


@dataclass(frozen=True, kw_only=True)
class StoredSelection:
    """A choice of ``best_of`` as the samples file has it.

    Attributes:
        id: ``Selection.id``.
        question_id: The stored question.
        time: Unix time in seconds.
        served_as: Name of the virtual model that a service answered as; None for a call of the library.
        prompt: Begin of the last message of the question.
        number: Index of the chosen sample in the file; None if it is not in it.
        numbers: (N,) index of each candidate's sample.
        facts: ``Selection.to_dict()`` without texts and objects, which the samples have.
    """

    id: str
    question_id: str
    time: float
    served_as: str | None
    prompt: str
    number: int | None
    numbers: tuple[int | None, ...]
    facts: Mapping[str, Any]

    @property
    def answer(self) -> str | None:
        """The chosen answer in normal form; None if answers could not be read."""
        answer = self.facts.get("answer")
        return answer if isinstance(answer, str) else None

    @property
    def accepted(self) -> bool | None:
        """``Selection.accepted``."""
        accepted = self.facts.get("accepted")
        return accepted if isinstance(accepted, bool) else None


@dataclass(frozen=True, kw_only=True)
class StoredFeedback:
    """A person's word on a selection.

    Attributes:
        correct: Whether the chosen answer is right.
        time: Unix time in seconds.
    """

    selection: StoredSelection
    correct: bool
    time: float


@dataclass(frozen=True, kw_only=True)
class ShownSelection:
    """A selection with what a list of selections shows of it.

    Attributes:
        text: Begin of the chosen text; None if it is not in the file.
        correct: The feedback; None without any.
    """

    selection: StoredSelection
    text: str | None
    correct: bool | None


@dataclass(frozen=True, kw_only=True)
class ReviewedSelection:
    """A selection with what is known about its answer.

    Attributes:
        correct: The feedback; None without any.
        has_grades: Whether its question has a reference answer or a sample with a label.
    """

    selection: StoredSelection
    correct: bool | None
    has_grades: bool


class SelectionStore(VerdictStore):
    """A samples file that also has selections and the feedback on them."""

    def add_selection(
        self,
        selection_id: str,
        facts: Mapping[str, Any],
        completions: Sequence[Completion],
        *,
        question_id: str,
        prompt: str,
        served_as: str | None = None,
        users: Iterable[bytes] = (),
    ) -> None:
        """Store a selection, in place of an earlier one with its id.

        Args:
            selection_id: ``Selection.id``.
            facts: JSON-ready values; see ``StoredSelection.facts``. Of long answers the begin is stored.
            completions: (N,) those of the candidates, which are matched with stored samples.
            question_id: the stored question.
            prompt: its last message, of which the begin is stored.
            served_as: name of a service's virtual model.
            users: digests of who asked, as of ``RequestKey.user_digests``.

        Raises:
            ConfigurationError: a fact is not JSON, the question was erased meanwhile, or the file cannot be written.
        """
        with self._texts_session() as run:
            question_id, policy = self._texts.stored_id(run, question_id), self._texts.claim(run)
        if policy is not None:
            completions = [policy.completion(completion, question_id) for completion in completions]
            facts, prompt = policy.facts(facts, question_id), policy.text(prompt)
        text, prompt = to_json(_shorten_answers(facts)), prompt[:_MAX_PROMPT]
        with self._transaction() as run:
            self._texts.claim(run)
            add_tables(self._connection, ORIGINS)
            if run("SELECT 1 FROM question WHERE id = ?", (question_id,)).fetchone() is None:
                raise ConfigurationError(f"Its question was erased from {self.path} meanwhile.")
            numbers = _match(run(_SELECT_SAMPLES, (question_id,)), completions)
            number = numbers[winner] if isinstance(winner := facts.get("winner"), int) else None
            names = (selection_id, question_id, time.time(), served_as)
            row = (*names, replace_surrogates(prompt), number, to_json(numbers), text)
            run("INSERT OR REPLACE INTO selection VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            run("DELETE FROM selection_user WHERE id = ?", (selection_id,))
            for user in self._texts.stored_users(run, users):
                run("INSERT INTO selection_user VALUES (?, ?)", (selection_id, user))

    def set_feedback(self, selection_id: str, correct: bool | None) -> None:
        """Store whether the chosen answer is right, in place of earlier feedback; None withdraws it.

        Raises:
            UnknownSelectionError: the file has no such selection.
            ConfigurationError: the file cannot be written.
        """
        with self._transaction() as run:
            is_known = (
                has_tables(self._connection, SELECTIONS)
                and run("SELECT 1 FROM selection WHERE id = ?", (selection_id,)).fetchone()
            )
            if not is_known:
                raise UnknownSelectionError.of_file(selection_id, self.path)
            run("DELETE FROM feedback WHERE id = ?", (selection_id,))
            if correct is not None:
                run("INSERT INTO feedback VALUES (?, ?, ?)", (selection_id, correct, time.time()))

    def selection(self, selection_id: str) -> StoredSelection | None:
        """Return a stored selection; None if there is none with this id."""
        with self._read_session() as run:
            if not has_tables(self._connection, SELECTIONS):
                return None
            row = run(f"{_SELECT_SELECTIONS} WHERE id = ?", (selection_id,)).fetchone()
            return None if row is None else _parse_selection(row)

    def selections(self, *, limit: int = -1) -> list[StoredSelection]:
        """Return up to ``limit`` selections (all if negative), the newest first."""
        with self._read_session() as run:
            if not has_tables(self._connection, SELECTIONS):
                return []
            rows = run(f"{_SELECT_SELECTIONS} ORDER BY rowid DESC LIMIT ?", (limit,))
            return list(map(_parse_selection, rows))

    def iterate_selections(self) -> Iterator[StoredSelection]:
        """Yield all selections, the oldest first, one at a time in memory."""
        with self._read_session() as run:
            if has_tables(self._connection, SELECTIONS):
                yield from map(_parse_selection, run(f"{_SELECT_SELECTIONS} ORDER BY rowid"))

    def shown_selections(
        self, *, limit: int = -1, max_text: int = 1000, selection_id: str | None = None
    ) -> list[ShownSelection]:
        """Return up to ``limit`` selections (all if negative), the newest first, with text and feedback.

        Fewer are returned if their facts are very long.

        Args:
            limit: number of selections.
            max_text: characters of the chosen text.
            selection_id: the only selection to return, if it is in the file.
        """
        condition, values = ("", ()) if selection_id is None else (" WHERE selection.id = ?", (selection_id,))
        with self._read_session() as run:
            if not has_tables(self._connection, SELECTIONS):
                return []
            query = f"{_SELECT_SHOWN}{condition} ORDER BY selection.rowid DESC LIMIT ?"
            rows: list[ShownSelection] = []
            n_chars = 0
            for row in run(query, (max_text, *values, limit)):
                n_chars += len(row[-1])
                if rows and n_chars > _MAX_FACTS:
                    break
                rows.append(_parse_shown(row))
            return rows

    def reviewed_selections(self) -> Iterator[ReviewedSelection]:
        """Yield all selections whose question is in the file, with and without feedback, the oldest first."""
        with self._read_session() as run:
            if not has_tables(self._connection, SELECTIONS):
                return
            for correct, has_grades, *row in run(_SELECT_CHOICES):
                if correct not in (None, 0, 1):
                    raise ValueError("feedback is neither 0 nor 1")
                yield ReviewedSelection(
                    selection=_parse_selection(row),
                    correct=None if correct is None else bool(correct),
                    has_grades=bool(has_grades),
                )

    def question(self, question_id: str) -> StoredQuestion | None:
        """Return a stored question; None if there is none with this id."""
        with self._read_session() as run:
            row = run("SELECT id, messages, answer, family FROM question WHERE id = ?", (question_id,)).fetchone()
            return None if row is None else parse_question(row)

    def feedback(self) -> Iterator[StoredFeedback]:
        """Yield all feedback with its selections, the oldest first."""
        with self._read_session() as run:
            if not has_tables(self._connection, SELECTIONS):
                return
            for correct, seconds, *row in run(_SELECT_FEEDBACK):
                if correct not in (0, 1):
                    raise ValueError("feedback is neither 0 nor 1")
                yield StoredFeedback(selection=_parse_selection(row), correct=bool(correct), time=_parse_time(seconds))


def _shorten_answers(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts with the begins of long answers."""
    rows = [_shorten_answers(row) for row in facts["candidates"]] if "candidates" in facts else []
    answer = facts.get("answer")
    return {**facts, **({"candidates": rows} if rows else {}), "answer": answer and answer[:_MAX_ANSWER]}


def _match(rows: Iterable[tuple[int, str, str, bytes]], completions: Sequence[Completion]) -> list[int | None]:
    """Return the index of each completion's sample; of equal samples every one is taken once."""
    samples: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
    for number, text, finish_reason, arrays in rows:
        samples.setdefault((text, finish_reason), []).append((number, arrays))
    numbers: list[int | None] = []
    for completion in completions:
        key = replace_surrogates(completion.text), completion.finish_reason
        twins = samples.get(key, [])
        position = 0
        if len(twins) > 1:  # the same text again: its logprobs tell which one
            logprobs = completion.logprobs.tobytes()
            unpacked = (unpack(arrays, text=key[0], index=0, finish_reason=key[1]) for _, arrays in twins)
            position = next((i for i, twin in enumerate(unpacked) if twin.logprobs.tobytes() == logprobs), 0)
        numbers.append(twins.pop(position)[0] if twins else None)
    return numbers


def _parse_selection(row: Sequence[Any]) -> StoredSelection:
    """Parse the columns of a selection. Raises ValueError or TypeError for an invalid row."""
    selection_id, question_id, seconds, served_as, prompt, number, numbers_json, facts_json = row
    numbers, facts = json.loads(numbers_json), json.loads(facts_json)
    if not all(isinstance(text, str) for text in (selection_id, question_id, prompt, served_as) if text is not None):
        raise ValueError("a selection has a field that is not text")
    if not isinstance(numbers, list) or not all(type(value) is int or value is None for value in (*numbers, number)):
        raise ValueError(f"the samples of selection {selection_id!r} are not a list of numbers")
    if not isinstance(facts, dict):
        raise ValueError(f"the facts of selection {selection_id!r} are not an object")
    return StoredSelection(
        id=selection_id,
        question_id=question_id,
        time=_parse_time(seconds),
        served_as=served_as,
        prompt=prompt,
        number=number,
        numbers=tuple(numbers),
        facts=facts,
    )


def _parse_shown(row: Sequence[Any]) -> ShownSelection:
    """Parse a row of text and feedback with a selection. Raises ValueError or TypeError for an invalid row."""
    text, correct, *columns = row
    selection = _parse_selection(columns)
    if not isinstance(text, str | None) or correct not in (None, 0, 1):
        raise ValueError(f"the text or the feedback of selection {selection.id!r} is damaged")
    return ShownSelection(selection=selection, text=text, correct=None if correct is None else bool(correct))


def _parse_time(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r} is not a time")
    return float(value)
