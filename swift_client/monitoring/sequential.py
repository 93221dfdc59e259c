"""The sequential test of drift: an e-detector on ranks, which learns from each question that looks like before.

Null hypothesis: the questions of the reference and all later ones are exchangeable. A statistic of a new question then
falls into a cell of its distribution with the probability (reference questions + earlier new ones in the cell) / (all
of them), that of Pólya's urn, whatever the distribution is: the reference's sampling error is part of it. Against each
of J alternatives, tilts exp(θφ) of the ranks' normal scores φ for shifts and exp(θφ²) for spreads, the likelihood ratio

    Λ = exp(θφ(cell)) / mean of exp(θφ) over the urn

has the mean 1 under the null. R ← γ (1 + R) Λ is at most the sum of the likelihood ratios over all times at which the
change may have begun (Shiryaev and Roberts); that sum minus the number of questions is a martingale, so that R ≥ A
comes at most once in A questions on average (e-detectors, arXiv 2203.03532). The mean over the J alternatives keeps
that, and with the threshold A · S for each of S statistics the alarms of all together are at most one in A questions,
however the statistics depend on each other. The factor γ = 1 - 1 / W forgets: with Λ = 1 for ever, as for a statistic
that is always the same, R ends at W, far below the threshold.

A lasting difference between the reference's questions and the later ones, such as another mix of topics, is absorbed:
the urn fills with later questions. A statistic under alarm adds nothing to its urn, so that a change does not become
the normal state while it is reported.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.models.drift_profile import U32

# The tilts θ of φ, in both directions, and of φ²; positive ones of φ² are wider distributions.
SHIFTS = (-2.0, -0.9, -0.4, 0.4, 0.9, 2.0)
SPREADS = (-0.8, 0.25)
# Limit of the reference's questions in the urn. A larger reference would report small differences of its questions
# from the later ones, which are normal between data sets.
MAX_REFERENCE = 400.0
# W over the number of questions per false alarm.
MEMORY_SHARE = 0.1
END = 2.0  # R over W at which an alarm ends
MAX_EXCESS = 100.0  # largest mean R over the threshold, so that an alarm can end
_LARGEST_RATIO = 1e300  # of float64, before MAX_EXCESS holds


class SequentialTest:
    """Tests S statistics, one question after the other. Not safe for threads by itself.

    Args:
        edges: (S, G) float64, as in ``DriftProfile``.
        counts: (S, 2G + 1) reference questions per cell.
        questions_per_false_alarm: A, the mean number of questions until a false alarm of any statistic, at least.
    """

    def __init__(self, edges: F64, counts: U32, *, questions_per_false_alarm: float = 10_000) -> None:
        if not questions_per_false_alarm >= 1:
            raise ConfigurationError(f"questions_per_false_alarm must be at least 1, not {questions_per_false_alarm}.")
        below = np.nextafter(edges, -np.inf)
        # x lies above ``below`` if it is at least the edge: the number of both kinds below x is its cell.
        self._edges = np.concatenate([below, edges], axis=1)
        total = counts.sum(axis=1, keepdims=True)
        weights = with_outer_halves(edges, counts * np.minimum(1.0, MAX_REFERENCE / np.maximum(total, 1.0)))
        tilts = _tilts(weights)
        cells = weights.shape[1]
        # The last row of each statistic is for a question without it.
        self._tilts = np.concatenate([tilts, np.zeros((len(edges), 1, tilts.shape[2]))], axis=1)
        self._tilts = self._tilts.reshape(-1, tilts.shape[2])
        self._missing = cells
        self._first_cells = np.arange(len(edges)) * (cells + 1)
        self._sums = np.einsum("sc,scj->sj", weights, tilts)
        self._total = weights.sum(axis=1)
        self._ratios = np.zeros_like(self._sums)
        self.threshold = questions_per_false_alarm * len(edges)
        self._memory = max(2.0, MEMORY_SHARE * questions_per_false_alarm)
        self._decay = 1.0 - 1.0 / self._memory
        self.is_alarmed = np.zeros(len(edges), np.bool_)
        self._any_alarm = False

    def update(self, rows: F64) -> list[int]:
        """Test the statistics of Q questions, (Q, S) with NaN for a missing one, in their order.

        Returns:
            The columns of the statistics whose alarm begins; they are looked for after the last question.
        """
        cells = np.einsum("qse->qs", (self._edges < rows[:, :, None]).view(np.uint8)).astype(np.int64)
        is_missing = np.isnan(rows)
        has_missing = bool(is_missing.any())
        if has_missing:
            cells[is_missing] = self._missing
        cells += self._first_cells
        tilts = self._tilts.take(cells, axis=0)
        present = np.ones(rows.shape) if not has_missing else (~is_missing).astype(np.float64)
        learnt, begun = tilts, present
        if self._any_alarm:
            is_learning = ~self.is_alarmed
            learnt, present = tilts * is_learning[:, None], present * is_learning
        # The urn before each question, and at last after all of them.
        sums = np.cumsum(np.concatenate([self._sums[None], learnt]), axis=0)
        totals = np.cumsum(np.concatenate([self._total[None], present]), axis=0)
        self._sums, self._total = sums[-1], totals[-1]
        tilts *= self._decay * totals[:-1, :, None]
        tilts /= sums[:-1]
        if has_missing:
            tilts[is_missing] = 1.0
        ratios = self._ratios
        for row, one in zip(tilts, begun[:, :, None], strict=True):
            ratios += one
            ratios *= row
        if self._any_alarm or ratios.max() >= self.threshold:
            return self._change_alarms()
        return []

    def _change_alarms(self) -> list[int]:
        """Begin and end alarms, and return the statistics whose alarm begins."""
        # All alternatives alike: one that explains the change worse must not outlast it, which it would in a small
        # difference of the later questions that is normal.
        np.minimum(self._ratios, _LARGEST_RATIO, out=self._ratios)
        self._ratios /= np.maximum(self.evidence / (self.threshold * MAX_EXCESS), 1.0)[:, None]
        evidence = self.evidence
        raised = (evidence >= self.threshold) & ~self.is_alarmed
        self.is_alarmed |= raised
        self.is_alarmed &= evidence > END * self._memory
        self._any_alarm = bool(self.is_alarmed.any())
        numbers: list[int] = np.flatnonzero(raised).tolist()
        return numbers

    @property
    def evidence(self) -> F64:
        """(S,) mean R over the alternatives; an alarm begins at ``threshold``."""
        means: F64 = self._ratios.mean(axis=1)
        return means

    @property
    def shares(self) -> F64:
        """(S,) ``evidence`` on a log scale, 0..1: 0 up to what is usual without a change, 1 where an alarm begins."""
        excess = np.log(np.maximum(self.evidence / self._memory, 1.0))
        clipped: F64 = np.minimum(excess / np.log(self.threshold / self._memory), 1.0)
        return clipped


def with_outer_halves(edges: F64, counts: F64) -> F64:
    """Return counts (S, C) with half a question beyond either end of the range that the edges (S, G) have.

    They are the one question that a rank has more than the sample, where nothing was observed.
    """
    weights = counts.copy()
    rows = np.arange(len(edges))
    weights[rows, 0] += 0.5
    weights[rows, 2 * np.isfinite(edges).sum(axis=1)] += 0.5
    return weights


def normal_scores(weights: F64, *, least: float) -> F64:
    """Return the normal scores (S, C) of the mid-ranks of cells, for counts (S, C); no rank is below ``least``."""
    total = weights.sum(axis=1, keepdims=True)
    ranks = (np.cumsum(weights, axis=1) - weights / 2) / np.maximum(total, 1.0)
    inverse = NormalDist().inv_cdf
    return np.array([inverse(rank) for rank in np.clip(ranks, least, 1 - least).ravel().tolist()]).reshape(ranks.shape)


def _tilts(weights: F64) -> F64:
    """Return exp(θφ) and exp(θφ²) of the cells' normal scores, (S, C, J), for their counts (S, C)."""
    scores = normal_scores(weights, least=0.5 / (MAX_REFERENCE + 1.0))[:, :, None]
    tilts: F64 = np.exp(np.concatenate([scores * SHIFTS, scores**2 * SPREADS], axis=2))
    return tilts
