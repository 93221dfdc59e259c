"""The reference of the statistics: their distributions over questions that a model answered earlier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64, I64
from swift_client.models.acceptance import Acceptance
from swift_client.models.drift_profile import MAX_FINGERPRINT_LENGTH, MAX_FINGERPRINTS, U32, DriftProfile
from swift_client.monitoring.statistics import SHARES, STATISTICS

SIZES = (1, 4, 16)  # completions per question that profiles are built for
EDGES = 25  # edges of a distribution: its range, and quantiles between
MAX_QUESTIONS = 2**31  # most of a calibration; more are a damaged file
MIN_QUESTIONS = 30  # fewest questions of a statistic; fewer say too little about its range


def build_profile(rows: Mapping[int, ArrayLike], *, fingerprints: Iterable[str] = ()) -> DriftProfile:
    """Build the reference of the statistics from those of Q questions.

    Args:
        rows: by a number of completions, (Q, S) of ``question_statistics()`` of questions with so many: {4: rows}.
            In the order of STATISTICS; NaN if not available. A question is compared with those of the largest number
            that it has, by its first completions.
        fingerprints: model names and system fingerprints of the replies.

    Raises:
        ConfigurationError: there are fewer than MIN_QUESTIONS questions, or their number of completions is not given.
    """
    if not isinstance(rows, Mapping) or not all(isinstance(size, int) and size > 0 for size in rows):
        raise ConfigurationError(
            "build_profile() needs the number of completions of the questions.",
            hint="Pass {4: rows} for rows of question_statistics() of four completions each.",
        )
    arrays = {size: np.asarray(rows[size], np.float64).reshape(-1, len(STATISTICS)) for size in sorted(rows)}
    arrays = {size: table for size, table in arrays.items() if len(table) >= MIN_QUESTIONS}
    if not arrays:
        largest = max((len(np.asarray(table)) for table in rows.values()), default=0)
        raise ConfigurationError(
            f"A reference for drift needs {MIN_QUESTIONS} questions, and there are {largest}.",
            hint="Collect more questions: 200 are enough to notice most changes.",
        )
    parts = [[_cells(column) for column in table.T] for table in arrays.values()]
    names = sorted({text[:MAX_FINGERPRINT_LENGTH] for text in fingerprints})
    return DriftProfile(
        statistics=tuple(STATISTICS),
        sizes=tuple(arrays),
        edges=np.array([[edges for edges, _ in row] for row in parts]),
        counts=np.array([[counts for _, counts in row] for row in parts]),
        fingerprints=tuple(names[:MAX_FINGERPRINTS]),
    )


def with_acceptances(profile: DriftProfile, acceptances: Sequence[Acceptance]) -> DriftProfile:
    """Add the shares of accepted answers that a head's calibrations found to the head's profile.

    A size gets the share of the only calibration whose questions are compared at that size; with several, a share could
    be that of other settings. One on feedback did not count all of its questions.
    """
    if "accepted" not in profile.statistics or profile.edges.shape[2] < 2:
        return profile
    column = profile.statistics.index("accepted")
    edges, counts = profile.edges.copy(), profile.counts.copy()
    for index in range(len(profile.sizes)):
        # With a stopping rule the first completion alone is compared.
        fitting = [one for one in acceptances if profile.size_index(1 if one.stopping else one.n) == index]
        if len(fitting) != 1 or fitting[0].source != "grades" or counts[index, column].any():
            continue
        (acceptance,) = fitting
        if not MIN_QUESTIONS <= acceptance.questions <= MAX_QUESTIONS:
            continue
        rejected = acceptance.questions - acceptance.accepted
        values = [(edge, count) for edge, count in ((0.0, rejected), (1.0, acceptance.accepted)) if count]
        edges[index, column], counts[index, column] = np.inf, 0
        for position, (edge, count) in enumerate(values):
            edges[index, column, position], counts[index, column, 2 * position + 1] = edge, count
    return replace(profile, edges=edges, counts=counts)


def _cells(values: F64) -> tuple[F64, U32]:
    """Return the edges (G,) of a distribution and its counts per cell (2G + 1,), for values (Q,) with NaN."""
    present = values[~np.isnan(values)]
    edges, counts = np.full(EDGES, np.inf), np.zeros(2 * EDGES + 1, np.uint32)
    if len(present) < MIN_QUESTIONS:
        return edges, counts
    # Quantiles that are values of the sample, so that ties keep a cell of their own.
    quantiles = np.unique(np.quantile(present, np.linspace(0, 1, EDGES), method="nearest"))
    edges[: len(quantiles)] = quantiles
    np.add.at(counts, cells_of(edges, present), 1)
    return edges, counts


def cells_of(edges: F64, values: F64) -> I64:
    """Return the cells (T,) that values (T,) fall into, as in ``DriftProfile``, for edges (G,)."""
    return np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")


def reference_level(profile: DriftProfile, statistic: str, *, n: int) -> float | None:
    """Return the median of a statistic in the reference, or the mean for one of SHARES; None if it was not measured.

    The mean is that of the percentiles. Questions have ``n`` completions, as in ``DriftProfile.quantile()``.
    """
    shares = (np.arange(100) + 0.5) / 100 if statistic in SHARES else np.array([0.5])
    quantiles = [profile.quantile(statistic, share, n=n) for share in shares.tolist()]
    known = [value for value in quantiles if value is not None]
    return float(np.mean(known)) if known else None


def available(profile: DriftProfile, index: int) -> Sequence[int]:
    """Return the columns of the statistics of today that were measured for the size of this index."""
    measured: list[int] = np.flatnonzero(profile.counts[index].any(axis=1)).tolist()
    return [column for column in measured if profile.statistics[column] in STATISTICS]
