"""The modes of a verifier: how many verdicts each asks for, and how they become judgements of answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from swift_client.features.segments import F64
from swift_client.types import Message
from swift_client.verify.comparisons import PairwiseTournament, expected_comparisons, max_comparisons
from swift_client.verify.judge import JudgeSession
from swift_client.verify.prompts import (
    Criteria,
    VerdictRequest,
    p_true_requests,
    pairwise_request,
    parse_criteria,
    score_requests,
)
from swift_client.verify.reading import Verdict


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgingTask:
    """The answers of one question that a judge sees.

    Attributes:
        question: Chat messages.
        answers: (A,) texts of the distinct answers.
        log_weights: (A,) log of the weight of each answer's votes.
        criteria: As of ``Verifier``.
        reference: Notes for the judge; None without.
    """

    question: Sequence[Message]
    answers: Sequence[str]
    log_weights: F64
    criteria: Criteria
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A way to judge.

    Attributes:
        judge: Asks for verdicts and returns the judgement of each answer, 0..1; None for those without one.
        max_calls: Most calls for A answers and C criteria, retries not counted.
        expected_calls: Calls to expect for A answers and C criteria.
        holds_votes: Whether the judgements already contain the weights of the votes, and so are the posterior.
        source: Where it was published.
    """

    judge: Callable[[JudgeSession, JudgingTask], Awaitable[list[float | None]]]
    max_calls: Callable[[int, int], int]
    expected_calls: Callable[[int, int], int]
    holds_votes: bool = False
    source: str


async def _judge_p_true(session: JudgeSession, task: JudgingTask) -> list[float | None]:
    """Judge each answer by two verdicts, with the options in both orders."""
    orders = (0, 1)
    builds = [partial(_p_true_request, task, answer, order) for answer in task.answers for order in orders]
    values = _values(await session.ask(builds)).reshape(-1, len(orders))
    return _mean_over_columns(values, np.ones(len(orders)))


def _p_true_request(task: JudgingTask, answer: str, order: int, reasons: bool) -> VerdictRequest:
    requests = p_true_requests(task.question, answer, criteria=task.criteria, reference=task.reference, reasons=reasons)
    return requests[order]


async def _judge_score(session: JudgeSession, task: JudgingTask) -> list[float | None]:
    """Judge each answer by one verdict per criterion."""
    weights = np.array([weight for _, weight in parse_criteria(task.criteria)] or [1.0])
    builds = [
        partial(_score_request, task, answer, criterion) for answer in task.answers for criterion in range(len(weights))
    ]
    values = _values(await session.ask(builds)).reshape(-1, len(weights))
    return _mean_over_columns(values, weights)


def _score_request(task: JudgingTask, answer: str, criterion: int, reasons: bool) -> VerdictRequest:
    requests = score_requests(task.question, answer, criteria=task.criteria, reference=task.reference, reasons=reasons)
    return requests[criterion][1]


async def _judge_pairwise(session: JudgeSession, task: JudgingTask) -> list[float | None]:
    """Judge answers by comparisons of pairs; the judgements are shares of all answers, votes included."""
    tournament = PairwiseTournament(task.log_weights)
    while pairs := tournament.next_pairs():
        verdicts = await session.ask([partial(_pairwise_request, task, first, second) for first, second in pairs])
        for (first, second), verdict in zip(pairs, verdicts, strict=True):
            tournament.record(first, second, None if verdict is None else verdict.value)
        if not any(verdicts):  # the judge is down, or the budget or the time is over
            break
    if tournament.n_comparisons == tournament.n_failed:
        return [None] * len(task.answers)
    return [float(value) for value in tournament.probabilities]


def _pairwise_request(task: JudgingTask, first: int, second: int, reasons: bool) -> VerdictRequest:
    return pairwise_request(
        task.question,
        task.answers[first],
        task.answers[second],
        criteria=task.criteria,
        reference=task.reference,
        reasons=reasons,
    )


def _values(verdicts: Sequence[Verdict | None]) -> F64:
    return np.array([np.nan if verdict is None else verdict.value for verdict in verdicts], np.float64)


def _mean_over_columns(values: F64, weights: F64) -> list[float | None]:
    """Return the weighted mean of each row of ``values`` (A, C); None for rows without any.

    A missing value counts as the row's other values, moved by how much its column differs from theirs: an answer gains
    nothing if the verdict that failed was the one with the options in the unfavourable order, or the strict criterion.
    """
    column_means = np.array([column[~np.isnan(column)].mean() if not np.isnan(column).all() else np.nan
                             for column in values.T])  # fmt: skip
    judgements: list[float | None] = []
    for row in values:
        present = ~np.isnan(row)
        if not present.any():
            judgements.append(None)
            continue
        deviation = np.average((row - column_means)[present], weights=weights[present])
        known = ~np.isnan(column_means)
        center = np.average(column_means[known], weights=weights[known])
        judgements.append(float(np.clip(center + deviation, 0.0, 1.0)))
    return judgements


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "p_true": Mode(
            judge=_judge_p_true,
            max_calls=lambda answers, criteria: 2 * answers,
            expected_calls=lambda answers, criteria: 2 * answers,
            source="Kadavath et al. 2022, arXiv 2207.05221",
        ),
        "score": Mode(
            judge=_judge_score,
            max_calls=lambda answers, criteria: max(1, criteria) * answers,
            expected_calls=lambda answers, criteria: max(1, criteria) * answers,
            source="LLM-as-a-Verifier, arXiv 2607.05391",
        ),
        "pairwise": Mode(
            judge=_judge_pairwise,
            max_calls=lambda answers, criteria: max_comparisons(answers),
            expected_calls=lambda answers, criteria: expected_comparisons(answers),
            holds_votes=True,
            source="pairwise ranking prompting, arXiv 2306.17563; Bradley and Terry 1952",
        ),
    }
)


def mode_of(identity: str) -> str:
    """Return the mode in an identity of judgements, such as "p_true"; "p_true" if it names none."""
    return next((word for word in identity.split() if word in MODES), "p_true")
