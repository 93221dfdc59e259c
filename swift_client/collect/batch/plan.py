"""Which requests go into batches: what is missing and not under way, as far as money and leave reach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_client.adapters.codecs import openai_batch
from swift_client.collect.batch.job import BatchJob, BatchRequest
from swift_client.collect.budget import Prices
from swift_client.collect.runner import contiguous_ranges, question_seed
from swift_client.sampling import CallContext, SampleRequest, create_sample_request
from swift_client.store import StoredQuestion


@dataclass(kw_only=True)
class BatchPlan:
    """What is wanted, and what is there; see ``collect_batch`` for what the settings mean."""

    context: CallContext
    url: str
    """What the requests are for, such as "/v1/chat/completions"."""
    questions: Sequence[StoredQuestion]
    n: int
    seed: int | None
    sampling: Mapping[str, Any]
    existing_indices: dict[str, set[int]]
    """Indices in the file by question."""
    prices: Prices | None
    """Of a batch."""
    max_completion_cost: float
    """The most that one completion may cost in a batch."""
    max_cost: float | None
    max_requests: int | None
    stop_reason: str | None = None
    """"max_cost" or "max_requests" where one of them left something unasked."""
    pending_indices: dict[str, set[int]] = field(default_factory=dict)
    """Indices that batches under way were asked for, by question."""

    def __post_init__(self) -> None:
        self._questions_by_id = {question.id: question for question in self.questions}

    def set_pending_jobs(self, jobs: Iterable[BatchJob]) -> None:
        """Say which batches are under way."""
        self.pending_indices = {}
        for wish in (wish for job in jobs for wish in job.wishes):
            self.pending_indices.setdefault(wish.question_id, set()).update(
                range(wish.first_index, wish.first_index + wish.n)
            )

    def missing_indices(self, question: StoredQuestion) -> list[int]:
        """Return the indices that are to be asked for."""
        there = self.existing_indices.get(question.id, set()) | self.pending_indices.get(question.id, set())
        return [number for number in range(self.n) if number not in there]

    def iter_requests(self, committed_cost: float) -> Iterator[BatchRequest]:
        """Yield requests for all that is missing, as long as there is money and leave for them.

        Args:
            spent: what the whole file has cost, and what batches under way may still cost.
        """
        left = math.inf if self.max_cost is None else self.max_cost - committed_cost
        sent = 0
        for question in self.questions:
            each = self._max_sample_cost(question)
            for gap in contiguous_ranges(self.missing_indices(question)):
                first, end = gap[0], gap[-1] + 1
                while first < end:
                    count = self.context.endpoint.call_size(end - first)
                    if each * count > left:
                        count = max(0, math.floor(left / each))
                    if not count or sent == self.max_requests:
                        self.stop_reason = "max_requests" if count else "max_cost"
                        return
                    yield BatchRequest(question.id, first, count)
                    first, left, sent = first + count, left - each * count, sent + 1

    def max_jobs_cost(self, jobs: Iterable[BatchJob], questions: Iterable[StoredQuestion]) -> float:
        """Return the most that batches may cost; 0 where nothing limits the cost."""
        if self.max_cost is None:
            return 0.0
        each = {question.id: self._max_sample_cost(question) for question in questions}
        return sum(each[wish.question_id] * wish.n for job in jobs for wish in job.wishes)

    def format_line(self, batch_request: BatchRequest) -> bytes:
        """Write one line of an input file: its body is that of a direct call."""
        asked = self.sample_request(
            self._questions_by_id[batch_request.question_id], batch_request.n, batch_request.first_index
        )
        sampling = self.context.endpoint.rename_params(asked.sampling)
        request = self.context.codec.request(
            self.context.provider,
            self.context.model,
            asked.messages,
            n=batch_request.n,
            top_logprobs=self.requested_top_logprobs(batch_request),
            sampling=sampling if asked.seed is None else {**sampling, "seed": asked.seed},
        )
        return openai_batch.request_line(batch_request.custom_id, self.url, dict(request.body))

    def requested_top_logprobs(self, request: BatchRequest) -> int | None:
        """Return the alternatives a token that a request asks for."""
        fields = self.context.fields(
            self.sample_request(self._questions_by_id[request.question_id], request.n, request.first_index)
        )
        return self.context.endpoint.request_params(request.n, stream=False, fields=fields).top_logprobs

    def sample_request(self, question: StoredQuestion, count: int, first_index: int) -> SampleRequest:
        """Return the order for ``count`` completions of a question, numbered from ``first``."""
        seed = None if self.seed is None else question_seed(question.id, self.seed) + first_index
        return create_sample_request(question.messages, count, seed=seed, sampling=self.sampling)

    def _max_sample_cost(self, question: StoredQuestion) -> float:
        """Return the most that one completion of a question may cost with its prompt."""
        prompt = self.prices.max_prompt_cost(question.messages) if self.prices else 0.0
        return self.max_completion_cost + prompt
