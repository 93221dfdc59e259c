"""The kind of questions that a head is trained on: their sketch, with limits from questions that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swift_client.features.segments import I64
from swift_client.models.question_sketch import QuestionSketch
from swift_client.types import Message

MIN_QUESTIONS = 20  # fewer do not show what questions of a kind have in common
# Of more questions, as many at equal distances are sketched: long prompts take 5 to 40 ms each.
MAX_QUESTIONS = 2000
# Share of held-out questions below each limit of the sketch. The four limits reject 1 to 2 % together.
LIMIT_QUANTILE = 0.005
# Subtracted from the limits of ``Likeness``: prompts may be 10 % longer or shorter than any in training, and a fifth of
# the words around the question may be new, such as a reworded instruction.
MARGINS = (0.0, 0.0, np.log(1.1), 0.2)


def sketch_questions(questions: Sequence[Sequence[Message]], folds: I64) -> QuestionSketch | None:
    """Sketch the questions of all folds; each fold, compared with a sketch of the others, sets the limits.

    Args:
        questions: Q questions as lists of chat messages.
        folds: (Q,) the fold of each.

    Returns:
        None for fewer than MIN_QUESTIONS questions or a single fold.
    """
    if len(questions) < MIN_QUESTIONS or len(np.unique(folds)) < 2:
        return None
    if len(questions) > MAX_QUESTIONS:
        indices = np.linspace(0, len(questions) - 1, MAX_QUESTIONS).astype(np.int64)
        questions, folds = [questions[index] for index in indices], folds[indices]
    held_out = []
    for fold in np.unique(folds):
        sketch_of_rest = QuestionSketch.from_questions(
            messages for messages, other_fold in zip(questions, folds, strict=True) if other_fold != fold
        )
        held_out += [
            sketch_of_rest.likeness(messages)
            for messages, own_fold in zip(questions, folds, strict=True)
            if own_fold == fold
        ]
    limits = np.quantile(held_out, LIMIT_QUANTILE, axis=0) - MARGINS
    return replace(QuestionSketch.from_questions(questions), limits=limits)
