"""The stored distribution of a head's per-question statistics, with which drift is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from swift_client.features.segments import F64

# Upper limits, so that a file cannot ask for unlimited memory; twice the edges are counted in a byte.
MAX_STATISTICS, MAX_SIZES, MAX_EDGES = 64, 8, 127
MAX_FINGERPRINTS, MAX_FINGERPRINT_LENGTH = 64, 200

U32 = NDArray[np.uint32]


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftProfile:
    """The distributions of S statistics over reference questions, for M numbers of completions per question.

    A distribution is the counts in 2G + 1 cells that G edges make: below the first edge, equal to it, between it and
    the second, and so on. Raises ValueError if the parts do not fit each other.

    Attributes:
        statistics: (S,) names.
        sizes: (M,) rising: the statistics of a question are those of so many of its completions.
        edges: (M, S, G) float64, strictly rising, then infinite; the first and last finite one are the range.
        counts: (M, S, 2G + 1) uint32: reference questions per cell; all 0 for a statistic that was not measured.
        fingerprints: Model names and system fingerprints that the reference replies had.
    """

    statistics: tuple[str, ...]
    sizes: tuple[int, ...]
    edges: F64
    counts: U32
    fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes, names = self.sizes, self.statistics
        if not all(isinstance(text, str) for text in (*names, *self.fingerprints)):
            raise ValueError("its drift profile has a name that is not text")
        if not (0 < len(names) <= MAX_STATISTICS and len(set(names)) == len(names)):
            raise ValueError("its drift profile has no statistics, too many, or one twice")
        is_counted = all(isinstance(size, int) for size in sizes)
        if not (is_counted and 0 < len(sizes) <= MAX_SIZES and sizes[0] > 0 and all(a < b for a, b in pairwise(sizes))):
            raise ValueError("the sizes of its drift profile do not rise from 1")
        shape = (len(sizes), len(names))
        if self.edges.ndim != 3 or self.edges.shape[:2] != shape or not 0 < self.edges.shape[2] <= MAX_EDGES:
            raise ValueError("the edges of its drift profile do not fit its statistics")
        if self.edges.dtype != np.float64 or self.counts.dtype != np.uint32:
            raise ValueError("its drift profile has other numbers than float64 edges and uint32 counts")
        if self.counts.shape != (*shape, 2 * self.edges.shape[2] + 1):
            raise ValueError("the counts of its drift profile do not fit its edges")
        lower, upper = self.edges[:, :, :-1], self.edges[:, :, 1:]
        if not ((lower < upper) | (upper == np.inf)).all() or not (self.edges > -np.inf).all():
            raise ValueError("the edges of its drift profile do not rise")
        is_long = len(self.fingerprints) > MAX_FINGERPRINTS
        if is_long or any(len(text) > MAX_FINGERPRINT_LENGTH for text in self.fingerprints):
            raise ValueError("its drift profile has too many fingerprints or too long ones")

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """Build a profile from what ``facts()`` and ``tensors()`` returned; ValueError or TypeError for others."""
        return cls(
            statistics=tuple(facts["statistics"]),
            sizes=tuple(facts["sizes"]),
            fingerprints=tuple(facts.get("fingerprints", ())),
            **tensors,
        )

    def facts(self) -> dict[str, Any]:
        """Return the part that is plain JSON."""
        return {
            "statistics": list(self.statistics),
            "sizes": list(self.sizes),
            "fingerprints": list(self.fingerprints),
        }

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays by their names."""
        return {"edges": self.edges, "counts": self.counts}

    @property
    def questions(self) -> int:
        """The number of reference questions of the smallest size."""
        return int(self.counts[0].sum(axis=1, dtype=np.int64).max())

    def size_index(self, n: int) -> int | None:
        """Return the index of the largest size of at most ``n`` completions; None if there is none."""
        fitting = [index for index, size in enumerate(self.sizes) if size <= n]
        return fitting[-1] if fitting else None

    def quantile(self, statistic: str, probability: float, *, n: int) -> float | None:
        """Return a quantile of a statistic for questions with ``n`` completions; None if it was not measured.

        Args:
            statistic: its name.
            probability: 0..1.
            n: number of completions; the largest size up to it is read.
        """
        index = self.size_index(n)
        if index is None or statistic not in self.statistics:
            return None
        column = self.statistics.index(statistic)
        counts, edges = self.counts[index, column].astype(np.float64), self.edges[index, column]
        edges = edges[np.isfinite(edges)]
        if not counts.sum() or not len(edges):
            return None
        # A cell between two edges stands at their middle, the outer ones at the edge.
        middles = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
        values = np.empty(2 * len(edges) + 1)
        values[0::2], values[1::2] = middles, edges
        share = np.cumsum(counts[: len(values)]) / counts.sum()
        return float(values[min(int(np.searchsorted(share, probability - 1e-12)), len(values) - 1)])
