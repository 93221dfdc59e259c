"""What a cascade of few and many completions would have cost and got right, at every threshold, replayed at no cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.bootstrap import estimate, resampled_sums
from swift_client.evaluation.evaluate import ProgressCallback
from swift_client.evaluation.result import Estimate
from swift_client.evaluation.risk.replay import replay_question
from swift_client.features.segments import F64
from swift_client.reranker.acceptance import answer_log_odds
from swift_client.selection.select import SelectionConfig
from swift_client.selection.voting import draw_subsets


@dataclass(frozen=True, eq=False, kw_only=True)
class CurvePoint:
    """The cascade at one threshold."""

    asked_on: float
    """Share of the questions that went on to all n, 0..1: 0 is the cheap end, 1 the dear one."""
    threshold: float
    """Natural log odds from which the cheap answer is taken."""
    accuracy: Estimate
    token_share: Estimate
    """Completion tokens over those of all n for every question; the first completions are not paid twice."""
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
    progress: ProgressCallback = lambda stage, done: None,
) -> tuple[CurvePoint, ...]:
    """Replay ``Cascade([(reranker, first), (reranker, n)])`` on labelled questions with n completions or more.

    Completions of a question are put in ``orders`` orders; the question goes on to all n where the choice among the
    ``first`` is less sure than the threshold. Thresholds are quantiles of that confidence, ``points`` of them with
    both ends. The straight line between the ends is what going on for a random share of the questions gives.
    Intervals resample the questions. Raises ConfigurationError where no question has n completions.
    """
    rows: list[tuple[float, float, float, float, float]] = []
    drawn: list[int] = []
    for done, group in enumerate(groups, 1):
        progress("questions", done)
        if len(group.completions) < n or np.isnan(group.labels).all():
            continue
        draws = draw_subsets(len(group.completions), n, max_subsets=orders, seed=seed)
        for draw in draws.tolist():
            completions = [group.completions[at] for at in draw]
            few, many = (replay_question(completions, config, n=each) for each in (first_n, n))
            sure = answer_log_odds(few.selection)
            right = [group.labels[draw[each.selection.winner]] == 1 for each in (few, many)]
            rows.append((-np.inf if sure is None else sure, right[0], few.tokens, right[1], many.tokens))
        drawn.append(len(draws))
    if not rows:
        raise ConfigurationError(f"No labelled question has {n} completions.", hint="Ask for fewer with n.")
    sure_, right_few, tokens_few, right_many, tokens_many = np.array(rows, np.float64).T
    orders_of = np.array(drawn)
    starts = np.cumsum(orders_of) - orders_of
    ranked = np.sort(sure_)

    def means(values: F64) -> F64:
        """Average over the orders of each question."""
        average: F64 = np.add.reduceat(values, starts) / orders_of
        return average

    ends = [means(each) for each in (right_few, tokens_few, right_many, tokens_many)]
    found = []
    for share in np.linspace(0.0, 1.0, points):
        at = round(share * len(ranked))
        threshold = float(ranked[at]) if at < len(ranked) else np.inf
        on = sure_ < threshold
        gained = means(np.where(on, right_many, right_few))
        paid = means(np.where(on, tokens_many, tokens_few))
        table = np.stack([gained, paid, *ends], axis=1)
        total = np.concatenate([table.sum(axis=0)[None], resampled_sums(table, resamples=resamples, seed=seed)])
        accuracy, spent, cheap, least, dear, most = (total / len(table)).T
        line = cheap + (dear - cheap) * (spent - least) / np.maximum(most - least, 1e-12)
        found.append(
            CurvePoint(
                asked_on=float(on.mean()),
                threshold=threshold,
                accuracy=_estimate(accuracy),
                token_share=_estimate(spent / most),
                above_line=_estimate(accuracy - line),
            )
        )
    return tuple(found)


def _estimate(values: F64) -> Estimate:
    return estimate(float(values[0]), values[1:])
