"""The pipeline from a prompt to a Selection: sample, score, select, build.

``acceptance`` and ``cascade`` wrap ``SelectionPipeline.run()``; the clients hold one pipeline each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from swift_client.adapters import Transports
from swift_client.adapters.user_threads import UserThreads
from swift_client.display import summaries
from swift_client.errors import BadRequestError, VerificationError
from swift_client.logprobs.temperature import SamplingInfo
from swift_client.reranker.caching import ReplyCache
from swift_client.reranker.config import RerankerConfig, RunOptions
from swift_client.sampling import NO_LOGPROBS_HINT, CallContext, Endpoint, Sampler, SampleRequest, SampleResult
from swift_client.sampling.model_client import ModelClient
from swift_client.sampling.sampler import budget_error, budget_stop
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.choose import Choice
from swift_client.selection.select import (
    SelectionConfig,
    build_selection,
    score_completions,
    score_or_fall_back,
    select,
    user_functions,
)
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import WAVE_SIZES, StoppingMonitor, create_abort_monitor
from swift_client.structured.schema import is_schema_error, require_match
from swift_client.types import Completion, Selection, Stopped
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.judge import Judge
from swift_client.verify.verdict_cache import StoredVerdictCache, VerdictCache
from swift_client.verify.verification import JudgedQuestion, VerifiedChoice, apply_verification, learnt_terms, verify

logger = logging.getLogger(__name__)

# Seconds that a scorer of the user gets even after the deadline.
_MIN_SCORING_SECONDS = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The completions of one question, with all that the later steps need to know about them."""

    result: SampleResult
    config: SelectionConfig  # how these completions are scored and chosen from
    monitor: StoppingMonitor | None
    stopped: Stopped | None
    n_reused: int  # how many come from the store
    no_logprobs_reason: str | None  # why no logprobs could be expected; None if they could
    notes: tuple[str, ...]
    question_id: str | None  # of the question in the samples file, which has all completions; None without one


class Outcome(NamedTuple):
    """A choice, and what it was made from."""

    selection: Selection
    scored: ScoredCompletions
    samples: Samples


class SelectionPipeline:
    """Runs ``best_of``, from one prompt to a Selection. Safe to share between tasks, threads and event loops.

    What it learns about the endpoint (limits, refused fields) applies to all later calls.
    """

    def __init__(self, config: RerankerConfig) -> None:
        self.config = config
        sampling = config.sampling
        self.endpoint = Endpoint(
            config.capabilities, top_logprobs=sampling.top_logprobs, force_logprobs=sampling.force_logprobs
        )
        self.model_client = ModelClient(
            provider=config.provider,
            model=config.model,
            codec=config.codec,
            capabilities=config.capabilities,
            transports=Transports(config.open_transport),
            endpoint=self.endpoint,
            rate_limit=sampling.rate_limit,
            max_retries=sampling.max_retries,
            on_event=sampling.on_event,
            cost=config.cost,
        )
        self.judge: Judge | None = None
        if config.verifier:
            self.judge = connect_judge(config.verifier.judge, self.model_client, timeout=config.timeout)
        self._user_threads, self._store_threads = UserThreads(), UserThreads()
        self._has_warned = False
        self.comparison: TextComparison | None = None
        if config.selection.similarity is not None:
            from swift_client.reranker.similarity import TextComparison

            self.comparison = TextComparison(
                config.selection.similarity, self.model_client, threads=self._user_threads, timeout=config.timeout
            )

    @property
    def name(self) -> str:
        """The provider and the model, such as "openai/gpt-4.1-mini"."""
        return self.model_client.name

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self.model_client.transports.aclose()
        if self.judge and not self.judge.is_borrowed:
            await self.judge.model.transports.aclose()
        if self.comparison:
            await self.comparison.aclose()
        if self.config.store:
            self.config.store.close()

    async def run(
        self, request: SampleRequest, options: RunOptions, existing_completions: Sequence[Completion] = ()
    ) -> Outcome:
        """Sample completions, score them, select one, and build the Selection.

        ``existing_completions`` of the same question count towards ``request.n`` and are not paid for again.
        Whether the answer is accepted stays open; see ``acceptance.run_with_acceptance()``.

        Raises:
            BudgetExceededError: the budget ended before ``request.min_completions`` arrived.
            NoCompletionError: too few completions arrived for another reason, or none matches the response schema.
        """
        started, deadline_at = time.perf_counter(), request.deadline_at()
        if self.judge and options.budget:
            await self.judge.require_price(options.budget, request)
        samples = await self._sample(request, options, existing_completions, deadline_at)
        scored = await self._score(samples, request, deadline_at)
        if self.comparison:
            scored = await self.comparison.compare(
                scored,
                samples.config.select,
                seconds=self._user_seconds(samples.config),
                budget=options.budget,
                deadline_at=deadline_at,
            )
        self._warn_once(samples, scored)
        choice = verified = None
        if self.judge:
            choice = await asyncio.to_thread(select, scored, samples.config.select)
            verified = await self._verify(samples, scored, choice, request, options, deadline_at)
        selection = await asyncio.to_thread(self._describe, samples, scored, verified or choice, started=started)
        selection = replace(selection, id=options.selection_id)
        _require_enough(selection, samples, request)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s: %s", self.name, " · ".join(summaries(selection)))
        return Outcome(selection, scored, samples)

    # --- 1. sample

    async def _sample(
        self,
        request: SampleRequest,
        options: RunOptions,
        existing_completions: Sequence[Completion],
        deadline_at: float | None,
    ) -> Samples:
        """Sample completions; ask for the response schema unless the provider refuses it."""
        schema, refusals = options.response_schema, self.endpoint.schema_refusals
        if schema is None:
            return await self._sample_once(request, options, existing_completions, deadline_at)
        fields, note = schema.request_fields(self.config.provider.codec, request.sampling)
        refusal = refusals.get(repr(fields))
        if fields and refusal is None:
            with_schema = replace(request, sampling={**fields, **request.sampling})
            try:
                return await self._sample_once(with_schema, options, existing_completions, deadline_at)
            except BadRequestError as error:
                if not is_schema_error(error):
                    raise
                refusal = error.message
        samples = await self._sample_once(request, options, existing_completions, deadline_at)
        if refusal is not None:  # the same request without the schema was accepted: the schema was the reason
            refusals[repr(fields)] = refusal
            note = f"The provider refused the schema ({refusal}), so the request was sent without it."
        return replace(samples, notes=(note, *samples.notes)) if note else samples

    async def _sample_once(
        self,
        request: SampleRequest,
        options: RunOptions,
        existing_completions: Sequence[Completion],
        deadline_at: float | None,
    ) -> Samples:
        """Take completions from the store, sample the others, and keep to the budget and the stopping rule."""
        config, sampling = self.config, self.config.sampling
        context = await self.model_client.call_context(
            must_have_logprobs=sampling.require_logprobs is True,
            token_ids=config.reads_token_ids,
        )
        fields = context.fields(request)
        selection_config = self._selection_config(fields, options, deadline_at)
        monitor = self._stopping_monitor(options.stopping, request.n, selection_config)
        budget = await config.cost.create_request_budget(options.budget, request) if options.budget else None
        plan = await config.cost.plan(request, n_max=self.endpoint.n_max, warm_cache=sampling.warm_cache)
        cache = self._reply_cache(context, request, options, deadline_at)
        existing, n_reused = dict(enumerate(existing_completions[: request.n])), 0
        if cache:
            existing, n_reused = await cache.find_existing(existing_completions[: request.n], request.n)

        sampler = Sampler(
            context,
            request,
            deadline_at=deadline_at,
            wave_sizes=WAVE_SIZES if monitor else (),
            should_stop=monitor.should_stop if monitor else None,
            request_budget=budget,
            abort_monitor=create_abort_monitor(sampling.abort, config.selection.scorer) if sampling.abort else None,
            first_alone=plan is not None or sampling.warm_cache is True,
            on_arrival=cache.store if cache else None,
            existing_completions=existing,
        )
        result = await sampler.run()
        cache_notes = await cache.collect_notes(result, n_reused=n_reused) if cache else ()
        if not result.completions:  # for every other cause than the budget, the sampler raises
            raise budget_error(result, request, None)
        notes = list(cache_notes)
        stopped = budget_stop(result, request)
        if stopped:
            count = f"{stopped.after} of {request.n} completions"
            notes.append(f"The budget ended sampling after {count}. {stopped.reason}")
        elif monitor:
            stopped = monitor.describe_stop(result)
        if plan:
            notes.append(plan.reason)
        return Samples(
            result=result,
            config=selection_config,
            monitor=monitor,
            stopped=stopped,
            n_reused=n_reused,
            no_logprobs_reason=self.endpoint.no_logprobs_reason(fields),
            notes=(*notes, *result.notes),
            question_id=cache.question_id if cache else None,
        )

    def _selection_config(
        self, fields: Mapping[str, Any], options: RunOptions, deadline_at: float | None
    ) -> SelectionConfig:
        """Return the rules of the choice for a request with these fields; ``deadline_at`` in the loop's time."""
        if deadline_at is not None:  # scoring runs in threads, which do not know the loop
            deadline_at += time.monotonic() - asyncio.get_running_loop().time()
        is_after_temperature = self.config.capabilities.logprob_space == "after_temperature"
        return replace(
            self.config.current_selection,
            sampling_info=SamplingInfo.from_request(fields, after_temperature=is_after_temperature),
            response_schema=options.response_schema,
            deadline_at=deadline_at,
        )

    def _stopping_monitor(self, rule: StoppingRule | None, n: int, config: SelectionConfig) -> StoppingMonitor | None:
        if rule is None:
            return None
        score = partial(self._score_by, config)
        return StoppingMonitor(rule, n, score, method=config.select, scorer=config.scorer)

    def _reply_cache(
        self, context: CallContext, request: SampleRequest, options: RunOptions, deadline_at: float | None
    ) -> ReplyCache | None:
        """Return the cache of this request's replies; None without ``store=``."""
        if self.config.store is None:
            return None
        return ReplyCache(
            self.config.store,
            context,
            request,
            base_url=self.config.cost.base_url,
            top_logprobs=self.config.sampling.top_logprobs,
            scorer=self.config.selection.scorer,
            client_key=options.client_key,
            threads=self._store_threads,
            deadline_at=deadline_at,
        )

    # --- 2. score

    async def _score(self, samples: Samples, request: SampleRequest, deadline_at: float | None) -> ScoredCompletions:
        """Score the completions; then the external scorer and the judge may change the scores."""
        score = samples.monitor.score if samples.monitor else partial(self._score_by, samples.config)
        scored = await score(samples.result.completions)
        for rescorer in (self.config.external, self.config.judge):
            if rescorer:
                seconds_left = None if deadline_at is None else deadline_at - asyncio.get_running_loop().time()
                scored = await rescorer.rescore(scored, request.messages, seconds_left=seconds_left)
        return scored

    async def _score_by(self, config: SelectionConfig, completions: Sequence[Completion]) -> ScoredCompletions:
        """Score completions; a function of the user that takes too long is replaced, and a note says so."""
        # Scoring is numpy, and answers may be compared in another process: neither belongs on the event loop.
        if not config.calls_user_code:
            return await asyncio.to_thread(score_or_fall_back, completions, config)
        limit = self._user_seconds(config)
        try:
            async with asyncio.timeout(limit):
                return await self._user_threads.call(score_or_fall_back, completions, config)
        except TimeoutError:
            scored = await asyncio.to_thread(score_completions, completions, config.without_user_code())
            note = f"{user_functions(config)} took longer than {limit:.3g} s and was ignored."
            return replace(scored, notes=(note, *scored.notes))

    def _user_seconds(self, config: SelectionConfig) -> float:
        """Return the seconds that a function of the user may take; sampling may have taken all the time."""
        if config.deadline_at is None:
            return self.config.timeout
        return min(self.config.timeout, max(_MIN_SCORING_SECONDS, config.deadline_at - time.monotonic()))

    # --- 3. verify (``selection.select`` has chosen before)

    async def _verify(
        self,
        samples: Samples,
        scored: ScoredCompletions,
        choice: Choice,
        request: SampleRequest,
        options: RunOptions,
        deadline_at: float | None,
    ) -> VerifiedChoice | None:
        """Let the verifier judge a choice that is in doubt; None without one, or if no choice can be returned."""
        fits = options.response_schema is None or scored.answers.values[choice.winner] is not None
        will_fail = len(scored.completions) < request.min_completions or not fits
        if self.config.verifier is None or self.judge is None or will_fail:
            return None
        question = JudgedQuestion(
            messages=request.messages,
            reference=options.reference,
            budget=options.budget,
            deadline=request.deadline,
            deadline_at=deadline_at,
            cache=self._verdict_cache(samples.question_id, deadline_at),
        )
        terms = learnt_terms(self.config.selection.scorer, scored)
        try:
            return await verify(self.config.verifier, self.judge, scored, choice, question, terms=terms)
        except VerificationError as error:
            error.selection = replace(build_selection(scored, choice), id=options.selection_id)
            raise

    def _verdict_cache(self, question_id: str | None, deadline_at: float | None) -> VerdictCache | None:
        """Return the cache of one question's verdicts; None without ``store=``."""
        store, threads = self.config.store, self._store_threads
        if store is None:
            return None
        return StoredVerdictCache(store, question_id=question_id, threads=threads, deadline_at=deadline_at)

    # --- 4. describe

    def _describe(
        self, samples: Samples, scored: ScoredCompletions, choice: Choice | VerifiedChoice | None, *, started: float
    ) -> Selection:
        """Choose unless that was done, and return the choice with its cost; the first call may read a price list."""
        choice = choice or select(scored, samples.config.select)
        verified = choice if isinstance(choice, VerifiedChoice) else None
        selection = build_selection(scored, choice.choice if isinstance(choice, VerifiedChoice) else choice)
        selection = replace(
            selection,
            stopped=samples.stopped,
            usage=samples.result.usage,
            cost=self.config.cost.cost(samples.result.usage, samples.result.max_prompt_tokens),
            failures=samples.result.failures,
            notes=(*samples.notes, *selection.notes),
            reused=samples.n_reused,
            elapsed=time.perf_counter() - started,
            provider=self.config.provider.name,
            model=self.config.model,
        )
        if self.comparison:
            selection = self.comparison.with_cost(selection, scored)
        return apply_verification(selection, verified) if verified else selection

    def _warn_once(self, samples: Samples, scored: ScoredCompletions) -> None:
        """Warn that texts alone decide although logprobs were expected; every Selection's notes say it too."""
        disabled = self.config.sampling.require_logprobs is False or samples.config.reads_text_alone
        if self._has_warned or disabled or scored.signal != "text":
            return
        self._has_warned = True
        reason = samples.no_logprobs_reason or scored.no_logprobs_reason or "none arrived."
        logger.warning("%s: no logprobs (%s) %s, or pass judge=.", self.name, reason, NO_LOGPROBS_HINT)


def _require_enough(selection: Selection, samples: Samples, request: SampleRequest) -> None:
    """Raise if the budget ended sampling too early, or no completion matches the response schema."""
    if len(samples.result.completions) < request.min_completions:
        raise budget_error(samples.result, request, selection)
    if samples.config.response_schema:
        require_match(selection, samples.config.response_schema)
