"""One run of ``best-of --questions``: ask what the file of answers lacks, write each answer, and stop at the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swift_client.cli import options
from swift_client.cli.command_words import CommandWords
from swift_client.cli.error_facts import BUDGET, PROVIDER, error_facts, exit_code
from swift_client.cli.questions.answers_file import AnswersFile
from swift_client.collect.runner import FATAL_ERRORS, MAX_CONSECUTIVE_FAILURES
from swift_client.dataset.questions import iterate_questions, note_unknown_keys
from swift_client.errors import BudgetExceededError, RejectedError, SwiftClientError
from swift_client.pricing import add_costs
from swift_client.reranker import SwiftReranker
from swift_client.store import StoredQuestion
from swift_client.types import Message, Selection, Usage


@dataclass(kw_only=True)
class RunSummary:
    """The state of a run: its progress, and at the end its result."""

    questions: int  # in the file of questions
    earlier: int  # of them, answered by earlier runs
    answered: int = 0
    rejected: int = 0  # answers that were not accepted, with on_reject="abstain"
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None  # US dollars; None if the price is unknown
    stopped: str | None = None  # "budget" or "failures"

    @property
    def missing(self) -> int:
        """Number of questions that have no answer yet."""
        return self.questions - self.earlier - self.answered - self.rejected

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 only if every question has its answer."""
        if self.stopped == "budget":
            return BUDGET
        return PROVIDER if self.missing else 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "missing": self.missing}

    def count_selection(self, selection: Selection) -> None:
        """Add the tokens and the cost of a choice."""
        has_earlier = self.answered or self.rejected
        self.cost = add_costs(self.cost, selection.cost) if has_earlier else selection.cost
        self.usage += selection.usage


@dataclass(frozen=True)
class QuestionsCheck:
    """The number of questions of a file, that of those with an answer, and notes on keys that are ignored."""

    count: int
    earlier: int
    notes: tuple[str, ...]


def check_questions(path: Path, ids: Set[str], *, system: str | None) -> QuestionsCheck:
    """Read a file of questions to its end, so that nothing is paid for if one of its lines is wrong.

    Args:
        path: the file.
        ids: the questions that have an answer.
        system: system prompt of all questions.

    Raises:
        ConfigurationError: the file cannot be read, a line is wrong, or a question has a system prompt beside
            ``system``.
    """
    unknown: Counter[str] = Counter()
    count = earlier = 0
    for question in iterate_questions(path, unknown):
        _with_system(question, system)
        count += 1
        earlier += question.id in ids
    return QuestionsCheck(count, earlier, tuple(note_unknown_keys(unknown)))


def _with_system(question: StoredQuestion, system: str | None) -> list[Message]:
    messages = list(question.messages)
    return messages if system is None else options.add_system_message(system, messages)


class QuestionsRun:
    """Answers the questions of a file that a file of answers lacks. Call ``run()`` once.

    Args:
        path: the file of questions.
        answers: the file of answers, open for more lines.
        check: the result of checking it.
        words: the words of the command, for errors.
        system: system prompt of all questions.
    """

    def __init__(
        self, path: Path, answers: AnswersFile, *, check: QuestionsCheck, words: CommandWords, system: str | None
    ) -> None:
        self._path, self._answers, self._words, self._system = path, answers, words, system
        self.summary = RunSummary(questions=check.count, earlier=check.earlier)
        self._n_failed_in_turn = 0

    def run(
        self, reranker: SwiftReranker, n: int, on_progress: Callable[[RunSummary], None], **settings: Any
    ) -> RunSummary:
        """Ask, and write one line per answer or error; ``settings`` are those of ``best_of_many()``.

        Raises:
            ConfigurationError: a setting is wrong, or the file cannot be written.
            AuthenticationError: the key is refused.
        """
        on_progress(self.summary)
        outcomes = reranker.best_of_many(self._missing(), n, in_order=False, return_exceptions=True, **settings)
        with closing(outcomes):
            for question_id, outcome in outcomes:
                self._record(str(question_id), outcome)
                on_progress(self.summary)
        return self.summary

    def _missing(self) -> Iterator[tuple[str, list[Message]]]:
        """Yield the id and the messages of each question that has no answer, until the run has a reason to stop."""
        for question in iterate_questions(self._path):
            if self.summary.stopped:
                return
            if question.id not in self._answers.ids:
                yield question.id, _with_system(question, self._system)

    def _record(self, question_id: str, outcome: Selection | SwiftClientError) -> None:
        summary = self.summary
        match outcome:
            case Selection():
                self._answers.add_answer(question_id, outcome)
                summary.count_selection(outcome)
                summary.answered += 1
                self._n_failed_in_turn = 0
                return
            case BudgetExceededError():  # the next run asks it; there is nothing to say about it
                summary.stopped = "budget"
                return
            case _ if isinstance(outcome, FATAL_ERRORS):
                raise outcome
        facts = {**error_facts(outcome, self._words), "exit_code": exit_code(outcome)}
        self._answers.add_error(question_id, facts)
        if isinstance(outcome, RejectedError):
            summary.count_selection(outcome.selection)
            summary.rejected += 1
            return
        summary.failed += 1
        self._n_failed_in_turn += 1
        if self._n_failed_in_turn >= MAX_CONSECUTIVE_FAILURES and not summary.stopped:
            summary.stopped = "failures"
