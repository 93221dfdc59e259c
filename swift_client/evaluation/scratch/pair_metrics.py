"""Metrics of pairs of a score or probability and a label, as in ``training.metrics``, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swift_client.evaluation.scratch.sorted_pairs import PairFile
from swift_client.evaluation.scratch.summation import SequentialReader, pairwise_sum
from swift_client.features.segments import F64
from swift_client.training.metrics import Reliability


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """The calibration of probabilities.

    Attributes:
        brier: Mean squared distance of the probabilities from the labels.
        reliability: Their table, with the expected calibration error.
    """

    brier: float
    reliability: Reliability


def measure_calibration(pairs: PairFile) -> Calibration | None:
    """Return the calibration of probabilities; None without any."""
    if not len(pairs):
        return None
    distances = SequentialReader((part["value"] - part["label"]) ** 2 for part in pairs.parts())
    brier = pairwise_sum(distances.take, len(pairs)) / len(pairs)
    return Calibration(brier=brier, reliability=_reliability(pairs))


def _reliability(pairs: PairFile, *, bins: int = 15) -> Reliability:
    """Return the table of ``training.metrics.reliability``."""
    reader = SequentialReader(pairs.sorted_parts())
    smaller, n_larger = divmod(len(pairs), bins)
    counts = [smaller + 1] * n_larger + [smaller] * (bins - n_larger if smaller else 0)
    predicted, observed = [], []
    for count in counts:
        n_right = 0

        def take_values(size: int) -> F64:
            nonlocal n_right
            part = reader.take(size)
            n_right += int(np.count_nonzero(part["label"]))
            return np.ascontiguousarray(part["value"])

        predicted.append(pairwise_sum(take_values, count) / count)
        observed.append(n_right / count)
    return Reliability(predicted=np.array(predicted), observed=np.array(observed), counts=np.array(counts, np.int64))


def pooled_auroc(pairs: PairFile) -> float:
    """Return the area under the ROC curve, ties counted half; NaN if all labels are equal."""
    n_right = n_wrong = twice_won = 0
    # Labels of the largest value so far, which the next part may continue.
    value, right, wrong = np.nan, 0, 0
    for part in pairs.sorted_parts():
        starts = np.flatnonzero(np.concatenate([[True], part["value"][1:] != part["value"][:-1]]))
        rights = np.add.reduceat(part["label"].astype(np.int64), starts)
        wrongs = np.diff(starts, append=len(part)) - rights
        if part["value"][0] == value:
            rights[0] += right
            wrongs[0] += wrong
        else:
            twice_won += right * (2 * n_wrong + wrong)
            n_right, n_wrong = n_right + right, n_wrong + wrong
        lower = n_wrong + np.cumsum(wrongs) - wrongs
        twice_won += int((rights * (2 * lower + wrongs))[:-1].sum())
        n_right, n_wrong = n_right + int(rights[:-1].sum()), n_wrong + int(wrongs[:-1].sum())
        value, right, wrong = float(part["value"][-1]), int(rights[-1]), int(wrongs[-1])
    twice_won += right * (2 * n_wrong + wrong)
    n_right, n_wrong = n_right + right, n_wrong + wrong
    return twice_won / 2 / (n_right * n_wrong) if n_right and n_wrong else np.nan
