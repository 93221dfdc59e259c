"""Reference answers for stored questions, to train on a store of ``best_of``."""

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
    """Labels of a samples file after its questions have answers."""

    path: str
    matched: int  # stored questions that got an answer
    questions: int  # stored questions that have completions
    unlabelled: int  # stored questions none of whose completions can be graded
    right: int  # right completions; likewise ``wrong`` and ``unknown``
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
    """Add the answers of ``questions`` to the stored questions with the same prompt.

    Questions are matched by their messages, since ``best_of`` stores a question once per set of sampling parameters,
    under its own id. Labels are not stored: each reader grades the completions against the answer.

    Args:
        samples: the samples file; not changed without answers.
        questions: a questions file, or questions with answers.
        grade: how the completions are graded for the summary.

    Raises:
        ConfigurationError: a file cannot be read, is in use, or no question matches.
    """
    answered = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    matched = _store_answers(samples, answered) if answered else 0
    labels = [group.labels for group in StoredGroups([samples], grade=grade)]
    all_labels = np.concatenate([np.empty(0), *labels])
    return GradingSummary(
        path=os.fspath(samples),
        matched=matched,
        questions=len(labels),
        unlabelled=sum(bool(np.isnan(part).all()) for part in labels),
        right=int((all_labels == 1).sum()),
        wrong=int((all_labels == 0).sum()),
        unknown=int(np.isnan(all_labels).sum()),
    )


def _store_answers(samples: str | os.PathLike[str], questions: list[StoredQuestion]) -> int:
    sources = {_messages_key(question.messages): question for question in questions if question.answer is not None}
    with SampleStore(samples) as store:
        pairs = [(stored, sources.get(_messages_key(stored.messages))) for stored in store.questions()]
    updated = [
        replace(stored, answer=source.answer, family=source.family or stored.family)
        for stored, source in pairs
        if source
    ]
    if not updated:
        raise ConfigurationError(
            f"None of {len(pairs)} questions in {os.fspath(samples)} has the prompt of one of {len(sources)} answers.",
            hint='Prompts must be equal. A line is {"id": "q1", "prompt": "What is 17 * 24?", "answer": "408"}.',
        )
    with SampleStore(samples, write=True, shared=True) as store:
        store.add_questions(updated)
    return len(updated)


def _messages_key(messages: tuple[Message, ...]) -> str:
    return json.dumps(messages, sort_keys=True)
