"""The posterior of distinct answers from the weights of their votes and the judgements of a verifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.features.segments import F64
from swift_client.models.verifier_term import VerifierTerm

# The distance that a judgement keeps from 0 and 1, so that no verdict outweighs every vote.
MIN_JUDGEMENT = 0.02

# Thresholds of doubt: shares of the leading answer in the posterior, and of an answer in the leading one's. Measured by
# benchmarks/verify.py: judged in rounds, they keep nearly all of what judging all answers gains.
DOUBT_BELOW = 0.9  # votes alone leave less than this in doubt
SURE_FROM = 0.65  # once the leading answer is judged, nothing more is asked from here on
MIN_RELATIVE_SHARE = 0.1  # answers with less than this part of the leading one's share are not judged

# Largest factor by which one answer's odds can gain on another's: a weight further behind cannot win.
MAX_ODDS_RATIO = ((1 - MIN_JUDGEMENT) / MIN_JUDGEMENT) ** 2


def judgement_log_odds(judgements: Sequence[float | None], *, missing: float | None = None) -> F64:
    """Return the log odds of judgements (A,), clipped to MIN_JUDGEMENT .. 1 - MIN_JUDGEMENT.

    An answer without a judgement gets ``missing``, by default the mean of the others, so that none wins or loses
    because a call failed; all are 0 if there is no judgement.
    """
    values = np.array([np.nan if value is None else value for value in judgements], np.float64)
    clipped = np.clip(values, MIN_JUDGEMENT, 1 - MIN_JUDGEMENT)
    log_odds = np.log(clipped / (1 - clipped))
    judged = ~np.isnan(log_odds)
    if missing is None:
        missing = float(log_odds[judged].mean()) if judged.any() else 0.0
    return np.where(judged, log_odds, missing)


def posterior(weights: F64, log_odds: F64 | None = None, *, exponent: float = 1.0, rest: float = 0.0) -> F64:
    """Return the probability of each answer (A,): its weight times its odds to the power of ``exponent``, as a share.

    Args:
        weights: (A,) positive sums of the weights of votes.
        log_odds: (A,) log odds of the judgements; None: not judged.
        exponent: how much a judgement counts; 0 leaves the votes alone.
        rest: weight of all answers that nobody gave: 1 if the weights are odds, else 0.
    """
    logs = np.log(weights) + (0.0 if log_odds is None else exponent * log_odds)
    highest = logs.max()
    terms = np.exp(logs - highest)
    return np.asarray(terms / (terms.sum() + rest * np.exp(-highest)))


def next_to_judge(
    weights: F64, judgements: Sequence[float | None], tried: Sequence[bool], *, term: VerifierTerm, size: int
) -> list[int]:
    """Return up to ``size`` answers whose judgements may change the choice most; none if the leading one is sure.

    Args:
        weights: (A,) odds of the answers by their votes.
        judgements: (A,) judgements so far.
        tried: (A,) True for answers that were judged, or could not be.
        term: what the head has learnt about the verifier; its mean stands for the missing judgements.
        size: largest number of answers.
    """
    log_odds = judgement_log_odds(judgements, missing=term.mean_log_odds)
    shares = posterior(weights, log_odds, exponent=term.exponent)
    leader = int(shares.argmax())
    if tried[leader] and shares[leader] >= SURE_FROM:
        return []
    open_answers = [
        i for i, share in enumerate(shares) if not tried[i] and share >= MIN_RELATIVE_SHARE * shares[leader]
    ]
    return sorted(open_answers, key=lambda i: -shares[i])[:size]
