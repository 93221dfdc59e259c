"""The posterior of distinct answers from the weights of their votes and the judgements of a verifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.features.segments import F64

# The distance that a judgement keeps from 0 and 1, so that no verdict outweighs every vote.
MIN_JUDGEMENT = 0.02

# Largest factor by which one answer's odds can gain on another's: a weight further behind cannot win.
MAX_ODDS_RATIO = ((1 - MIN_JUDGEMENT) / MIN_JUDGEMENT) ** 2


def judgement_log_odds(judgements: Sequence[float | None]) -> F64:
    """Return the log odds of judgements (A,), clipped to MIN_JUDGEMENT .. 1 - MIN_JUDGEMENT.

    An answer without a judgement gets the mean of the others, so that none wins or loses because a call failed; all
    are 0 if there is no judgement.
    """
    values = np.array([np.nan if value is None else value for value in judgements], np.float64)
    clipped = np.clip(values, MIN_JUDGEMENT, 1 - MIN_JUDGEMENT)
    log_odds = np.log(clipped / (1 - clipped))
    judged = ~np.isnan(log_odds)
    return np.where(judged, log_odds, log_odds[judged].mean() if judged.any() else 0.0)


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
