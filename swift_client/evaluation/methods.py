"""The rows of the evaluation table, and what each picks from many draws of completions at once.

A pick is what ``reranker.judging.judge`` would choose from the same completions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from swift_client.evaluation.pools import Pools
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.selection.choose import LEAST_WEIGHT
from swift_client.selection.voting import RULES, Rule, best, cisc, vote
from swift_client.types import Bool

NO_SCORE = "none"
"""The scorer that knows nothing: the first one wins."""
_VALUES_AT_ONCE = 1 << 16
"""Values of one block of draws, small enough to stay in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row. ``by`` is a rule, a name in RULES, or "chance" (votes weighed by probability p, as a Selection weighs
    them), "odds" (by p / (1 - p)), "random" or "any".
    """

    name: str
    label: str
    kind: Literal["single", "vote", "oracle"] = "single"
    score: str = NO_SCORE
    by: str | Rule = "best"
    needs_labels: bool = False


def _single(name: str, label: str, *, needs_labels: bool = False) -> Method:
    return Method(name=name, label=label, score=name, needs_labels=needs_labels)


METHODS: tuple[Method, ...] = (
    Method(name="first", label="First"),
    Method(name="random", label="Random", by="random"),
    _single("shortest", "Shortest text"),
    _single("longest", "Longest text"),
    _single("mean_logprob", "Mean logprob"),
    _single("sum_logprob", "Sum of logprobs"),
    _single("min_logprob", "Least likely token"),
    _single("entropy", "Mean entropy"),
    _single("self_certainty", "Self-certainty"),
    _single("deepconf_mean", "DeepConf, mean"),
    _single("deepconf_tail", "DeepConf, tail"),
    _single("deepconf_bottom", "DeepConf, bottom tenth"),
    _single("deepconf_lowest", "DeepConf, lowest window"),
    _single("length", "Length, logistic", needs_labels=True),
    _single("wepr", "WEPR, logistic", needs_labels=True),
    _single("swift", "SWIFT as published, best", needs_labels=True),
    _single("head", "This head, best", needs_labels=True),
    Method(name="majority", label="Majority", kind="vote", by="majority"),
    Method(
        name="majority_ties", label="Majority, ties by logprob", kind="vote", score="mean_logprob",
        by="majority_with_ties",
    ),
    Method(name="borda", label="Borda by self-certainty", kind="vote", score="self_certainty", by="borda"),
    Method(name="cisc", label="CISC by probability", kind="vote", score="probability", by=cisc(standardize=False)),
    Method(
        name="swift_vote", label="SWIFT as published, vote", kind="vote", score="swift", by="chance", needs_labels=True
    ),
    Method(name="head_vote", label="This head, vote", kind="vote", score="head", by="chance", needs_labels=True),
    Method(name="head_odds", label="This head, vote by odds", kind="vote", score="head", by="odds", needs_labels=True),
    Method(name="oracle", label="Any of n (oracle)", kind="oracle", by="any"),
)  # fmt: skip


def methods(temperature: float | None) -> tuple[Method, ...]:
    """Return all rows, CISC with the temperature that labels gave it, or with its plain 1."""
    if temperature is None:
        return METHODS
    rule, label = cisc(temperature, standardize=False), f"CISC, T = {temperature:.2g}"
    return tuple(
        replace(method, label=label, by=rule, needs_labels=True) if method.name == "cisc" else method
        for method in METHODS
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a head adds to a completion's score for the share of the others that have the same answer."""

    weight: float
    mean: float
    scale: float
    to_chance: Callable[[F64], F64] | None
    """The head's calibration."""

    @classmethod
    def of(cls, head: HeadArtifact) -> Agreement | None:
        """Return the head's own; None where it does not count agreement."""
        if "agreement" not in head.response_terms:
            return None
        at = head.response_terms.index("agreement") - len(head.response_terms)
        part = head.response.standardizer
        return cls(
            weight=float(head.response.weight[at]),
            mean=float(part.mean[at]),
            scale=float(part.scale[at]),
            to_chance=head.calibration,
        )

    def added(self, answers: I64, whole: Bool) -> F64:
        """Return what is added to the scores of draws (..., n); the share is ``features.response.agreement``."""
        n = answers.shape[-1]
        rows = answers.reshape(-1, n)
        kinds = int(rows.max(initial=-1)) + 2  # kind 0 gathers those without an answer
        cell = rows + 1 + kinds * np.arange(len(rows))[:, None]
        votes = np.bincount(cell.ravel(), minlength=kinds * len(rows))
        same = np.where(rows >= 0, votes[cell] - 1, 0).reshape(answers.shape)
        others = whole.sum(axis=-1, keepdims=True) - whole
        share = ((same + 0.5) / (others + 1.0)).astype(np.float32)
        added: F64 = self.weight * ((share - self.mean) / self.scale)
        return added


class Drawn:
    """B questions, S draws of n completions each; all arrays (B, S, n). ``agreement`` belongs to the scores "head".

    Where ``ended`` is given, completions for which it is False were cut in this draw, whatever they are in the pool.
    """

    def __init__(
        self, pools: Pools, draws: I64, *, auto: bool, agreement: Agreement | None, ended: Bool | None = None
    ) -> None:
        self._pools, self._draws, self._agreement = pools, draws, agreement
        self.whole: Bool = pools.whole[:, draws] if ended is None else pools.whole[:, draws] & ended
        read = np.where(self.whole, pools.answers[:, draws], -1)
        if auto:  # as answers.read decides it
            few = 2 * (read >= 0).sum(axis=-1) < (pools.spoken[:, draws] & self.whole).sum(axis=-1)
            read = np.where(few[..., None], -1, read)
        self.answers: I64 = read
        self.voted = np.asarray((read >= 0).any(axis=-1))
        """(B, S) whether anyone votes."""
        self._head = None if agreement is None else pools.scores["head"][:, draws] + agreement.added(read, self.whole)

    def scores(self, name: str) -> F64:
        """Return a scorer's scores, NaN for no signal."""
        if name == NO_SCORE:
            return np.zeros(self.whole.shape)
        if name == "head" and self._head is not None:
            return _served(self._head)
        return self._pools.scores[name][:, self._draws]

    def chances(self, name: str) -> F64 | None:
        """Return probabilities, NaN where there is no score; None for a scorer that has none."""
        if name == "head" and self._head is not None and self._agreement is not None:
            to_chance = self._agreement.to_chance
            return None if to_chance is None else _served(to_chance(self._head))
        return self._pools.chances[name][:, self._draws] if name in self._pools.chances else None


def _served(values: F64) -> F64:
    """Round as ``scorers.score`` does."""
    return values.astype(np.float32).astype(np.float64)


def picks(method: Method, drawn: Drawn) -> I64:
    """Return the positions (B, S) of the winners, 0..n-1."""
    scores = drawn.scores(method.score)
    alone = best(drawn.answers, _wholes_first(scores, drawn.whole))
    if method.by == "best":
        return alone
    if method.by in ("chance", "odds"):
        chances = drawn.chances(method.score)
        weights = np.ones(scores.shape) if chances is None else np.where(chances > LEAST_WEIGHT, chances, LEAST_WEIGHT)
        if method.by == "odds" and chances is not None:
            weights = weights / np.maximum(1.0 - weights, LEAST_WEIGHT)
        voted = vote(drawn.answers, scores, weights)
    else:
        rule = RULES[method.by] if isinstance(method.by, str) else method.by
        voted = rule(drawn.answers, scores)
    return np.where(drawn.voted, voted, alone)


def _wholes_first(scores: F64, whole: Bool) -> F64:
    """Let what was cut win only where nothing is whole, and what has no score only where nothing has one."""
    if whole.all():
        return scores
    any_whole = whole.any(axis=-1, keepdims=True)
    unknown = np.where(np.isnan(scores), -np.inf, scores)
    return np.where(any_whole, np.where(whole, unknown, np.nan), scores)


def right_share(
    methods: Sequence[Method], pools: Pools, draws: I64, *, auto: bool, agreement: Agreement | None
) -> dict[str, F64]:
    """Return by method the share of draws (S, n) whose pick is right, (Q,); what has no label is not right."""
    right = (pools.labels == 1).astype(np.float64)
    shares = {method.name: np.empty(len(right)) for method in methods}
    step = max(1, _VALUES_AT_ONCE // draws.size)
    each = np.arange(len(draws))
    for start in range(0, len(right), step):
        block = slice(start, start + step)
        drawn = Drawn(pools.part(block), draws, auto=auto, agreement=agreement)
        for method in methods:
            if method.by == "any":
                share = right[block][:, draws].max(axis=-1).mean(axis=1)
            elif method.by == "random":
                share = right[block].mean(axis=1)
            else:
                share = np.take_along_axis(right[block], draws[each, picks(method, drawn)], axis=1).mean(axis=1)
            shares[method.name][block] = share
    return shares
