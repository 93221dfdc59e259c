"""The road from a prompt to a Selection, with all that may happen on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from swift_client.errors import BadRequestError
from swift_client.logprobs.temperature import SamplingInfo
from swift_client.models import AnyHead
from swift_client.reranker.acceptance import check_on_reject, with_acceptance
from swift_client.reranker.caching import ReplyCache, merge_cached
from swift_client.reranker.config import BaseReranker
from swift_client.reranker.cost import budget_error, budget_stop
from swift_client.reranker.escalation import escalate, rejection_error
from swift_client.reranker.response_schema import add_schema_fields, is_schema_error, require_match
from swift_client.sampling import NO_LOGPROBS_HINT, BudgetTracker, CallContext, SampleRequest, sample_completions
from swift_client.selection.select import FALLBACK_SCORER, SelectionConfig, select_best
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import WAVE_SIZES, StoppingMonitor, create_abort_monitor
from swift_client.structured.schema import ResponseSchema
from swift_client.types import Completion, Selection

logger = logging.getLogger(__name__)


class SelectionPipeline(BaseReranker):
    """A reranker that asks: all but the call itself, which is sync or async. Its arguments are those of the base."""

    async def _run(
        self,
        sample_request: SampleRequest,
        rule: StoppingRule | None = None,
        tracker: BudgetTracker | None = None,
        on_reject: str = "return",
        response_schema: ResponseSchema | None = None,
    ) -> Selection:
        check_on_reject(on_reject, self._selection_config, n=sample_request.n, stopping=rule)
        selection = await self._select_with_schema(sample_request, rule, tracker, response_schema=response_schema)
        if on_reject == "return" or selection.accepted:
            return selection
        if on_reject == "abstain":
            raise rejection_error(selection)
        return await escalate(
            selection,
            sample_request,
            lambda rest, begun: self._select_with_schema(rest, None, tracker, begun, response_schema=response_schema),
        )

    async def _select_with_schema(
        self,
        sample_request: SampleRequest,
        rule: StoppingRule | None = None,
        tracker: BudgetTracker | None = None,
        existing_completions: Sequence[Completion] = (),
        *,
        response_schema: ResponseSchema | None = None,
    ) -> Selection:
        """Draw and choose; ``begun`` are completions of this question that are there already, and paid."""
        if response_schema is None:
            return await self._sample_and_select(sample_request, rule, tracker, existing_completions)
        ordered, untold = add_schema_fields(sample_request, response_schema, self._provider.codec)
        try:
            selection = await self._sample_and_select(
                ordered, rule, tracker, existing_completions, response_schema=response_schema
            )
        except BadRequestError as error:
            if ordered is sample_request or not is_schema_error(error):
                raise
            untold = (f"The provider refused the schema ({error.message}), so it was asked without.",)
            selection = await self._sample_and_select(
                sample_request, rule, tracker, existing_completions, response_schema=response_schema
            )
        selection = replace(selection, notes=(*untold, *selection.notes))
        require_match(selection, response_schema)
        return selection

    async def _sample_and_select(
        self,
        sample_request: SampleRequest,
        rule: StoppingRule | None = None,
        tracker: BudgetTracker | None = None,
        existing_completions: Sequence[Completion] = (),
        *,
        response_schema: ResponseSchema | None = None,
    ) -> Selection:
        started = time.perf_counter()
        meter = (
            await self._cost_model.create_request_budget(tracker, sample_request, self._provider) if tracker else None
        )
        line = CallContext(
            provider=self._provider,
            model=self._model,
            codec=self._codec,
            transport=await self._transports.get(),
            endpoint=self._endpoint,
            rate_limiter=self._rate_limit.for_this_process(),
            max_retries=self._max_retries,
            must_have_logprobs=self._must_have_logprobs,
            on_event=self._on_event,
            token_ids=self._selection_config.reads_token_ids or self._store is not None,  # kept for any head
        )
        keeping = ReplyCache.create(
            self._store,
            line,
            sample_request,
            base_url=self._cost_model.base_url,
            top_logprobs=self._top_logprobs,
            scorer=self._selection_config.scorer,
        )
        rules = replace(
            self._selection_config,
            sampling_info=SamplingInfo.from_request(
                line.fields(sample_request),
                after_temperature=self._capabilities.logprob_space == "after_temperature",
            ),
            response_schema=response_schema,
        )
        judged = partial(self._select, config=rules)
        watch = StoppingMonitor(rule, sample_request.n, judged) if rule else None
        plan = await self._cost_model.plan(
            sample_request, self._provider, n_max=self._endpoint.n_max, warm_cache=self._warm_cache
        )
        have = dict(enumerate(existing_completions[: sample_request.n]))
        here = len(have)
        if keeping:
            have = merge_cached(
                await keeping.lookup(sample_request.n), existing_completions[: sample_request.n], sample_request.n
            )
        drawn = await sample_completions(
            line,
            sample_request,
            wave_sizes=WAVE_SIZES if watch else (),
            should_stop=watch.should_stop if watch else None,
            request_budget=meter,
            abort_monitor=create_abort_monitor(self._abort, rules.scorer),
            first_alone=plan is not None or self._warm_cache is True,
            on_arrival=keeping.store if keeping else None,
            existing_completions=have,
        )
        kept = await keeping.collect_notes(drawn, n_reused=len(have) - here) if keeping else ()
        if not drawn.completions:
            raise budget_error(drawn, sample_request, None)
        # Scoring is numpy and answers may be compared in another process: neither belongs on the loop.
        selection = await asyncio.to_thread(watch.select if watch else judged, drawn.completions)
        left = None if sample_request.deadline is None else sample_request.deadline - (time.perf_counter() - started)
        selection = await self._external_scorer.rescore(
            selection,
            sample_request.messages,
            seconds_left=left,
            choose=lambda second: self._select(drawn.completions, replace(rules, external_scores=second)),
        )
        selection = await self._judge.rescore(
            selection,
            sample_request.messages,
            seconds_left=left,
            choose=lambda opinion: self._select(drawn.completions, replace(rules, scorer=opinion)),
        )
        self._warn_once(selection, rules, line.endpoint.no_logprobs_reason(line.fields(sample_request)))
        stopped, notes = budget_stop(drawn, sample_request)
        selection = replace(
            selection,
            stopped=stopped or (watch.describe_stop(drawn) if watch else None),
            usage=drawn.usage,
            cost=await asyncio.to_thread(self._cost_model.cost, drawn),
            failures=drawn.failures,
            notes=(*kept, *notes, *([plan.reason] if plan else []), *drawn.notes, *selection.notes),
            reused=len(have) - here,
            elapsed=time.perf_counter() - started,
            provider=self._provider.name,
            model=self._model,
        )
        if len(drawn.completions) < sample_request.min_completions:
            raise budget_error(drawn, sample_request, selection)
        return await asyncio.to_thread(with_acceptance, selection, rules, n=sample_request.n, stopping=rule)

    def _warn_once(self, selection: Selection, config: SelectionConfig, no_logprobs_reason: str | None) -> None:
        """Say once that texts alone decide where logprobs were hoped for; the notes of each Selection say it too."""
        if self._has_warned or self._logprobs_disabled or selection.signal != "text" or config.reads_text_alone:
            return
        self._has_warned = True
        why = no_logprobs_reason or next((note for note in selection.notes if "ogprobs" in note), "none came.")
        logger.warning(
            "%s/%s: no logprobs (%s) %s, or pass judge=.", self._provider.name, self._model, why, NO_LOGPROBS_HINT
        )

    def _select(self, completions: Sequence[Completion], config: SelectionConfig) -> Selection:
        scorer = config.scorer
        try:
            return select_best(completions, config)
        except Exception as error:  # a scorer of the user's may raise anything; paid completions are not lost over it
            if isinstance(scorer, str | AnyHead):
                raise
            logger.warning("the scorer failed with %s; %s scores instead", type(error).__name__, FALLBACK_SCORER)
            logger.debug("the scorer's error", exc_info=True)
            note = f"The scorer failed ({type(error).__name__}: {error}), so {FALLBACK_SCORER} scored instead."
            selection = select_best(completions, replace(config, scorer=FALLBACK_SCORER))
            return replace(selection, notes=(note, *selection.notes))
