"""Comparison of two canary runs: permutation tests within the questions.

If nothing changed, the answers to one question are draws from one distribution, whichever run drew them. So the labels
of the runs can be exchanged within each question, and the share of exchanges with a difference at least as large is
the p-value (Fisher 1935; Good 2005). Nothing is assumed about the distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swift_client.diagnostics.canary.history import CanaryRun

F64 = NDArray[np.float64]

FALSE_ALARMS = 0.001
"""Largest probability that a comparison of two runs raises an alarm although nothing changed."""
FIRST_LIST = "first_token"
"""Name of the first token's list of probabilities, beside the names of the statistics."""
_MIN_DISTANCE = 0.05  # of first tokens; servers' rounding alone moves their probabilities by about 0.01
_PERMUTATIONS = 60_000


@dataclass(frozen=True, kw_only=True)
class Movement:
    """One statistic of two runs.

    Attributes:
        name: name of the statistic, or FIRST_LIST.
        before: mean over the questions in the earlier run; None if no answer has the statistic.
        after: the same in the later run. Of FIRST_LIST: 0 and the mean over the questions of the total variation
            distance between the probabilities by rank, 0..1.
        p_value: probability of a difference at least this large if nothing changed; None if one side has no value.
        moved: whether that is an alarm, with the limit shared by all statistics.
    """

    name: str
    before: float | None
    after: float | None
    p_value: float | None
    moved: bool


def compare_runs(earlier: CanaryRun, later: CanaryRun, *, seed: int = 0) -> tuple[Movement, ...]:
    """Return how each statistic that both runs know moved, the first tokens first.

    Args:
        earlier: a run.
        later: a run of the same questions.
        seed: of the random exchanges.
    """
    names = [name for name in earlier.names if name in later.names]
    limit = FALSE_ALARMS / (len(names) + 1)
    rng = np.random.default_rng(seed)
    pairs = zip(earlier.first_tokens, later.first_tokens, strict=True)
    tokens = [(_shares(before, after), len(before)) for before, after in pairs]
    groups = list(zip(earlier.values(names), later.values(names), strict=True))
    # One set of exchanges per question, (permutations, answers): True for the earlier run.
    exchanges = [_exchanges(len(before), len(after), rng) for before, after in groups]
    movements = [_compare_first_tokens(tokens, exchanges, limit)]
    for column, name in enumerate(names):
        pairs_of_column = [(before[:, column], after[:, column]) for before, after in groups]
        movements.append(_compare(name, pairs_of_column, exchanges, limit))
    return tuple(movements)


def _exchanges(n_before: int, n_after: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return random assignments to the earlier run, (_PERMUTATIONS + 1, n) bool; the first is the real one."""
    n = n_before + n_after
    order = rng.random((_PERMUTATIONS + 1, n)).argsort(axis=1)
    order[0] = np.arange(n)
    return order < n_before


def _compare(
    name: str, pairs: Sequence[tuple[F64, F64]], exchanges: Sequence[NDArray[np.bool_]], limit: float
) -> Movement:
    """Compare the means of one statistic: their shift in all questions together, and in each by itself."""
    before = np.concatenate([pair[0] for pair in pairs])
    after = np.concatenate([pair[1] for pair in pairs])
    has_before, has_after = np.isfinite(before).any(), np.isfinite(after).any()
    # A question counts if all its answers have the statistic, since any of them may be exchanged.
    usable = [
        (first, second, is_first)
        for (first, second), is_first in zip(pairs, exchanges, strict=True)
        if len(first) and len(second) and np.isfinite(first).all() and np.isfinite(second).all()
    ]
    if not usable:
        moved = bool(has_before != has_after) and _mostly(before, after)
        return Movement(name=name, before=_mean(before), after=_mean(after), p_value=None, moved=moved)
    centred = [joined - joined.mean() for joined in (np.concatenate([first, second]) for first, second, _ in usable)]
    variances = np.array([values.var() for values in centred])
    # Exchanges keep a question's variance. The mean one is added, so that rounding in a question whose answers are
    # all alike does not count as a difference.
    scales = variances + variances.mean()
    shift: F64 = np.zeros(_PERMUTATIONS + 1)
    spread: F64 = np.zeros(_PERMUTATIONS + 1)
    for (first, second, is_first), values, scale in zip(usable, centred, scales, strict=True):
        sums = is_first @ values  # the values sum to 0, so the other run's sum is its negative
        difference = (sums / len(first) + sums / len(second)) / (scale or 1.0) ** 0.5
        shift += difference
        spread += difference**2
    # Two tests, so the smaller p-value counts twice.
    p_value = min(1.0, 2 * min(_p_value(np.abs(shift)), _p_value(spread)))
    return Movement(
        name=name,
        before=float(np.mean([first.mean() for first, _, _ in usable])),
        after=float(np.mean([second.mean() for _, second, _ in usable])),
        p_value=p_value,
        moved=p_value <= limit,
    )


def _compare_first_tokens(
    tokens: Sequence[tuple[F64, int]], exchanges: Sequence[NDArray[np.bool_]], limit: float
) -> Movement:
    """Compare the distributions of the first token: the mean total variation distance."""
    total: F64 = np.zeros(_PERMUTATIONS + 1)
    count = 0
    for (shares, n_before), is_first in zip(tokens, exchanges, strict=True):
        n = len(shares)
        if not 0 < n_before < n or is_first.shape[1] != n or not shares.shape[1]:
            continue
        weights = is_first / n_before - ~is_first / (n - n_before)
        total += np.abs(weights @ shares).sum(axis=1) / 2
        count += 1
    if not count:
        return Movement(name=FIRST_LIST, before=None, after=None, p_value=None, moved=False)
    distance, p_value = float(total[0] / count), _p_value(total)
    moved = p_value <= limit and distance >= _MIN_DISTANCE
    return Movement(name=FIRST_LIST, before=0.0, after=distance, p_value=p_value, moved=moved)


def _p_value(total: F64) -> float:
    """Return the share of the exchanges that differ at least as much as the first, itself included."""
    return float(np.mean(total >= total[0] * (1 - 1e-9)))


def _shares(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> F64:
    """Return the probabilities (answers of both runs, ranks + 1) float64; the last column is all unlisted tokens."""
    lists = [*before, *after]
    if not lists or not all(lists):
        return np.zeros((len(lists), 0))
    matrix = np.zeros((len(lists), max(map(len, lists)) + 1))
    for row, shares in zip(matrix, lists, strict=True):
        row[: len(shares)] = shares
        row[-1] = max(0.0, 1.0 - sum(shares))
    return matrix


def _mean(values: F64) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _mostly(before: F64, after: F64) -> bool:
    """Return True if nearly all answers of the run that has values have them."""
    return max(np.isfinite(before).mean() if len(before) else 0, np.isfinite(after).mean() if len(after) else 0) > 0.8
