"""Does a stated distribution fit the tokens that were drawn from it? Presence of logprobs is not meaning.

Each token falls into one of its list's categories: a listed rank, or "none of these" with the mass that the list leaves
out. Where the list is what the token was drawn from, the log of its category's probability has the mean Σ p log p and a
variance that the list states itself, so that sums over many tokens can be held against it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swift_client.features.segments import F64
from swift_client.logprobs.clean import FLOOR
from swift_client.types import F32, Bool

_TOLERANCE = 1e-4
"""Nats; a chosen token this close to a listed one is that one."""


class FitTest(NamedTuple):
    """How far the drawn tokens' mean log score lies from what their lists promise."""

    token_count: int
    score: float
    """Nats a token: mean log probability of the categories that came."""
    expected: float
    """Nats a token: what it would be, on average, if the lists were true."""
    std: float
    """Nats a token: standard deviation of ``score`` if the lists were true; 0 where they leave no choice."""

    @property
    def z(self) -> float:
        """Distance in standard deviations; negative where less likely tokens came than the lists promise."""
        return (self.score - self.expected) / max(self.std, 1e-9)


def run_fit_test(chosen_logprobs: F32, listed_logprobs: F32, censored: Bool) -> FitTest:
    """Hold T drawn tokens against their lists.

    Args:
        chosen: (T,) nats, logprob of each drawn token.
        listed: (T, K) nats, -inf where nothing was listed.
        censored: (T,) whether the drawn token's own logprob was hidden, and so stands outside its list.
    """
    score, p, surprise = _categories(chosen_logprobs, listed_logprobs, censored)
    count = len(score)
    if not count:
        return FitTest(0, 0.0, 0.0, 0.0)
    mean = (p * surprise).sum(axis=1)
    variance = np.maximum((p * surprise**2).sum(axis=1) - mean**2, 0.0)
    return FitTest(count, float(score.mean()), float(mean.mean()), float(np.sqrt(variance.sum())) / count)


def p_values(
    chosen_logprobs: F32, listed_logprobs: F32, censored: Bool, *, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Return how often true lists give a log score as low, and as high, as the one that came.

    For few tokens, where :attr:`Fit.z` is no normal number: both shares are counted over ``draws`` replays of the T
    tokens from their own lists, the real one among them, so that neither is 0. Arguments as in :func:`fit`.
    """
    score, p, surprise = _categories(chosen_logprobs, listed_logprobs, censored)
    dice = np.random.default_rng(seed).random((draws, len(score), 1))
    ranks = (dice > p.cumsum(axis=1)[:, :-1]).sum(axis=2)
    totals = np.take_along_axis(surprise[None], ranks[..., None], axis=2).sum(axis=(1, 2))
    real = score.sum()
    low, high = np.count_nonzero(totals <= real + _TOLERANCE), np.count_nonzero(totals >= real - _TOLERANCE)
    return (low + 1) / (draws + 1), (high + 1) / (draws + 1)


def _categories(chosen_logprobs: F32, listed_logprobs: F32, censored: Bool) -> tuple[F64, F64, F64]:
    """Return, for tokens with a list, their category's logprob (S,), and all categories' p and log p, (S, K + 1)."""
    has_list = (listed_logprobs > -np.inf).any(axis=1)
    drawn, lists, hidden = (
        chosen_logprobs[has_list].astype(np.float64),
        listed_logprobs[has_list].astype(np.float64),
        censored[has_list],
    )
    p = np.exp(lists)
    rest = np.clip(1.0 - p.sum(axis=1), np.exp(FLOOR), 1.0)
    inside = (np.abs(lists - drawn[:, None]) <= _TOLERANCE).any(axis=1) & ~hidden
    score = np.where(inside, drawn, np.log(rest))
    p = np.column_stack([p, rest])
    p /= p.sum(axis=1, keepdims=True)
    return score, p, np.log(np.maximum(p, np.exp(FLOOR)))
