"""Two scores a completion become one: a head's and an external one's, such as a reward model's.

Both scores have units of their own, so only their order within the question, or their place between its lowest and
highest, is used. Every fusion returns values in 0..1, higher is better, which may weigh votes. A completion that has
only one of the two scores is placed by that one; without any it has NaN.
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

    function: Callable[[F64, F64, float], F64]
    """(ours (N,), theirs (N,), the share of ours 0..1) to (N,), for scores of which none is missing."""
    doc: str


def rank_normalize(scores: F64) -> F64:
    """Return ranks as values in 0..1: the best of N gets 1, the worst of N different ones 1 / N; ties share the better.

    NaN stays NaN, and N counts the others.
    """
    known = ~np.isnan(scores)
    ordered = np.sort(scores[known])
    above = len(ordered) - np.searchsorted(ordered, scores, side="right")
    return np.where(known, 1.0 - above / max(1, len(ordered)), np.nan)


def min_max(scores: F64) -> F64:
    """Return each score's place between the lowest (0) and the highest (1); equal scores are all 1. NaN stays NaN."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return scores
    # Halves first, since the difference of two huge numbers is infinite.
    low, high = known.min() / 2, known.max() / 2
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


FUSIONS: Mapping[str, Fusion] = MappingProxyType(
    {
        "worst_rank": Fusion(_worst_rank, "the worse of the two ranks (SWIFT's rank selection)"),
        "mean_rank": Fusion(_mean_rank, "the mean of the two ranks"),
        "mean": Fusion(_mean, "the mean of the two places between lowest and highest (SWIFT's scaling)"),
        "weighted": Fusion(_weighted, "the same, ours weighing share: weighted:share=0.3; learnt by learn_share"),
    }
)
"""One row for each way; SWIFT's own two are those of its evaluation code (arXiv 2505.12225, eval/bon_eval.py)."""


def parse_fusion(spec: str) -> tuple[Fusion, float]:
    """Return the row for "worst_rank" or "weighted:share=0.3", and the share of our scores (default: one half).

    Raises:
        ConfigurationError: there is no such fusion or setting.
    """
    name, settings = parse_spec(spec, example="weighted:share=0.3")
    if name not in FUSIONS:
        raise ConfigurationError(f"There is no fusion {name!r}.", hint=f"Known: {', '.join(FUSIONS)}.")
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
    """Return one value a completion, (N,) in 0..1, for two scores (N,) each, NaN where one is missing.

    Raises:
        ConfigurationError: ``spec`` names no row of FUSIONS.
        ValueError: the lengths differ.
    """
    row, share = parse_fusion(spec)
    if scores.shape != external_scores.shape:
        raise ValueError(f"{len(scores)} scores cannot be fused with {len(external_scores)}.")
    mine, other = np.isnan(scores), np.isnan(external_scores)
    fused = np.full(len(scores), np.nan)
    both = ~mine & ~other
    fused[both] = row.function(scores[both], external_scores[both], share)
    alone = np.where(mine, min_max(external_scores), min_max(scores))
    return np.where(both, fused, alone)


def learn_share(scores: list[F64], external_scores: list[F64], labels: list[F64], *, grid: int = 21) -> float:
    """Return the share of ours with which ``weighted`` picks right most often, over questions with (N,) each.

    Labels are 1 right, 0 wrong, NaN unknown. Of equally good shares the one nearest to one half is taken: fewer
    surprises on other questions. Without any labelled question it is one half.
    """
    shares = np.linspace(0.0, 1.0, grid)
    right = np.zeros(grid)
    for mine, other, label in zip(scores, external_scores, labels, strict=True):
        for at, share in enumerate(shares):
            fused = fuse(mine, other, f"weighted:share={share:.6f}")
            best = int(np.nanargmax(fused)) if not np.isnan(fused).all() else 0
            right[at] += np.nan_to_num(label[best])
    best_shares = shares[right == right.max()]
    return float(best_shares[np.abs(best_shares - 0.5).argmin()])
