"""The drift profile of a new head: statistics of the questions that it was trained on, as a reranker computes them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.features.segments import F64
from swift_client.models import AnyHead, DriftProfile
from swift_client.monitoring.profile import MIN_QUESTIONS, SIZES, build_profile
from swift_client.monitoring.statistics import question_statistics
from swift_client.selection.select import FALLBACK_SCORER, SelectionConfig, score_completions

# Of more questions, as many at equal distances are read: the test gives a larger reference no more weight.
MAX_QUESTIONS = 1000


def drift_reference(
    head: AnyHead, groups: Iterable[Group], *, count: int, split: Split, answer: answers.Spec
) -> DriftProfile | None:
    """Return the profile of a head's questions; None if they are too few.

    Args:
        head: the head; its scores of training questions are left out, since it knows their labels.
        groups: its questions, in the order of its training.
        count: number of questions.
        split: the parts of the questions.
        answer: how answers are read.
    """
    with_head = SelectionConfig(scorer=head, answer=answer, force_head=True)
    without_head = SelectionConfig(scorer=FALLBACK_SCORER, answer=answer)
    rows: dict[int, list[F64]] = {size: [] for size in SIZES}
    for group in islice(groups, 0, None, -(-count // MAX_QUESTIONS) or 1):
        if not group.completions:
            continue
        is_new = split.part(group.question_id) != "train"
        scored = score_completions(group.completions, with_head if is_new else without_head)
        is_scored = scored.scores.name == head.name
        for size in SIZES:
            if len(scored.completions) >= size:
                row = question_statistics(
                    scored.completions[:size],
                    scores=scored.scores.values[:size] if is_scored else None,
                    answers=scored.answers.groups[:size],
                )
                rows[size].append(row)
    enough = {size: table for size, table in rows.items() if len(table) >= MIN_QUESTIONS}
    return build_profile(enough) if enough else None
