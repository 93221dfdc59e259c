"""Stopping rules for one completion that is good enough: answers need not be comparable."""

from __future__ import annotations

import math

import numpy as np

from swift_client.features.segments import F64
from swift_client.stopping.votes import Verdicts, Votes
from swift_client.stopping.weighted_rules import continue_sampling


def accept(votes: Votes, *, threshold: float) -> Verdicts:
    """Stop at the first completion that is right with probability ``threshold``."""
    if votes.probabilities is None:
        return continue_sampling(votes)
    best = _row_max(votes.probabilities)
    return Verdicts(best >= threshold, best)


def reservation(votes: Votes, *, cost: float, least: int) -> Verdicts:
    """Stop where a further completion is not expected to raise the best score by what it costs.

    Weitzman's rule for boxes that are all alike: open the next one while E[(v - best)+] > ``cost``. v is taken as
    normal with mean and deviation of the scores so far, of which there must be ``least``. Scores are the probabilities
    where there are any, which end at 1, and ``cost`` is in their unit: 0.01 is one point of being right.
    """
    values = votes.scores if votes.probabilities is None else votes.probabilities
    if values is None:
        return continue_sampling(votes)
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    enough = count >= max(least, 2)
    kept = np.where(known, values, 0.0)
    mean = kept.sum(axis=1) / np.maximum(count, 1)
    spread = np.where(known, values - mean[:, None], 0.0)
    deviation = np.sqrt((spread**2).sum(axis=1) / np.maximum(count - 1, 1))
    best = np.where(enough, _row_max(values), 0.0)
    gain = _expected_excess(mean, deviation, best)
    if votes.probabilities is not None:
        gain -= _expected_excess(mean, deviation, np.ones(len(mean)))  # E[(min(v, 1) - best)+]
    return Verdicts(enough & (gain <= cost), np.where(enough & (votes.probabilities is not None), best, np.nan))


def _row_max(values: F64) -> F64:
    """Return the largest of each row that is not NaN, (R,); NaN where all are."""
    best = np.where(np.isnan(values), -np.inf, values).max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(best), np.nan, best)


def _expected_excess(mean: F64, deviation: F64, threshold: F64) -> F64:
    """Return E[(v - bar)+] for normal v, (R,); without deviation v is the mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (threshold - mean) / deviation
    above = np.array([math.erfc(each / math.sqrt(2)) / 2 for each in z.tolist()])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    excess = deviation * density - (threshold - mean) * above
    return np.where(deviation > 0, excess, np.maximum(mean - threshold, 0.0))
