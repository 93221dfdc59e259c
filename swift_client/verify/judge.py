"""The calls to a judge: one verdict per call, through the same limits, retries and budgets as sampling."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.pricing import add_costs
from swift_client.sampling import BudgetTracker, CallContext, Endpoint, SampleRequest, create_sample_request
from swift_client.sampling.call import Call
from swift_client.sampling.context import DrawState
from swift_client.sampling.model_client import ModelClient
from swift_client.store import StoredVerdict
from swift_client.types import Completion, Failure, Usage
from swift_client.verify.prompts import VerdictRequest
from swift_client.verify.reading import Verdict, read_verdict
from swift_client.verify.verdict_cache import VerdictCache, verdict_key

# Builds the request for one verdict; the argument says whether the judge reasons before it.
BuildRequest = Callable[[bool], VerdictRequest]

# Tokens of a verdict: one word, but some servers refuse fewer than 16.
_VERDICT_TOKENS = 16
# Tokens of a judge that reasons before its verdict.
_REASONING_TOKENS = 4096


class Judge:
    """A model that judges, and what its replies have shown of it. Safe to share between tasks, threads and loops.

    Args:
        model: the model. Its endpoint is not shared: a judge lists as many alternatives as the provider can.
        is_borrowed: True if the connections belong to another reranker, which closes them.
    """

    def __init__(self, model: ModelClient, *, is_borrowed: bool = False) -> None:
        self.is_borrowed = is_borrowed
        capabilities = model.capabilities
        k = capabilities.top_logprobs_max
        has_none = model.provider.logprobs_request == "none" or not k
        self.model = replace(model, endpoint=Endpoint(capabilities, top_logprobs=None if has_none else k))
        extra_body = model.provider.extra_body
        self.fields: Mapping[str, Any] = {}
        if capabilities.thinking == "by_default" and capabilities.thinks(extra_body):
            # Such models list logprobs only if they do not think. The Responses API has its own field for that.
            is_responses = model.provider.codec == "openai_responses"
            self.fields = {"reasoning": {"effort": "none"}} if is_responses else {"reasoning_effort": "none"}
        # True if it reasons before every verdict.
        self.reasons = capabilities.thinks({**extra_body, **self.fields})
        self._requested_top_logprobs = self.model.endpoint.top_logprobs  # the endpoint may learn that none come
        self.has_replied = False
        self._has_logprobs = True  # False once a reply has shown that none come

    @property
    def name(self) -> str:
        """The provider and the model, such as "openai/gpt-4.1-mini"."""
        return self.model.name

    async def require_price(self, budget: BudgetTracker, request: SampleRequest) -> None:
        """Raise ConfigurationError if the budget is in dollars and the judge's price is unknown."""
        await self.model.cost.create_request_budget(budget, request)

    def sampling(self, *, reasons: bool) -> dict[str, Any]:
        """Return the fields of a request for one verdict; ``reasons`` says whether the judge reasons before it."""
        has_logprobs = self._has_logprobs and self.model.endpoint.top_logprobs is not None
        return self._sampling(reasons, has_logprobs=has_logprobs)

    def verdict_key(self, request: VerdictRequest) -> str:
        """Return a digest of all that a verdict depends on, which no earlier reply of the judge changes."""
        k = self._requested_top_logprobs
        fields = {**self.model.provider.extra_body, **self._sampling(request.reasons, has_logprobs=k is not None)}
        return verdict_key(self.model, request, sampling=fields, top_logprobs=k)

    def observe(self, completion: Completion) -> None:
        """Learn from a reply that the judge answers, and if it lists logprobs."""
        self.has_replied = True
        if completion.text.strip() and not completion.tokens:
            self._has_logprobs = False

    def _sampling(self, reasons: bool, *, has_logprobs: bool) -> dict[str, Any]:
        # Where logprobs may be taken after the temperature, 1 leaves them as they are. A verdict that is read as text
        # has to be the most probable one.
        is_raw = self.model.capabilities.logprob_space == "raw" or not has_logprobs or reasons
        return {
            "max_tokens": _REASONING_TOKENS if reasons else _VERDICT_TOKENS,
            "temperature": 0.0 if is_raw else 1.0,
            **self.fields,
        }


class _Unsent(NamedTuple):
    """A verdict that did not fit into the budget."""

    reason: str


class _Cut(NamedTuple):
    """A verdict that the limit on tokens cut off, because the judge reasons: it is asked for again with room for it."""


class JudgeSession:
    """The verdicts on one question, and what they cost.

    Attributes:
        usage: Tokens and calls so far.
        cost: US dollars so far; None if the price is unknown.
        failures: Verdicts that failed.
        has_text_verdicts: Whether a verdict was read as text, without logprobs.
        budget_reason: Why the budget kept a verdict from being asked for; None if it did not.
        n_reused: Verdicts that were stored, and so cost nothing.
        budget_notes: Sentences on ways in which the budget is not exact, each once.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        budget: BudgetTracker | None,
        deadline: float | None,
        deadline_at: float | None,
        cache: VerdictCache | None = None,
    ) -> None:
        """Begin a session.

        Args:
            judge: the judge.
            budget: the budget that verdicts are paid from; None: no limit.
            deadline: seconds that the whole question has; None: no deadline.
            deadline_at: its end in the running loop's time.
            cache: the stored verdicts, which new ones are added to; None without.
        """
        self.judge, self._cache = judge, cache
        self.usage, self.failures = Usage(), list[Failure]()
        self.cost: float | None = 0.0
        self.has_text_verdicts = False
        self.budget_reason: str | None = None
        self.n_reused = 0
        self.budget_notes: dict[str, None] = {}
        self._budget, self._deadline, self._deadline_at = budget, deadline, deadline_at
        self._call_numbers = itertools.count()
        self._fatal_error: SwiftClientError | None = None
        self._has_tried = False  # True once the first verdict of this session has come or failed
        self._context: CallContext | None = None

    async def ask(self, builds: Sequence[BuildRequest]) -> list[Verdict | None]:
        """Ask for verdicts concurrently, and return them in order; None for those that failed or were not sent.

        The first verdict of a judge is awaited alone: it shows if logprobs come, and a wrong key or model costs one
        call. If it fails, the others are asked for at once, so that a judge that is down holds up nobody for long. A
        verdict that the budget keeps back waits until the running ones are paid, since they cost less than was
        reserved for them.
        """
        verdicts = await self._reuse(builds)
        waiting = [index for index, verdict in enumerate(verdicts) if verdict is None]
        if not waiting:
            return verdicts
        if self._context is None:
            self._context = await self.judge.model.call_context(token_ids=True, phase="verification")
        while waiting and self._fatal_error is None:
            batch = waiting if self.judge.has_replied or self._has_tried else waiting[:1]
            replies = await asyncio.gather(*(self._ask_one(builds[index], self._context) for index in batch))
            self._has_tried = True
            unsent, cut = [], []
            for index, reply in zip(batch, replies, strict=True):
                if isinstance(reply, _Unsent):
                    unsent.append(index)
                    self.budget_reason = reply.reason
                elif isinstance(reply, _Cut):
                    cut.append(index)
                else:
                    verdicts[index] = reply
            if len(unsent) == len(batch):
                break
            waiting = [*cut, *unsent, *waiting[len(batch) :]]
        else:
            self.budget_reason = None
        return verdicts

    async def _reuse(self, builds: Sequence[BuildRequest]) -> list[Verdict | None]:
        """Return the verdicts that are stored, in order; None for the others."""
        verdicts: list[Verdict | None] = [None] * len(builds)
        if self._cache is None:
            return verdicts
        # An earlier process may have found out that the judge reasons.
        ways = (True,) if self.judge.reasons else (False, True)
        requests = [(index, build(reasons)) for index, build in enumerate(builds) for reasons in ways]
        keys = [self.judge.verdict_key(request) for _, request in requests]
        stored_verdicts = await self._cache.lookup(keys)
        for (index, request), key in zip(requests, keys, strict=True):
            stored = stored_verdicts.get(key)
            if stored is None or verdicts[index] is not None:
                continue
            verdicts[index] = Verdict(value=stored.value, confidence=stored.confidence, from_text=stored.from_text)
            self.has_text_verdicts |= stored.from_text
            self.judge.reasons |= request.reasons
            self.n_reused += 1
        return verdicts

    async def _ask_one(self, build: BuildRequest, context: CallContext) -> Verdict | _Unsent | _Cut | None:
        """Ask for one verdict; a failure is recorded."""
        judge, reasons = self.judge, self.judge.reasons
        request = build(reasons)
        sample_request = create_sample_request(
            list(request.messages), 1, deadline=self._deadline, sampling=judge.sampling(reasons=reasons)
        )
        budget = None
        if self._budget:
            budget = await judge.model.cost.create_request_budget(self._budget, sample_request)
        state = DrawState(sample_request=sample_request, deadline_at=self._deadline_at, request_budget=budget)
        call = Call(context, state, number=next(self._call_numbers), n_requested=1, first_index=0)
        result = await call.run()
        cost = await self._count(replace(result.usage, calls=state.n_requests))
        self.budget_notes |= dict.fromkeys(budget.notes() if budget else ())
        if result.failure:
            self._add_failure(result.failure.error, attempts=result.failure.attempts)
            return None
        if not result.completions:
            return _Unsent((budget and budget.stop_reason) or "The budget is spent.")
        completion = result.completions[0]
        judge.observe(completion)
        verdict = read_verdict(completion, request)
        if isinstance(verdict, Verdict):
            self.has_text_verdicts |= verdict.from_text
            if self._cache is not None:
                self._cache.save(judge.verdict_key(request), _to_stored(verdict, result.usage, cost))
            return verdict
        if completion.finish_reason == "length" and not reasons:
            judge.reasons = True  # it began to reason, and the limit on its tokens cut it
            return _Cut()
        self._add_failure(ResponseDecodeError(verdict, provider=judge.model.provider.name), attempts=call.attempts)
        return None

    async def _count(self, usage: Usage) -> float | None:
        """Add a call's usage, and return its cost; None if the price is unknown."""
        self.usage += usage
        cost = await asyncio.to_thread(self.judge.model.cost.cost, usage)
        self.cost = add_costs(self.cost, cost)
        return cost

    def _add_failure(self, error: SwiftClientError, *, attempts: int) -> None:
        if isinstance(error, (AuthenticationError, BadRequestError, ConfigurationError)) and not error.retryable:
            self._fatal_error = error  # every other verdict would meet it too
        self.failures.append(Failure(error=error, lost=1, attempts=attempts))


def _to_stored(verdict: Verdict, usage: Usage, cost: float | None) -> StoredVerdict:
    return StoredVerdict(
        value=verdict.value,
        confidence=verdict.confidence,
        from_text=verdict.from_text,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=cost,
    )
