"""Stopping rules that weigh votes by what a head says, or by 1 each without one."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.stopping.votes import Ballots, Verdicts, top_two

_ROUNDING = 1e-9
"""Sums of weights may differ by as much from one order of adding to the other."""


def posterior(ballots: Ballots, *, threshold: float, least: int, clip: float) -> Verdicts:
    """Stop where an answer is right with probability ``threshold``, from ``least`` votes on.

    Each vote with probability c, clipped to ``clip`` .. 1 - ``clip``, is right with c and else names any other of the
    K - 1 answers alike; K counts the answers given and one more for all others. An answer's posterior odds against
    that one are then the product of (K - 1) c / (1 - c) over its votes. A vote without a probability says nothing.
    """
    if ballots.probabilities is None:
        return never(ballots)
    leading = np.where(ballots.voters > 0, _shares(ballots, clip).max(axis=1, initial=0), np.nan)
    return Verdicts((leading >= threshold) & (ballots.voters >= least), leading)


def voted_posterior(ballots: Ballots, *, threshold: float, least: int, clip: float) -> Verdicts:
    """Stop as :func:`posterior`, but by the probability of the answer that the weighted vote would choose now.

    The most probable answer need not be it: two votes of .6 outweigh one of .9, whose odds are greater. Stopping on
    the one and choosing the other is wrong more often than either.
    """
    if ballots.probabilities is None:
        return never(ballots)
    totals = ballots.totals(ballots.weights)
    best = totals.max(axis=1, initial=0, keepdims=True) - _ROUNDING
    # Of answers that weigh the same the score decides, which is not known here: the least probable one is safe.
    leading = np.where(totals >= best, _shares(ballots, clip), np.inf).min(axis=1, initial=np.inf)
    leading = np.where(ballots.voters > 0, leading, np.nan)
    return Verdicts((leading >= threshold) & (ballots.voters >= least), leading)


def _shares(ballots: Ballots, clip: float) -> F64:
    """Return the posterior of each answer, (R, A); what is missing to 1 is that of all other answers."""
    logs = np.where(ballots.totals() > 0, ballots.totals(log_odds(ballots, clip=clip)), -np.inf)
    logs = np.concatenate([logs, np.zeros((len(logs), 1))], axis=1)
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: F64 = odds[:, :-1] / odds.sum(axis=1, keepdims=True)
    return shares


def log_odds(ballots: Ballots, *, clip: float) -> F64:
    """Return what each vote adds to the log odds of its answer in :func:`posterior`, (R, t); 0 where it says nothing.

    The answer of the greatest sum is the most probable one. Without probabilities each vote adds 1.
    """
    if ballots.probabilities is None:
        return ballots.weights
    sure = np.clip(ballots.probabilities, clip, 1 - clip)
    given = (ballots.totals() > 0).sum(axis=1, keepdims=True)
    odds = np.log(sure) - np.log1p(-sure) + np.log(np.maximum(given, 1))
    return np.where(np.isnan(odds) | (ballots.answers < 0), 0.0, odds)


def consensus(ballots: Ballots, *, share: float, least: int) -> Verdicts:
    """Stop where one answer holds ``share`` of all weight, from ``least`` votes on."""
    totals = ballots.totals(ballots.weights)
    with np.errstate(invalid="ignore"):
        held = totals.max(axis=1, initial=0) / totals.sum(axis=1)
    return Verdicts((held >= share) & (ballots.voters >= least), held)


def cannot_change(ballots: Ballots) -> Verdicts:
    """Stop where no completion to come can change the answer that the vote over all n gives.

    None weighs more than 1, so the leader must be ahead by more than there are to come. At least half of all n must
    have voted as well: where fewer answers can be read, ``answers.read`` may give up the vote. Holds for weights that
    stay: a head with the term "agreement" still changes those of earlier completions.
    """
    first, second = top_two(ballots.totals(ballots.weights))
    decided = (first - second > ballots.n - ballots.seen + _ROUNDING) & (2 * ballots.voters >= ballots.n)
    return Verdicts(decided, np.where(decided, 1.0, np.nan))


def never(ballots: Ballots) -> Verdicts:
    """Go on: what the rule reads is not there."""
    unknown: F64 = np.full(len(ballots.answers), np.nan)
    return Verdicts(np.zeros(len(ballots.answers), np.bool_), unknown)
