"""Which requests go into batches: what is missing and not under way, as far as money and leave reach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_client.adapters.codecs import openai_batch
from swift_client.collect.batch.job import Job, Wish
from swift_client.collect.budget import Prices
from swift_client.collect.runner import gaps, seed_of
from swift_client.sampling import Line, Order, order
from swift_client.store import StoredQuestion


@dataclass(kw_only=True)
class Plan:
    """What is wanted, and what is there; see ``collect_batch`` for what the settings mean."""

    line: Line
    url: str
    """What the requests are for, such as "/v1/chat/completions"."""
    questions: Sequence[StoredQuestion]
    n: int
    seed: int | None
    sampling: Mapping[str, Any]
    held: dict[str, set[int]]
    """Indices in the file by question."""
    prices: Prices | None
    """Of a batch."""
    longest: float
    """The most that one completion may cost in a batch."""
    max_cost: float | None
    max_requests: int | None
    stopped: str | None = None
    """"max_cost" or "max_requests" where one of them left something unasked."""
    under_way: dict[str, set[int]] = field(default_factory=dict)
    """Indices that batches under way were asked for, by question."""

    def __post_init__(self) -> None:
        self._by_id = {question.id: question for question in self.questions}

    def remember(self, jobs: Iterable[Job]) -> None:
        """Say which batches are under way."""
        self.under_way = {}
        for wish in (wish for job in jobs for wish in job.wishes):
            self.under_way.setdefault(wish.question_id, set()).update(range(wish.first, wish.first + wish.wanted))

    def missing(self, question: StoredQuestion) -> list[int]:
        """Return the indices that are to be asked for."""
        there = self.held.get(question.id, set()) | self.under_way.get(question.id, set())
        return [number for number in range(self.n) if number not in there]

    def wishes(self, spent: float) -> Iterator[Wish]:
        """Yield requests for all that is missing, as long as there is money and leave for them.

        Args:
            spent: what the whole file has cost, and what batches under way may still cost.
        """
        left = math.inf if self.max_cost is None else self.max_cost - spent
        sent = 0
        for question in self.questions:
            each = self._dearest(question)
            for gap in gaps(self.missing(question)):
                first, end = gap[0], gap[-1] + 1
                while first < end:
                    count = self.line.endpoint.size(end - first)
                    if each * count > left:
                        count = max(0, math.floor(left / each))
                    if not count or sent == self.max_requests:
                        self.stopped = "max_requests" if count else "max_cost"
                        return
                    yield Wish(question.id, first, count)
                    first, left, sent = first + count, left - each * count, sent + 1

    def dearest(self, jobs: Iterable[Job], stored: Iterable[StoredQuestion]) -> float:
        """Return the most that batches may cost; 0 where nothing limits the cost."""
        if self.max_cost is None:
            return 0.0
        each = {question.id: self._dearest(question) for question in stored}
        return sum(each[wish.question_id] * wish.wanted for job in jobs for wish in job.wishes)

    def written(self, wish: Wish) -> bytes:
        """Write one line of an input file: its body is that of a direct call."""
        asked = self.order(self._by_id[wish.question_id], wish.wanted, wish.first)
        sampling = self.line.endpoint.spelled(asked.sampling)
        request = self.line.codec.request(
            self.line.provider,
            self.line.model,
            asked.messages,
            n=wish.wanted,
            top_logprobs=self.columns(wish),
            sampling=sampling if asked.seed is None else {**sampling, "seed": asked.seed},
        )
        return openai_batch.line(wish.custom_id, self.url, dict(request.body))

    def columns(self, wish: Wish) -> int | None:
        """Return the alternatives a token that a request asks for."""
        fields = self.line.fields(self.order(self._by_id[wish.question_id], wish.wanted, wish.first))
        return self.line.endpoint.terms(wish.wanted, stream=False, fields=fields).top_logprobs

    def order(self, question: StoredQuestion, count: int, first: int) -> Order:
        """Return the order for ``count`` completions of a question, numbered from ``first``."""
        seed = None if self.seed is None else seed_of(question.id, self.seed) + first
        return order(question.messages, count, seed=seed, sampling=self.sampling)

    def _dearest(self, question: StoredQuestion) -> float:
        """Return the most that one completion of a question may cost with its prompt."""
        prompt = self.prices.dearest_prompt(question.messages) if self.prices else 0.0
        return self.longest + prompt
