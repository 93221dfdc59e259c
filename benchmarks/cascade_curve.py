"""Cost and accuracy of a cascade of few and many completions at every threshold, replayed without any request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.evaluation.risk.calibrate import replay_question
from swift_client.features.segments import F64
from swift_client.reranker.acceptance import answer_log_odds
from swift_client.selection.select import SelectionConfig
from swift_client.selection.voting import draw_orders


@dataclass(frozen=True, eq=False, kw_only=True)
class CurvePoint:
    """The cascade at one threshold."""

    asked_on: float
    """Share of the questions that went on to all n, 0..1: 0 is the cheap end, 1 the expensive one."""
    threshold: float
    """Natural log odds from which the cheap answer is accepted."""
    accuracy: Estimate
    token_share: Estimate
    """Completion tokens divided by those of all n for every question; the first completions are not paid twice."""
    above_line: Estimate
    """Accuracy above the straight line between the ends at the same share of tokens, -1..1."""


def cascade_curve(
    groups: Iterable[Group],
    config: SelectionConfig,
    *,
    first_n: int = 1,
    n: int = 16,
    orders: int = 4,
    points: int = 21,
    resamples: int = 1000,
    seed: int = 0,
    progress: ProgressCallback = lambda stage, result: None,
) -> tuple[CurvePoint, ...]:
    """Replay ``Cascade([(reranker, first_n), (reranker, n)])`` on labelled questions with n completions or more.

    Completions of a question are put in ``orders`` orders; the question goes on to all n if the choice among the first
    is less confident than the threshold. Thresholds are quantiles of that confidence, ``points`` of them with both
    ends. The straight line between the ends is the result of going on for a random share of the questions. Intervals
    resample the questions. Raises ConfigurationError if no question has n completions.
    """
    rows: list[tuple[float, float, float, float, float]] = []
    order_counts: list[int] = []
    for result, group in enumerate(groups, 1):
        progress("questions", result)
        if len(group.completions) < n or np.isnan(group.labels).all():
            continue
        draws = draw_orders(len(group.completions), n, max_subsets=orders, seed=seed)
        for draw in draws.tolist():
            completions = [group.completions[position] for position in draw]
            few, many = (replay_question(completions, config, n=count) for count in (first_n, n))
            log_odds = answer_log_odds(few.selection)
            correct = [group.labels[draw[replayed.selection.winner]] == 1 for replayed in (few, many)]
            rows.append((-np.inf if log_odds is None else log_odds, correct[0], few.tokens, correct[1], many.tokens))
        order_counts.append(len(draws))
    if not rows:
        raise ConfigurationError(f"No labelled question has {n} completions.", hint="Ask for fewer with n.")
    confidence, correct_few, tokens_few, correct_many, tokens_many = np.array(rows, np.float64).T
    counts = np.array(order_counts)
    starts = np.cumsum(counts) - counts
    ranked = np.sort(confidence)

    def question_means(values: F64) -> F64:
        """Average over the orders of each question."""
        average: F64 = np.add.reduceat(values, starts) / counts
        return average

    ends = [question_means(values) for values in (correct_few, tokens_few, correct_many, tokens_many)]
    curve = []
    for share in np.linspace(0.0, 1.0, points):
        rank = round(share * len(ranked))
        threshold = float(ranked[rank]) if rank < len(ranked) else np.inf
        goes_on = confidence < threshold
        correct = question_means(np.where(goes_on, correct_many, correct_few))
        tokens = question_means(np.where(goes_on, tokens_many, tokens_few))
        table = np.stack([correct, tokens, *ends], axis=1)
        means = sums_with_resamples(table, resamples=resamples, seed=seed).T / len(table)
        accuracy, mean_tokens, accuracy_few, min_tokens, accuracy_many, max_tokens = means
        token_share = (mean_tokens - min_tokens) / np.maximum(max_tokens - min_tokens, 1e-12)
        line = accuracy_few + (accuracy_many - accuracy_few) * token_share
        curve.append(
            CurvePoint(
                asked_on=float(goes_on.mean()),
                threshold=threshold,
                accuracy=estimate(accuracy),
                token_share=estimate(mean_tokens / max_tokens),
                above_line=estimate(accuracy - line),
            )
        )
    return tuple(curve)
