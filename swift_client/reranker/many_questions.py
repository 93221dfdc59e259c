"""The arguments of ``best_of_many``, checked once, and the pool that answers its questions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from secrets import token_hex
from typing import Any

from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.reranker.best_of import CallOptions, Run
from swift_client.reranker.config import resolve_call
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.reranker.question_pool import Key, Outcome, Prompt, QuestionPool
from swift_client.sampling import BudgetTracker, Cost, SampleRequest, check_messages
from swift_client.sampling.budget_share import SharedBudget
from swift_client.types import Selection
from swift_client.validation import require_int

_ARGUMENTS: dict[str, Any] = {
    "min_completions": 1, "deadline": None, "seed": None, "stopping": None, "budget": None, "on_reject": "return",
    "response_model": None, "reference": None, "extra_body": None,
}  # fmt: skip
"""The arguments of ``best_of`` that are not fields of the request, and their defaults."""
_FIELDS = CallOptions.__annotations__.keys() - _ARGUMENTS.keys()


class ManyQuestions:
    """The checks of the arguments, and the pool of questions."""

    _run: Run  # answers one question

    @property
    def _first_pipeline(self) -> SelectionPipeline:
        """The pipeline that every question meets first: its limit decides how many run at once."""
        raise NotImplementedError

    def _create_pool(self, n: int, options: dict[str, Any], *, in_order: bool, concurrency: int | None) -> QuestionPool:
        """Check the arguments of ``best_of_many`` but the prompts, and return a pool that answers questions."""
        if concurrency is None:
            limit = self._first_pipeline.config.sampling.rate_limit.max_concurrency
            concurrency = limit + math.ceil(limit / 4)  # requests go on while answers are scored
        require_int("concurrency", concurrency, low=1)
        arguments = {name: options.pop(name, default) for name, default in _ARGUMENTS.items()}
        named = {name: options.pop(name) for name in _FIELDS & options.keys()}
        # Everything but the prompt is checked once; the prompt here is replaced by each question's own.
        request, run_options = resolve_call("-", n, sampling=options, named=named, **arguments)
        budget = SharedBudget(run_options.budget) if run_options.budget else None

        async def answer(prompt: Prompt) -> Selection:
            question = replace(request, messages=check_messages(prompt))
            own_options = replace(run_options, selection_id=token_hex(16))
            if budget is None or run_options.budget is None:
                return await self._run(question, own_options)
            tracker = run_options.budget
            async with budget.share(lambda: _cost_bound(self._first_pipeline, question, tracker)) as share:
                return await self._run(question, replace(own_options, budget=share))

        return QuestionPool(answer, concurrency=concurrency, in_order=in_order)


def require_prompts(prompts: object, *kinds: type) -> None:
    """Raise ConfigurationError unless ``prompts`` is an iterable of one of ``kinds``, and not a single prompt."""
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, kinds):
        raise ConfigurationError(
            f"The prompts must be an iterable of prompts, not {type(prompts).__name__}.",
            hint='Such as ["What is 2 + 3?", "What is 9 - 4?"], or pairs of an id and a prompt. Only the async clients '
            "read async iterables.",
        )


async def _cost_bound(pipeline: SelectionPipeline, request: SampleRequest, tracker: BudgetTracker) -> Cost:
    """Return the worst-case cost of a question's completions, without retries and judgements."""
    budget = await pipeline.config.cost.create_request_budget(tracker, request)
    return budget.question_bound(request.n, n_max=1 if pipeline.config.sampling.abort else pipeline.endpoint.n_max)


def unwrap(result: tuple[Key, Outcome], *, in_order: bool, return_exceptions: bool) -> Any:
    """Return a result as the iterator yields it; raise an error that is not to be returned."""
    _, outcome = result
    if isinstance(outcome, SwiftClientError) and not return_exceptions:
        raise outcome
    return outcome if in_order else result
