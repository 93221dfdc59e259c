"""The verdicts that a verifier asks for, and their cost, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from swift_client.pricing import Price
from swift_client.sampling import create_sample_request
from swift_client.sampling.call_plan import estimate_prompt_tokens
from swift_client.types import Message
from swift_client.verify.judge import Judge
from swift_client.verify.modes import MODES, JudgingTask
from swift_client.verify.prompts import (
    VerdictRequest,
    p_true_requests,
    pairwise_request,
    parse_criteria,
    score_requests,
)
from swift_client.verify.verification import LONG_ANSWER
from swift_client.verify.verifier import Verifier

_BYTES_PER_TOKEN = 4  # as in ``estimate_prompt_tokens()``


@dataclass(frozen=True, kw_only=True)
class VerdictPlan:
    """The calls to a judge if a question has this many distinct answers.

    Attributes:
        distinct: Number of distinct answers.
        calls: Expected calls, retries not counted.
        max_calls: Most calls, retries not counted.
        prompt_tokens: Estimated prompt tokens of the expected calls.
        completion_tokens: Most completion tokens of the expected calls.
        usd: US dollars of these tokens, without a prompt cache; None if the price is unknown.
    """

    distinct: int
    calls: int
    max_calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


def find_mode(verifier: Verifier, answer_tokens: int) -> str:
    """Return the mode, with "auto" resolved for answers of this length."""
    if verifier.mode != "auto":
        return verifier.mode
    return "pairwise" if answer_tokens * _BYTES_PER_TOKEN > LONG_ANSWER else "p_true"


def plan_verdicts(
    verifier: Verifier,
    judge: Judge,
    question: str | Sequence[Message],
    *,
    answer_tokens: int,
    distinct: Sequence[int],
    price: Price | None,
    reference: str | None = None,
) -> list[VerdictPlan]:
    """Return one plan per number of distinct answers.

    Args:
        verifier: its settings.
        judge: the model that judges.
        question: the question, as ``best_of`` takes it.
        answer_tokens: tokens of one answer.
        distinct: numbers of distinct answers, at least 1.
        price: of the judge; None if it is unknown.
        reference: notes for the judge on this question.
    """
    mode = MODES[find_mode(verifier, answer_tokens)]
    messages = create_sample_request(question, 1).messages
    answer = "x" * (answer_tokens * _BYTES_PER_TOKEN)
    task = JudgingTask(
        question=messages,
        answers=[answer, answer],
        log_weights=np.zeros(2),
        criteria=verifier.criteria,
        reference=reference or verifier.reference,
    )
    request = _REQUESTS[find_mode(verifier, answer_tokens)](task, judge.reasons)
    prompt_tokens = estimate_prompt_tokens(create_sample_request(list(request.messages), 1))
    completion_tokens = int(judge.sampling(reasons=judge.reasons)["max_tokens"])
    tier = price and price.at(prompt_tokens)
    n_criteria = len(parse_criteria(verifier.criteria))
    plans = []
    for n_answers in distinct:
        calls = mode.expected_calls(n_answers, n_criteria)
        counts = {"prompt_tokens": calls * prompt_tokens, "completion_tokens": calls * completion_tokens}
        plans.append(
            VerdictPlan(
                distinct=n_answers,
                calls=calls,
                max_calls=mode.max_calls(n_answers, n_criteria),
                usd=None if tier is None else tier.cost(**counts),
                **counts,
            )
        )
    return plans


def _p_true(task: JudgingTask, reasons: bool) -> VerdictRequest:
    answer = task.answers[0]
    return p_true_requests(
        task.question, answer, criteria=task.criteria, reference=task.reference, reasons=reasons
    )[0]  # fmt: skip


def _score(task: JudgingTask, reasons: bool) -> VerdictRequest:
    answer = task.answers[0]
    return score_requests(
        task.question, answer, criteria=task.criteria, reference=task.reference, reasons=reasons
    )[0][1]  # fmt: skip


def _pairwise(task: JudgingTask, reasons: bool) -> VerdictRequest:
    return pairwise_request(
        task.question, *task.answers, criteria=task.criteria, reference=task.reference, reasons=reasons
    )


# A request for one verdict of each mode; the others are equally long but for the criterion.
_REQUESTS: Mapping[str, Callable[[JudgingTask, bool], VerdictRequest]] = MappingProxyType(
    {"p_true": _p_true, "score": _score, "pairwise": _pairwise}
)
