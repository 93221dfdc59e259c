"""The road from a prompt to a Selection, with all that may happen on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from swift_client.errors import BadRequestError
from swift_client.models import AnyHead
from swift_client.reranker.acceptance import accepted, reaction
from swift_client.reranker.caching import Keeping, together
from swift_client.reranker.config import Reranker
from swift_client.reranker.cost import ended, out_of_budget
from swift_client.reranker.escalation import escalated, rejected
from swift_client.reranker.response_schema import about_the_shape, fitting, told
from swift_client.sampling import REMEDY, Account, Line, Order, draw
from swift_client.scoring.invalid_logprobs import Origin
from swift_client.selection.select import UNTRAINED, Rules, judge
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import WAVES, Watch, aborting_of
from swift_client.structured.schema import Shape
from swift_client.types import Completion, Selection

logger = logging.getLogger(__name__)


class Asking(Reranker):
    """A reranker that asks: all but the call itself, which is sync or async. Its arguments are those of the base."""

    async def _best_of(
        self,
        question: Order,
        rule: StoppingRule | None = None,
        account: Account | None = None,
        on_reject: str = "return",
        shape: Shape | None = None,
    ) -> Selection:
        reaction(on_reject, self._rules, n=question.n, stopping=rule)
        selection = await self._ask(question, rule, account, shape=shape)
        if on_reject == "return" or selection.accepted:
            return selection
        if on_reject == "abstain":
            raise rejected(selection)
        return await escalated(
            selection, question, lambda rest, begun: self._ask(rest, None, account, begun, shape=shape)
        )

    async def _ask(
        self,
        question: Order,
        rule: StoppingRule | None = None,
        account: Account | None = None,
        begun: Sequence[Completion] = (),
        *,
        shape: Shape | None = None,
    ) -> Selection:
        """Draw and choose; ``begun`` are completions of this question that are there already, and paid."""
        if shape is None:
            return await self._asked(question, rule, account, begun)
        ordered, untold = told(question, shape, self._row.codec)
        try:
            selection = await self._asked(ordered, rule, account, begun, shape=shape)
        except BadRequestError as error:
            if ordered is question or not about_the_shape(error):
                raise
            untold = (f"The provider refused the schema ({error.message}), so it was asked without.",)
            selection = await self._asked(question, rule, account, begun, shape=shape)
        selection = replace(selection, notes=(*untold, *selection.notes))
        fitting(selection, shape)
        return selection

    async def _asked(
        self,
        question: Order,
        rule: StoppingRule | None = None,
        account: Account | None = None,
        begun: Sequence[Completion] = (),
        *,
        shape: Shape | None = None,
    ) -> Selection:
        started = time.perf_counter()
        meter = await self._tariff.meter(account, question, self._row) if account else None
        line = Line(
            provider=self._row,
            model=self._model,
            codec=self._codec,
            transport=await self._transports.get(),
            endpoint=self._endpoint,
            limit=self._limit.here(),
            max_retries=self._max_retries,
            must_have_logprobs=self._must_have_logprobs,
            on_event=self._on_event,
            token_ids=self._rules.reads_token_ids or self._store is not None,  # kept for any head
        )
        keeping = Keeping.of(
            self._store,
            line,
            question,
            base_url=self._tariff.base_url,
            top_logprobs=self._top_logprobs,
            scorer=self._rules.scorer,
        )
        rules = replace(self._rules, origin=Origin.of(self._known, line.fields(question)), shape=shape)
        judged = partial(self._judged, rules=rules)
        watch = Watch(rule, question.n, judged) if rule else None
        plan = await self._tariff.plan(question, self._row, n_max=self._endpoint.n_max, warm_cache=self._warm_cache)
        have = dict(enumerate(begun[: question.n]))
        here = len(have)
        if keeping:
            have = together(await keeping.recall(question.n), begun[: question.n], question.n)
        drawn = await draw(
            line,
            question,
            waves=WAVES if watch else (),
            enough=watch.enough if watch else None,
            meter=meter,
            aborting=aborting_of(self._abort, rules.scorer),
            first_alone=plan is not None or self._warm_cache is True,
            on_arrival=keeping.arrived if keeping else None,
            have=have,
        )
        kept = await keeping.notes(drawn, reused=len(have) - here) if keeping else ()
        if not drawn.completions:
            raise out_of_budget(drawn, question, None)
        # Scoring is numpy and answers may be compared in another process: neither belongs on the loop.
        selection = await asyncio.to_thread(watch.judged if watch else judged, drawn.completions)
        left = None if question.deadline is None else question.deadline - (time.perf_counter() - started)
        selection = await self._external.fused(
            selection,
            question.messages,
            left=left,
            choose=lambda second: self._judged(drawn.completions, replace(rules, second=second)),
        )
        selection = await self._bench.heard(
            selection,
            question.messages,
            left=left,
            choose=lambda opinion: self._judged(drawn.completions, replace(rules, scorer=opinion)),
        )
        self._warn_once(selection, rules, line.endpoint.silent(line.fields(question)))
        stopped, notes = ended(drawn, question)
        selection = replace(
            selection,
            stopped=stopped or (watch.stopped(drawn) if watch else None),
            usage=drawn.usage,
            cost=await asyncio.to_thread(self._tariff.cost, drawn),
            failures=drawn.failures,
            notes=(*kept, *notes, *([plan.reason] if plan else []), *drawn.notes, *selection.notes),
            reused=len(have) - here,
            elapsed=time.perf_counter() - started,
            provider=self._row.name,
            model=self._model,
        )
        if len(drawn.completions) < question.min_completions:
            raise out_of_budget(drawn, question, selection)
        return await asyncio.to_thread(accepted, selection, rules, n=question.n, stopping=rule)

    def _warn_once(self, selection: Selection, rules: Rules, silent: str | None) -> None:
        """Say once that texts alone decide where logprobs were hoped for; the notes of each Selection say it too."""
        if self._warned or self._hopes_for_none or selection.signal != "text" or rules.reads_text_alone:
            return
        self._warned = True
        why = silent or next((note for note in selection.notes if "ogprobs" in note), "none came.")
        logger.warning("%s/%s: no logprobs (%s) %s, or pass judge=.", self._row.name, self._model, why, REMEDY)

    def _judged(self, completions: Sequence[Completion], rules: Rules) -> Selection:
        scorer = rules.scorer
        try:
            return judge(completions, rules)
        except Exception as error:  # a scorer of the user's may raise anything; paid completions are not lost over it
            if isinstance(scorer, str | AnyHead):
                raise
            logger.warning("the scorer failed with %s; %s scores instead", type(error).__name__, UNTRAINED)
            logger.debug("the scorer's error", exc_info=True)
            note = f"The scorer failed ({type(error).__name__}: {error}), so {UNTRAINED} scored instead."
            selection = judge(completions, replace(rules, scorer=UNTRAINED))
            return replace(selection, notes=(note, *selection.notes))
