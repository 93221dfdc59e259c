"""Labelled questions, asked as ``best_of`` would ask them and judged by what judges them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import PARTS, ProgressCallback, get_split
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.reranker.acceptance import answer_log_odds
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import build_votes
from swift_client.types import Bool, Completion, Selection

UNSEEN_PARTS = ("validation", "test")
"""The parts that no weight of a head was fitted on; validation chose its epoch and its calibration."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayOutcomes:
    """The choice for each of Q questions."""

    log_odds: F64
    """(Q,) natural log odds that the chosen answer is right, NaN where the head says nothing of it."""
    correct: Bool
    """(Q,) whether it was; a choice without a label counts as wrong."""
    n_drawn: I64
    """(Q,) completions drawn."""
    tokens: I64
    """(Q,) tokens of these."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    def __len__(self) -> int:
        return len(self.correct)


class ReplayedQuestion(NamedTuple):
    """A question as it was asked: what was chosen from how many completions."""

    selection: Selection
    n_drawn: int
    tokens: int


def replay_questions(
    groups: Iterable[Group],
    config: SelectionConfig,
    *,
    n: int,
    stopping: StoppingRule | None = None,
    split: str = "unseen",
    progress: ProgressCallback = lambda stage, done: None,
) -> ReplayOutcomes:
    """Judge the first ``n`` completions of each labelled question, or as many of them as ``stopping`` draws.

    A rule is asked after each completion. The questions are those of one part of the head's own split, "unseen"
    (validation and test), or "all". Raises ConfigurationError for an unknown part, or where there is no question.
    """
    if split not in ("unseen", "all", *PARTS):
        raise ConfigurationError(f"There is no split {split!r}.", hint=f"Use unseen, {', '.join(PARTS)}, or all.")
    head = config.scorer if isinstance(config.scorer, HeadArtifact) else None
    parts, notes = get_split(head)
    wanted = UNSEEN_PARTS if split == "unseen" else PARTS if split == "all" else (split,)
    found: list[tuple[float, bool, int, int]] = []
    short = unlabelled = 0
    for done, group in enumerate(groups, 1):
        progress("questions", done)
        if split != "all" and parts.part(group.question_id) not in wanted:
            continue
        if np.isnan(group.labels).all():
            unlabelled += 1
            continue
        if len(group.completions) < n:
            short += 1
            continue
        order = _completion_order(group)
        chosen = replay_question([group.completions[at] for at in order], config, n=n, stopping=stopping)
        sure = answer_log_odds(chosen.selection)
        right = bool(group.labels[order[chosen.selection.winner]] == 1)
        found.append((np.nan if sure is None else sure, right, chosen.n_drawn, chosen.tokens))
    if not found:
        raise ConfigurationError(
            f"No labelled question of the part {split!r} has {n} completions.",
            hint="Ask for fewer with n (--n), or use --split all for files of questions that the head never saw.",
        )
    if short:
        notes.append(f"{short} questions with fewer than {n} completions are left out.")
    if unlabelled:
        notes.append(f"{unlabelled} questions are left out: none of their completions has a label.")
    sure_, right_, drawn, tokens = zip(*found, strict=True)
    return ReplayOutcomes(
        log_odds=np.array(sure_),
        correct=np.array(right_, np.bool_),
        n_drawn=np.array(drawn, np.int64),
        tokens=np.array(tokens, np.int64),
        notes=tuple(notes),
    )


def replay_question(
    completions: Sequence[Completion], config: SelectionConfig, *, n: int, stopping: StoppingRule | None = None
) -> ReplayedQuestion:
    """Return what ``best_of`` chooses where the provider sends ``completions``, at least n, one by one."""
    numbered = [replace(each, index=at) for at, each in enumerate(completions[:n])]
    for seen in range(1 if stopping else n, n + 1):
        selection = select_best(numbered[:seen], config)
        if stopping is None or stopping(build_votes(selection, n=n)).stop:
            break
    return ReplayedQuestion(selection, seen, sum(len(each.tokens) for each in numbered[:seen]))


def _completion_order(group: Group) -> list[int]:
    """Return positions by ``Completion.index`` where these differ, else as they stand."""
    indices = [completion.index for completion in group.completions]
    places = range(len(indices))
    return sorted(places, key=indices.__getitem__) if len(set(indices)) == len(indices) else list(places)
