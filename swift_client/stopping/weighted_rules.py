"""Stopping rules that weigh votes by what a head says, or by 1 each without one."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.stopping.votes import Verdicts, Votes, top_two

_ROUNDING = 1e-9
"""Sums of weights may differ by as much from one order of adding to the other."""


def posterior(votes: Votes, *, threshold: float, least: int, clip: float) -> Verdicts:
    """Stop where an answer is right with probability ``threshold``, from ``least`` votes on.

    Each vote with probability c, clipped to ``clip`` .. 1 - ``clip``, is right with c and else names any other of the
    K - 1 answers alike; K counts the answers given and one more for all others. An answer's posterior odds against
    that one are then the product of (K - 1) c / (1 - c) over its votes. A vote without a probability says nothing.
    """
    if votes.probabilities is None:
        return continue_sampling(votes)
    leading = np.where(votes.vote_counts > 0, _answer_posteriors(votes, clip).max(axis=1, initial=0), np.nan)
    return Verdicts((leading >= threshold) & (votes.vote_counts >= least), leading)


def vote_winner_posterior(votes: Votes, *, threshold: float, least: int, clip: float) -> Verdicts:
    """Stop as :func:`posterior`, but by the probability of the answer that the weighted vote would choose now.

    The most probable answer need not be it: two votes of .6 outweigh one of .9, whose odds are greater. Stopping on
    the one and choosing the other is wrong more often than either.
    """
    if votes.probabilities is None:
        return continue_sampling(votes)
    totals = votes.totals(votes.weights)
    best = totals.max(axis=1, initial=0, keepdims=True) - _ROUNDING
    # Of answers that weigh the same the score decides, which is not known here: the least probable one is safe.
    leading = np.where(totals >= best, _answer_posteriors(votes, clip), np.inf).min(axis=1, initial=np.inf)
    leading = np.where(votes.vote_counts > 0, leading, np.nan)
    return Verdicts((leading >= threshold) & (votes.vote_counts >= least), leading)


def _answer_posteriors(votes: Votes, clip: float) -> F64:
    """Return the posterior of each answer, (R, A); what is missing to 1 is that of all other answers."""
    logs = np.where(votes.totals() > 0, votes.totals(vote_log_odds(votes, clip=clip)), -np.inf)
    logs = np.concatenate([logs, np.zeros((len(logs), 1))], axis=1)
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: F64 = odds[:, :-1] / odds.sum(axis=1, keepdims=True)
    return shares


def vote_log_odds(votes: Votes, *, clip: float) -> F64:
    """Return what each vote adds to the log odds of its answer in :func:`posterior`, (R, t); 0 where it says nothing.

    The answer of the greatest sum is the most probable one. Without probabilities each vote adds 1.
    """
    if votes.probabilities is None:
        return votes.weights
    sure = np.clip(votes.probabilities, clip, 1 - clip)
    given = (votes.totals() > 0).sum(axis=1, keepdims=True)
    odds = np.log(sure) - np.log1p(-sure) + np.log(np.maximum(given, 1))
    return np.where(np.isnan(odds) | (votes.answers < 0), 0.0, odds)


def consensus(votes: Votes, *, share: float, least: int) -> Verdicts:
    """Stop where one answer holds ``share`` of all weight, from ``least`` votes on."""
    totals = votes.totals(votes.weights)
    with np.errstate(invalid="ignore"):
        held = totals.max(axis=1, initial=0) / totals.sum(axis=1)
    return Verdicts((held >= share) & (votes.vote_counts >= least), held)


def cannot_change(votes: Votes) -> Verdicts:
    """Stop where no completion to come can change the answer that the vote over all n gives.

    None weighs more than 1, so the leader must be ahead by more than there are to come. At least half of all n must
    have voted as well: where fewer answers can be read, ``answers.read`` may give up the vote. Holds for weights that
    stay: a head with the term "agreement" still changes those of earlier completions.
    """
    first, second = top_two(votes.totals(votes.weights))
    decided = (first - second > votes.n - votes.n_seen + _ROUNDING) & (2 * votes.vote_counts >= votes.n)
    return Verdicts(decided, np.where(decided, 1.0, np.nan))


def continue_sampling(votes: Votes) -> Verdicts:
    """Go on: what the rule reads is not there."""
    unknown: F64 = np.full(len(votes.answers), np.nan)
    return Verdicts(np.zeros(len(votes.answers), np.bool_), unknown)
