"""The rows of the evaluation table, and what each picks from many draws of completions at once.

A pick is what ``reranker.judging.judge`` would choose from the same completions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from swift_client.evaluation.pools import StackedPools
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.selection.voting import MIN_WEIGHT, RULES, Rule, best, cisc, vote, vote_weights
from swift_client.types import Bool

NO_SCORE = "none"
"""The scorer that knows nothing: the first one wins."""
_MAX_BLOCK_VALUES = 1 << 16
"""Values of one block of draws, small enough to stay in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row. ``by`` is a rule, a name in RULES, or "chance" (votes weighed by probability p, as a Selection weighs
    them), "odds" (by p / (1 - p)), "random" or "any".
    """

    name: str
    label: str
    kind: Literal["single", "vote", "oracle"] = "single"
    scorer: str = NO_SCORE
    rule: str | Rule = "best"
    needs_labels: bool = False


def _single(name: str, label: str, *, needs_labels: bool = False) -> Method:
    return Method(name=name, label=label, scorer=name, needs_labels=needs_labels)


METHODS: tuple[Method, ...] = (
    Method(name="first", label="First"),
    Method(name="random", label="Random", rule="random"),
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
    Method(name="majority", label="Majority", kind="vote", rule="majority"),
    Method(
        name="majority_ties", label="Majority, ties by logprob", kind="vote", scorer="mean_logprob",
        rule="majority_with_ties",
    ),
    Method(name="borda", label="Borda by self-certainty", kind="vote", scorer="self_certainty", rule="borda"),
    Method(name="cisc", label="CISC by probability", kind="vote", scorer="probability", rule=cisc(standardize=False)),
    Method(
        name="swift_vote", label="SWIFT as published, vote", kind="vote", scorer="swift", rule="chance", needs_labels=True
    ),
    Method(name="head_vote", label="This head, vote", kind="vote", scorer="head", rule="chance", needs_labels=True),
    Method(name="head_odds", label="This head, vote by odds", kind="vote", scorer="head", rule="odds", needs_labels=True),
    Method(name="oracle", label="Any of n (oracle)", kind="oracle", rule="any"),
)  # fmt: skip


def methods(temperature: float | None) -> tuple[Method, ...]:
    """Return all rows, CISC with the temperature that labels gave it, or with its plain 1."""
    if temperature is None:
        return METHODS
    rule, label = cisc(temperature, standardize=False), f"CISC, T = {temperature:.2g}"
    return tuple(
        replace(method, label=label, rule=rule, needs_labels=True) if method.name == "cisc" else method
        for method in METHODS
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a head adds to a completion's score for the share of the others that have the same answer."""

    weight: float
    mean: float
    scale: float
    calibration: Callable[[F64], F64] | None
    """The head's calibration."""

    @classmethod
    def from_head(cls, head: HeadArtifact) -> Agreement | None:
        """Return the head's own; None where it does not count agreement."""
        if "agreement" not in head.response_terms:
            return None
        at = head.response_terms.index("agreement") - len(head.response_terms)
        part = head.response.standardizer
        return cls(
            weight=float(head.response.weight[at]),
            mean=float(part.mean[at]),
            scale=float(part.scale[at]),
            calibration=head.calibration,
        )

    def score_offsets(self, answers: I64, complete: Bool) -> F64:
        """Return what is added to the scores of draws (..., n); the share is ``features.response.agreement``."""
        n = answers.shape[-1]
        rows = answers.reshape(-1, n)
        kinds = int(rows.max(initial=-1)) + 2  # kind 0 gathers those without an answer
        cell = rows + 1 + kinds * np.arange(len(rows))[:, None]
        votes = np.bincount(cell.ravel(), minlength=kinds * len(rows))
        same = np.where(rows >= 0, votes[cell] - 1, 0).reshape(answers.shape)
        others = complete.sum(axis=-1, keepdims=True) - complete
        share = ((same + 0.5) / (others + 1.0)).astype(np.float32)
        added: F64 = self.weight * ((share - self.mean) / self.scale)
        return added


class DrawnSubsets:
    """B questions, S draws of n completions each; all arrays (B, S, n). ``agreement`` belongs to the scores "head".

    Where ``ended`` is given, completions for which it is False were cut in this draw, whatever they are in the pool.
    """

    def __init__(
        self,
        pools: StackedPools,
        draws: I64,
        *,
        auto_answer: bool,
        agreement: Agreement | None,
        finished: Bool | None = None,
    ) -> None:
        self._pools, self._draws, self._agreement = pools, draws, agreement
        self.complete: Bool = pools.complete[:, draws] if finished is None else pools.complete[:, draws] & finished
        read = np.where(self.complete, pools.answers[:, draws], -1)
        if auto_answer:  # as answers.read decides it
            few = 2 * (read >= 0).sum(axis=-1) < (pools.has_text[:, draws] & self.complete).sum(axis=-1)
            read = np.where(few[..., None], -1, read)
        self.answers: I64 = read
        self.has_votes = np.asarray((read >= 0).any(axis=-1))
        """(B, S) whether anyone votes."""
        self._head_scores = (
            None if agreement is None else pools.scores["head"][:, draws] + agreement.score_offsets(read, self.complete)
        )

    def scores(self, name: str) -> F64:
        """Return a scorer's scores, NaN for no signal."""
        if name == NO_SCORE:
            return np.zeros(self.complete.shape)
        if name == "head" and self._head_scores is not None:
            return _round_to_float32(self._head_scores)
        return self._pools.scores[name][:, self._draws]

    def probabilities(self, name: str) -> F64 | None:
        """Return probabilities, NaN where there is no score; None for a scorer that has none."""
        if name == "head" and self._head_scores is not None and self._agreement is not None:
            to_chance = self._agreement.calibration
            return None if to_chance is None else _round_to_float32(to_chance(self._head_scores))
        return self._pools.probabilities[name][:, self._draws] if name in self._pools.probabilities else None


def _round_to_float32(values: F64) -> F64:
    """Round as ``scorers.score`` does."""
    return values.astype(np.float32).astype(np.float64)


def choose_winners(method: Method, drawn: DrawnSubsets) -> I64:
    """Return the positions (B, S) of the winners, 0..n-1."""
    scores = drawn.scores(method.scorer)
    alone = best(drawn.answers, _mask_incomplete(scores, drawn.complete))
    if method.rule == "best":
        return alone
    if method.rule in ("chance", "odds"):
        chances = drawn.probabilities(method.scorer)
        weights = np.ones(scores.shape) if chances is None else vote_weights(chances)
        if method.rule == "odds" and chances is not None:
            weights = weights / np.maximum(1.0 - weights, MIN_WEIGHT)
        voted = vote(drawn.answers, scores, weights)
    else:
        rule = RULES[method.rule] if isinstance(method.rule, str) else method.rule
        voted = rule(drawn.answers, scores)
    return np.where(drawn.has_votes, voted, alone)


def _mask_incomplete(scores: F64, complete: Bool) -> F64:
    """Let what was cut win only where nothing is whole, and what has no score only where nothing has one."""
    if complete.all():
        return scores
    any_whole = complete.any(axis=-1, keepdims=True)
    unknown = np.where(np.isnan(scores), -np.inf, scores)
    return np.where(any_whole, np.where(complete, unknown, np.nan), scores)


def accuracy_by_method(
    methods: Sequence[Method], pools: StackedPools, draws: I64, *, auto_answer: bool, agreement: Agreement | None
) -> dict[str, F64]:
    """Return by method the share of draws (S, n) whose pick is right, (Q,); what has no label is not right."""
    right = (pools.labels == 1).astype(np.float64)
    shares = {method.name: np.empty(len(right)) for method in methods}
    step = max(1, _MAX_BLOCK_VALUES // draws.size)
    each = np.arange(len(draws))
    for start in range(0, len(right), step):
        block = slice(start, start + step)
        drawn = DrawnSubsets(pools.slice_questions(block), draws, auto_answer=auto_answer, agreement=agreement)
        for method in methods:
            if method.rule == "any":
                share = right[block][:, draws].max(axis=-1).mean(axis=1)
            elif method.rule == "random":
                share = right[block].mean(axis=1)
            else:
                share = np.take_along_axis(right[block], draws[each, choose_winners(method, drawn)], axis=1).mean(
                    axis=1
                )
            shares[method.name][block] = share
    return shares
