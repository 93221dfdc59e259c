"""Goodness-of-fit test of stated distributions against the tokens sampled from them.

Logprobs may be present but wrong. Each token falls into one of its list's categories: a listed rank, or "other"
with the mass outside the list. If the token was sampled from the list, the log probability of its category has the
mean Σ p log p and a variance that follows from the list. Sums over many tokens can therefore be tested.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swift_client.features.segments import F64
from swift_client.logprobs.clean import FLOOR
from swift_client.types import F32, Bool

# Nats; a chosen token whose logprob is this close to a listed one is taken for that one.
_TOLERANCE = 1e-4


class FitTest(NamedTuple):
    """The mean log score of the sampled tokens, compared with its expectation under their lists."""

    token_count: int
    score: float  # nats per token: mean log probability of the observed categories
    expected: float  # nats per token: expected ``score`` if the lists are true
    # Nats per token: standard deviation of ``score`` if the lists are true; 0 if they are certain.
    std: float

    @property
    def z(self) -> float:
        """Deviation in standard deviations; negative if the tokens are less likely than the lists say."""
        return (self.score - self.expected) / max(self.std, 1e-9)


def run_fit_test(chosen_logprobs: F32, listed_logprobs: F32, censored: Bool) -> FitTest:
    """Test T sampled tokens against their lists.

    Args:
        chosen_logprobs: (T,) nats, logprob of each sampled token.
        listed_logprobs: (T, K) nats, -inf where nothing was listed.
        censored: (T,) whether the sampled token's logprob was hidden, so that it is outside its list.
    """
    score, p, surprise = _categories(chosen_logprobs, listed_logprobs, censored)
    token_count = len(score)
    if not token_count:
        return FitTest(0, 0.0, 0.0, 0.0)
    mean = (p * surprise).sum(axis=1)
    variance = np.maximum((p * surprise**2).sum(axis=1) - mean**2, 0.0)
    return FitTest(token_count, float(score.mean()), float(mean.mean()), float(np.sqrt(variance.sum())) / token_count)


def p_values(
    chosen_logprobs: F32, listed_logprobs: F32, censored: Bool, *, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Return the probabilities that true lists give a log score as low, and as high, as the observed one.

    For few tokens, when ``FitTest.z`` is not normally distributed. Both are Monte Carlo estimates: shares of
    ``draws`` resamples of the T tokens from their lists and the observed one, so neither is 0. The other arguments are
    those of ``run_fit_test()``.
    """
    score, p, surprise = _categories(chosen_logprobs, listed_logprobs, censored)
    uniform = np.random.default_rng(seed).random((draws, len(score), 1))
    ranks = (uniform > p.cumsum(axis=1)[:, :-1]).sum(axis=2)
    totals = np.take_along_axis(surprise[None], ranks[..., None], axis=2).sum(axis=(1, 2))
    observed = score.sum()
    n_low = np.count_nonzero(totals <= observed + _TOLERANCE)
    n_high = np.count_nonzero(totals >= observed - _TOLERANCE)
    return (n_low + 1) / (draws + 1), (n_high + 1) / (draws + 1)


def _categories(chosen_logprobs: F32, listed_logprobs: F32, censored: Bool) -> tuple[F64, F64, F64]:
    """Return, for the S tokens with a list, their category's logprob (S,) and all categories' p and log p (floored).

    Both arrays over categories have shape (S, K + 1).
    """
    has_list = (listed_logprobs > -np.inf).any(axis=1)
    chosen_with_list = chosen_logprobs[has_list].astype(np.float64)
    lists = listed_logprobs[has_list].astype(np.float64)
    p = np.exp(lists)
    tail_mass = np.clip(1.0 - p.sum(axis=1), np.exp(FLOOR), 1.0)
    is_listed = (np.abs(lists - chosen_with_list[:, None]) <= _TOLERANCE).any(axis=1) & ~censored[has_list]
    score = np.where(is_listed, chosen_with_list, np.log(tail_mass))
    p = np.column_stack([p, tail_mass])
    p /= p.sum(axis=1, keepdims=True)
    return score, p, np.log(np.maximum(p, np.exp(FLOOR)))
