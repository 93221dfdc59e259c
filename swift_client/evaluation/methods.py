"""Methods of choosing (rows of the evaluation table), applied to many draws of completions at once.

Each winner is the one that ``selection.select.select_best`` chooses from the same completions in the same order, except
for sums of weights that are equal up to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from swift_client.evaluation.pools import StackedPools
from swift_client.features.segments import F64, I64
from swift_client.selection.voting import (
    RULES,
    Rule,
    best,
    cisc,
    clamp_weights,
    label_free_weights,
    odds_weights,
    vote,
)
from swift_client.types import Bool
from swift_client.verify.judged_votes import JudgedVotes

NO_SCORE = "none"  # scorer without information: the first completion wins
NO_HEAD_SCORER = "mean_logprob"  # the scorer of ``best_of`` without a head
_MAX_BLOCK_VALUES = 1 << 16  # values of one block of draws, small enough for a processor's cache


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        rule: A voting rule, its name in RULES, or one of "best" (the best score wins), "default" (votes weighed as in a
            Selection: by the head's β, or without a head by LABEL_FREE_WEIGHTS), "probability" (weighed by the
            probability p), "odds" (by p / (1 - p)), "random" and "any" (right if any completion is).
        verifier: Identity of the verifier whose judgements change the choice of the rule "default"; None without one.
        exponent: Weight of its judgements beside the votes; infinity: the best judgement wins.
        missing: Log odds that stand for missing judgements; None: the mean of those of the other answers.
    """

    name: str
    label: str
    kind: Literal["single", "vote", "oracle"] = "single"
    scorer: str = NO_SCORE
    rule: str | Rule = "best"
    needs_labels: bool = False
    verifier: str | None = None
    exponent: float = 1.0
    missing: float | None = None

    @property
    def shown_scorer(self) -> str:
        """The scorer whose values the row is described by: the verifier where its judgements decide alone."""
        return self.verifier if self.verifier is not None and self.exponent == np.inf else self.scorer


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
    Method(
        name="default", label="Default without a head", kind="vote", scorer="mean_logprob", rule="default",
    ),
    Method(name="borda", label="Borda by self-certainty", kind="vote", scorer="self_certainty", rule="borda"),
    Method(name="cisc", label="CISC by probability", kind="vote", scorer="probability", rule=cisc()),
    Method(
        name="swift_vote",
        label="SWIFT as published, vote",
        kind="vote",
        scorer="swift",
        rule="probability",
        needs_labels=True,
    ),
    Method(
        name="head_vote",
        label="This head, vote",
        kind="vote",
        scorer="head",
        rule="default",
        needs_labels=True,
    ),
    Method(
        name="head_p",
        label="This head, vote by p",
        kind="vote",
        scorer="head",
        rule="probability",
        needs_labels=True,
    ),
    Method(
        name="head_odds",
        label="This head, vote by odds",
        kind="vote",
        scorer="head",
        rule="odds",
        needs_labels=True,
    ),
    Method(name="oracle", label="Any of n (oracle)", kind="oracle", rule="any"),
)  # fmt: skip


def methods(temperature: float | None, beta: float | None = None) -> tuple[Method, ...]:
    """Return all methods, CISC with the tuned temperature, or with 1, and the head's vote with its β."""
    changes: dict[str, dict[str, Any]] = {}
    if temperature is not None:
        changes["cisc"] = {
            "label": f"CISC, T = {temperature:.2g}", "rule": cisc(temperature), "needs_labels": True,
        }  # fmt: skip
    if beta is not None:
        changes["head_vote"] = {"label": f"This head, vote, β = {format_beta(beta)}"}
    return tuple(replace(method, **changes.get(method.name, {})) for method in METHODS)


def format_beta(beta: float) -> str:
    """Return β as people read it."""
    return "∞" if beta == np.inf else f"{beta:g}"


class DrawnSubsets:
    """Answers and scores of S draws of n completions for B questions; all arrays are (B, S, n).

    Completions for which ``finished`` is False were aborted in this draw.
    """

    def __init__(self, pools: StackedPools, draws: I64, *, finished: Bool | None = None) -> None:
        self._pools, self._draws = pools, draws
        self.complete: Bool = pools.complete[:, draws] if finished is None else pools.complete[:, draws] & finished
        drawn_answers = np.where(self.complete, pools.answers[:, draws], -1)
        if pools.auto_answer:  # like answers.read: no votes if fewer than half of the texts have an answer
            n_texts = (pools.has_text[:, draws] & self.complete).sum(axis=-1)
            too_few = 2 * (drawn_answers >= 0).sum(axis=-1) < n_texts
            drawn_answers = np.where(too_few[..., None], -1, drawn_answers)
        self.answers: I64 = drawn_answers
        # (B, S) True if any completion votes.
        self.has_votes = np.asarray((drawn_answers >= 0).any(axis=-1))
        self._head_scores: F64 | None = None
        if pools.agreement is not None:
            offsets = pools.agreement.score_offsets(drawn_answers, self.complete)
            self._head_scores = pools.scores["head"][:, draws] + offsets

    def scores(self, name: str) -> F64:
        """Return a scorer's scores, or a verifier's judgements; NaN without."""
        if name == NO_SCORE:
            return np.zeros(self.complete.shape)
        if name in self._pools.judgements:
            return self.judgements(name)
        if name == "head" and self._head_scores is not None:
            return _round_to_float32(self._head_scores)
        return self._pools.scores[name][:, self._draws]

    def scores_or_lengths(self, name: str) -> F64:
        """Return a scorer's scores; minus the texts' lengths for draws without any, whose ties go to the shortest."""
        scores = self.scores(name)
        unscored = np.isnan(np.where(self.complete, scores, np.nan)).all(axis=-1, keepdims=True)
        return np.where(unscored & self.has_votes[..., None], self.scores("shortest"), scores)

    def judgements(self, verifier: str) -> F64:
        """Return a verifier's judgements of the answers, 0..1, NaN if unknown."""
        return self._pools.judgements[verifier][:, self._draws]

    @property
    def tokens(self) -> I64:
        """Lengths in tokens."""
        return self._pools.tokens[:, self._draws]

    @property
    def beta(self) -> float:
        """Exponent of the weights of the head's votes."""
        return self._pools.beta

    def probabilities(self, name: str) -> F64 | None:
        """Return a scorer's probabilities, or a verifier's judgements, NaN without a score; None if it has none."""
        if name in self._pools.judgements:
            return self.judgements(name)
        if name == "head" and self._head_scores is not None and self._pools.agreement is not None:
            calibration = self._pools.agreement.calibration
            return None if calibration is None else _round_to_float32(calibration(self._head_scores))
        return self._pools.probabilities[name][:, self._draws] if name in self._pools.probabilities else None


def _round_to_float32(values: F64) -> F64:
    """Round like ``scorers.score``."""
    return values.astype(np.float32).astype(np.float64)


def choose_winners(method: Method, subsets: DrawnSubsets) -> I64:
    """Return the positions (B, S) of the winners, 0..n-1."""
    if method.verifier is not None and method.exponent > 0:
        vote_winners = choose_winners(replace(method, verifier=None), subsets)
        votes = judge_votes(method, subsets, vote_winners)
        if method.exponent == np.inf:
            return votes.choose_by_judgement().reshape(vote_winners.shape)
        return votes.choose(method.exponent, missing=method.missing).reshape(vote_winners.shape)
    scores = subsets.scores(method.scorer)
    if method.rule == "default" and method.scorer != "head":
        scores = subsets.scores_or_lengths(method.scorer)
    best_winners = best(subsets.answers, _mask_incomplete(scores, subsets.complete))
    if method.rule == "best":
        return best_winners
    if method.rule in ("default", "probability", "odds"):
        vote_winners = vote(subsets.answers, scores, weigh(method, subsets))
    else:
        rule = RULES[method.rule] if isinstance(method.rule, str) else method.rule
        vote_winners = rule(subsets.answers, scores)
    return np.where(subsets.has_votes, vote_winners, best_winners)  # without votes, as "best"


def weigh(method: Method, subsets: DrawnSubsets) -> F64:
    """Return the weights (B, S, n) of the votes of a method whose rule is "default", "probability" or "odds"."""
    scores, voters = subsets.scores(method.scorer), subsets.answers >= 0
    if method.scorer == NO_HEAD_SCORER:
        weights, _ = label_free_weights(scores, subsets.tokens, voters)
        return weights
    probabilities = subsets.probabilities(method.scorer)
    if probabilities is None:
        return np.ones(scores.shape)
    if method.rule == "probability":
        return clamp_weights(probabilities)
    return odds_weights(probabilities, scores, voters, subsets.beta if method.rule == "default" else 1.0)


def judge_votes(method: Method, subsets: DrawnSubsets, vote_winners: I64) -> JudgedVotes:
    """Return the votes and judgements of all draws, for a method with a verifier and the winners (B, S) without it."""
    n = subsets.complete.shape[-1]

    def rows(values: Any) -> Any:
        return values.reshape(-1, n)

    probabilities = subsets.probabilities(method.scorer)
    return JudgedVotes.create(
        rows(subsets.answers),
        rows(subsets.complete | ~subsets.complete.any(axis=-1, keepdims=True)),
        rows(subsets.scores(method.scorer)),
        rows(subsets.judgements(method.verifier or "")),
        vote_winners=vote_winners.reshape(-1),
        vote_weights=rows(weigh(method, subsets)),
        probabilities=None if probabilities is None else rows(probabilities),
        beta=subsets.beta,
    )


def _mask_incomplete(scores: F64, complete: Bool) -> F64:
    """Mask scores: incomplete completions win only if none is complete, unscored ones only if none has a score."""
    if complete.all():
        return scores
    any_complete = complete.any(axis=-1, keepdims=True)
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    return np.where(any_complete, np.where(complete, ranked, np.nan), scores)


def count_judged_answers(method: Method, pools: StackedPools, draws: I64) -> F64:
    """Return the mean number of answers per draw (S, n) that a method's verifier judges, (Q,)."""
    counts = []
    for block in question_blocks(len(pools.labels), draws):
        subsets = DrawnSubsets(pools.slice_questions(block), draws)
        votes = judge_votes(method, subsets, np.zeros(subsets.has_votes.shape, np.int64))
        counts.append(votes.count_judged().reshape(subsets.has_votes.shape).mean(axis=1))
    return np.concatenate(counts)


def question_blocks(questions: int, draws: I64) -> Iterator[slice]:
    """Yield slices of the questions for which all draws together stay small."""
    size = max(1, _MAX_BLOCK_VALUES // draws.size)
    for start in range(0, questions, size):
        yield slice(start, start + size)


def accuracy_by_method(methods: Sequence[Method], pools: StackedPools, draws: I64) -> dict[str, F64]:
    """Return for each method the share of draws (S, n) with a right winner, (Q,); without a label it is not right.

    A label may be the probability that the completion is right; the share is then the expected one.
    """
    correct = np.nan_to_num(pools.labels)
    shares = {method.name: np.empty(len(correct)) for method in methods}
    rows = np.arange(len(draws))
    for block in question_blocks(len(correct), draws):
        subsets = DrawnSubsets(pools.slice_questions(block), draws)
        for method in methods:
            # Without a choice to make, the share needs no winners.
            if method.rule == "any":
                share = correct[block][:, draws].max(axis=-1).mean(axis=1)
            elif method.rule == "random":
                share = correct[block].mean(axis=1)
            else:
                winners = draws[rows, choose_winners(method, subsets)]
                share = np.take_along_axis(correct[block], winners, axis=1).mean(axis=1)
            shares[method.name][block] = share
    return shares
