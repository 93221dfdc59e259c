"""Labelled questions, asked as ``best_of`` would ask them and judged by what judges them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import PARTS, Progress, split_of
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.reranker.acceptance import confidence
from swift_client.selection.select import Rules, judge
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import ballots
from swift_client.types import Bool, Completion, Selection

UNSEEN = ("validation", "test")
"""The parts that no weight of a head was fitted on; validation chose its epoch and its calibration."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """The choice for each of Q questions."""

    sure: F64
    """(Q,) natural log odds that the chosen answer is right, NaN where the head says nothing of it."""
    right: Bool
    """(Q,) whether it was; a choice without a label counts as wrong."""
    drawn: I64
    """(Q,) completions drawn."""
    tokens: I64
    """(Q,) tokens of these."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    def __len__(self) -> int:
        return len(self.right)


class Asked(NamedTuple):
    """A question as it was asked: what was chosen from how many completions."""

    selection: Selection
    drawn: int
    tokens: int


def judged(
    groups: Iterable[Group],
    rules: Rules,
    *,
    n: int,
    stopping: StoppingRule | None = None,
    split: str = "unseen",
    progress: Progress = lambda stage, done: None,
) -> Judged:
    """Judge the first ``n`` completions of each labelled question, or as many of them as ``stopping`` draws.

    A rule is asked after each completion. The questions are those of one part of the head's own split, "unseen"
    (validation and test), or "all". Raises ConfigurationError for an unknown part, or where there is no question.
    """
    if split not in ("unseen", "all", *PARTS):
        raise ConfigurationError(f"There is no split {split!r}.", hint=f"Use unseen, {', '.join(PARTS)}, or all.")
    head = rules.scorer if isinstance(rules.scorer, HeadArtifact) else None
    parts, notes = split_of(head)
    wanted = UNSEEN if split == "unseen" else PARTS if split == "all" else (split,)
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
        order = _in_order(group)
        chosen = asked([group.completions[at] for at in order], rules, n=n, stopping=stopping)
        sure = confidence(chosen.selection)
        right = bool(group.labels[order[chosen.selection.winner]] == 1)
        found.append((np.nan if sure is None else sure, right, chosen.drawn, chosen.tokens))
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
    return Judged(
        sure=np.array(sure_),
        right=np.array(right_, np.bool_),
        drawn=np.array(drawn, np.int64),
        tokens=np.array(tokens, np.int64),
        notes=tuple(notes),
    )


def asked(completions: Sequence[Completion], rules: Rules, *, n: int, stopping: StoppingRule | None = None) -> Asked:
    """Return what ``best_of`` chooses where the provider sends ``completions``, at least n, one by one."""
    numbered = [replace(each, index=at) for at, each in enumerate(completions[:n])]
    for seen in range(1 if stopping else n, n + 1):
        selection = judge(numbered[:seen], rules)
        if stopping is None or stopping(ballots(selection, n=n)).stop:
            break
    return Asked(selection, seen, sum(len(each.tokens) for each in numbered[:seen]))


def _in_order(group: Group) -> list[int]:
    """Return positions by ``Completion.index`` where these differ, else as they stand."""
    indices = [completion.index for completion in group.completions]
    places = range(len(indices))
    return sorted(places, key=indices.__getitem__) if len(set(indices)) == len(indices) else list(places)
