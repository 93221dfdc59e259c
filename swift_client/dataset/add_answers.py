"""Answers for questions that were asked in service: what makes a store of ``best_of`` fit to train and evaluate on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.questions import read_questions
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore, StoredQuestion
from swift_client.types import Message


@dataclass(frozen=True, kw_only=True)
class GradingSummary:
    """What a samples file holds once its questions have answers."""

    path: str
    matched: int
    """Stored questions that were among the given ones."""
    questions: int
    """Stored questions that have completions."""
    unlabelled: int
    """Those of them without any completion that can be judged."""
    right: int
    """Completions."""
    wrong: int
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def add_answers(
    samples: str | os.PathLike[str],
    questions: str | os.PathLike[str] | Iterable[StoredQuestion] = (),
    *,
    grade: GraderSpec = "auto",
) -> GradingSummary:
    """Write the right answers of ``questions`` beside those stored questions that have the same prompt.

    A stored question is found by its messages, however its id and its sampling: ``best_of`` keeps one for each way of
    asking. Labels are not written: whoever reads the file compares each completion with the answer, as ``grade`` says
    here for the count. The samples file is left alone where no answers are given.

    Raises:
        ConfigurationError: a file cannot be read, is in use, or no question matches.
    """
    given = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    matched = _store_answers(samples, given) if given else 0
    counts = {"questions": 0, "unlabelled": 0, "right": 0, "wrong": 0, "unknown": 0}
    for group in StoredGroups([samples], grade=grade):
        unknown = int(np.isnan(group.labels).sum())
        right = int((group.labels == 1).sum())
        counts["questions"] += 1
        counts["unlabelled"] += unknown == len(group.labels)
        counts["right"] += right
        counts["wrong"] += len(group.labels) - unknown - right
        counts["unknown"] += unknown
    return GradingSummary(path=os.fspath(samples), matched=matched, **counts)


def _store_answers(samples: str | os.PathLike[str], questions: list[StoredQuestion]) -> int:
    known = {_messages_key(question.messages): question for question in questions if question.answer is not None}
    with SampleStore(samples) as store:
        pairs = [(held, known.get(_messages_key(held.messages))) for held in store.questions()]
    answered = [
        replace(held, answer=found.answer, family=found.family or held.family) for held, found in pairs if found
    ]
    if not answered:
        raise ConfigurationError(
            f"None of {len(pairs)} questions in {os.fspath(samples)} has the prompt of one of {len(known)} answers.",
            hint='A line {"id": "q1", "prompt": "What is 17 * 24?", "answer": "408"} answers this very prompt.',
        )
    with SampleStore(samples, write=True, shared=True) as store:
        store.add_questions(answered)
    return len(answered)


def _messages_key(messages: tuple[Message, ...]) -> str:
    return json.dumps(messages, sort_keys=True)
