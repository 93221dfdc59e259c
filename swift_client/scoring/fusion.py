"""Fusion of two scores per completion: ours and an external one, such as a reward model's.

The two scores have different units, so only ranks within the question, or values scaled between its lowest and highest
score, are used. Every fusion returns values in 0..1, higher is better, which may weigh votes. A completion with
only one of the two scores gets that one, scaled; without any it gets NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.validation import parse_spec


@dataclass(frozen=True)
class Fusion:
    """One row of FUSIONS."""

    # (our scores (N,), external scores (N,), share of ours 0..1) to (N,); no score may be missing.
    function: Callable[[F64, F64, float], F64]
    doc: str


def rank_normalize(scores: F64) -> F64:
    """Return ranks scaled to 0..1: the best of N scores gets 1, the worst 1 / N; ties share the better rank.

    NaN stays NaN and does not count in N.
    """
    has_score = ~np.isnan(scores)
    rising = np.sort(scores[has_score])
    n_better = len(rising) - np.searchsorted(rising, scores, side="right")
    return np.where(has_score, 1.0 - n_better / max(1, len(rising)), np.nan)


def min_max(scores: F64) -> F64:
    """Scale scores linearly so that the lowest is 0 and the highest 1; equal scores are all 1. NaN stays NaN."""
    finite = scores[~np.isnan(scores)]
    if not len(finite):
        return scores
    # Halved first, because the difference of two huge numbers is infinite.
    low, high = finite.min() / 2, finite.max() / 2
    if low == high or not np.isfinite(high - low):
        return rank_normalize(scores) if low != high else np.where(np.isnan(scores), np.nan, 1.0)
    return np.asarray((scores / 2 - low) / (high - low))


def _worst_rank(scores: F64, external_scores: F64, share: float) -> F64:
    return np.minimum(rank_normalize(scores), rank_normalize(external_scores))


def _mean_rank(scores: F64, external_scores: F64, share: float) -> F64:
    return np.asarray((rank_normalize(scores) + rank_normalize(external_scores)) / 2)


def _mean(scores: F64, external_scores: F64, share: float) -> F64:
    return np.asarray((min_max(scores) + min_max(external_scores)) / 2)


def _weighted(scores: F64, external_scores: F64, share: float) -> F64:
    return np.asarray(share * min_max(scores) + (1 - share) * min_max(external_scores))


# The fusions by name; the two marked SWIFT's are from its evaluation code (arXiv 2505.12225, eval/bon_eval.py).
FUSIONS: Mapping[str, Fusion] = MappingProxyType(
    {
        "worst_rank": Fusion(_worst_rank, "the worse of the two ranks (SWIFT's rank selection)"),
        "mean_rank": Fusion(_mean_rank, "the mean of the two ranks"),
        "mean": Fusion(_mean, "the mean of the two scores, each scaled from lowest 0 to highest 1 (SWIFT's scaling)"),
        "weighted": Fusion(
            _weighted, "the same with the weight share for ours: weighted:share=0.3; learnt by learn_share"
        ),
    }
)


def parse_fusion(spec: str) -> tuple[Fusion, float]:
    """Return the row for "worst_rank" or "weighted:share=0.3", and the share of our scores (default: one half).

    Raises:
        ConfigurationError: there is no such fusion or setting.
    """
    name, settings = parse_spec(spec, example="weighted:share=0.3")
    if name not in FUSIONS:
        raise ConfigurationError(f"{name!r} is not a fusion.", hint=f"Known: {', '.join(FUSIONS)}.")
    allowed = {"share"} if name == "weighted" else set()
    if unknown := settings.keys() - allowed:
        raise ConfigurationError(
            f"The fusion {name} has no setting {min(unknown)!r}.", hint='Only "weighted" has one: "weighted:share=0.3".'
        )
    share = settings.get("share", 0.5)
    if not 0 <= share <= 1:
        raise ConfigurationError(f"share of the fusion {name} must be from 0 to 1, not {share!r}.")
    return FUSIONS[name], share


def fuse(scores: F64, external_scores: F64, spec: str = "mean") -> F64:
    """Fuse two scores per completion, (N,) each with NaN for a missing one, into (N,) values in 0..1.

    Raises:
        ConfigurationError: ``spec`` is not a fusion.
        ValueError: the lengths differ.
    """
    row, share = parse_fusion(spec)
    if scores.shape != external_scores.shape:
        raise ValueError(f"{len(scores)} scores cannot be fused with {len(external_scores)}.")
    missing = np.isnan(scores)
    both = ~missing & ~np.isnan(external_scores)
    fused = np.where(missing, min_max(external_scores), min_max(scores))
    fused[both] = row.function(scores[both], external_scores[both], share)
    return fused


def learn_share(scores: list[F64], external_scores: list[F64], labels: list[F64], *, grid: int = 21) -> float:
    """Return the share of our scores with which "weighted" picks a correct completion most often.

    Args:
        scores: our scores per question, (N,) each.
        external_scores: the external scores per question, (N,) each.
        labels: 1 correct, 0 wrong, NaN unknown, (N,) per question.
        grid: number of shares to try, from 0 to 1.

    Returns:
        Of equally good shares the one nearest to one half, the safest on other questions; one half without labels.
    """
    shares = np.linspace(0.0, 1.0, grid)
    n_correct = np.zeros(grid)
    for ours, external, label in zip(scores, external_scores, labels, strict=True):
        for index, share in enumerate(shares):
            fused = fuse(ours, external, f"weighted:share={share:.6f}")
            best = int(np.nanargmax(fused)) if not np.isnan(fused).all() else 0
            n_correct[index] += np.nan_to_num(label[best])
    best_shares = shares[n_correct == n_correct.max()]
    return float(best_shares[np.abs(best_shares - 0.5).argmin()])
