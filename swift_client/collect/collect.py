"""Draw n completions of each question into a samples file, and go on where an earlier run stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from swift_client.adapters import CustomProvider, Provider, capabilities_of, connect, load_codec, resolve
from swift_client.adapters.local.model import HuggingFaceModel, resolve_local_provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.budget import CappedRateLimiter, CollectBudget, Prices, max_completion_cost
from swift_client.collect.result import CollectFailure, CollectProgress, CollectResult
from swift_client.collect.runner import CollectRunner
from swift_client.dataset.questions import read_questions
from swift_client.errors import ConfigurationError
from swift_client.reranker.sync_loop import BackgroundLoop
from swift_client.sampling import CallContext, Endpoint, create_sample_request
from swift_client.store import BatchStore, Meta, StateFile, StateLayout, StoredQuestion
from swift_client.validation import require_int, require_positive

__all__ = ["CollectFailure", "CollectProgress", "CollectResult", "Prices", "collect", "collect_async"]


async def collect_async(
    questions: str | os.PathLike[str] | Sequence[StoredQuestion],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider | CustomProvider,
    model: str | None = None,
    n: int = 8,
    top_logprobs: int | None = None,
    require_logprobs: bool = True,
    token_ids: bool = True,
    prices: Prices | None = None,
    max_cost: float | None = None,
    max_requests: int | None = None,
    concurrency: int = 16,
    seed: int | None = None,
    base_url: str | None = None,
    api_key: ApiKey | None = None,
    client: object | None = None,
    timeout: float = 60.0,
    max_retries: int = 2,
    on_progress: Callable[[CollectProgress], None] | None = None,
    **sampling: Any,
) -> CollectResult:
    """Draw ``n`` completions of each question into the file ``out``.

    Each reply is in the file, safe from kill -9, before anything else is done with it. A question's completions are
    numbered from 0; those that the file has already are not asked for again. A call that fails after its retries costs
    its own completions alone, and the next run asks for them.

    Args:
        questions: a questions file (see ``training.questions``), or questions.
        out: the samples file; made where there is none, else gone on with.
        provider: as for SwiftReranker; so are model, base_url, api_key, client, timeout and max_retries.
        model: default: the row's default model.
        n: completions a question.
        top_logprobs: alternatives a token; default: as many as the row knows.
        require_logprobs: raise where none come; a head needs them.
        token_ids: also keep which tokens the alternatives were; about 26 KB more for 400 tokens.
        prices: what a million tokens cost; without them every cost is None.
        max_cost: stop before the whole file has cost more. Needs prices, and ``max_tokens`` among the sampling fields:
            without it nobody knows what a call may cost. What a provider charges for calls that failed is not known.
        max_requests: send no more requests than this in this run, retries counted.
        concurrency: questions, and requests, under way at once.
        seed: the same seed asks for the same completions. The call that brings completion i of a question sends
            ``asking.seed_of(question, seed)`` + i.
        base_url: overrides the row's.
        api_key: default: the row's environment variable.
        client: your own openai client.
        timeout: seconds for one call.
        max_retries: further attempts of a failed call.
        on_progress: called after each reply and each failure.
        sampling: further fields of the request, such as ``temperature`` and ``max_tokens``. ``hidden_states`` (True, or
            layers, of which "vocabulary" is one) of a local model are kept in a file of their own, ``out``.states.

    Raises:
        ConfigurationError: a wrong argument, question, or samples file; nothing was sent.
        AuthenticationError: the key is refused.
        LogprobsUnavailableError: none come, and ``require_logprobs`` is set.
        SwiftClientError: the first questions all failed, and nothing has come.
    """
    asked = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    require_int("n", n, low=1, high=1024)
    require_int("concurrency", concurrency, low=1)
    require_int("max_retries", max_retries, low=0)
    require_positive("timeout", timeout)
    if max_requests is not None:
        require_int("max_requests", max_requests, low=1)
    if seed is not None:
        require_int("seed", seed, low=0, high=2**62)
    longest = max_completion_cost(prices, max_cost, sampling)
    for question in asked:
        create_sample_request(question.messages, n, seed=seed, sampling=sampling)
    row, name = resolve(provider, model, base_url)
    known = capabilities_of(row, name)
    most = known.top_logprobs_max
    k = most if top_logprobs is None else top_logprobs
    require_int("top_logprobs", k, low=0)
    server = resolve_local_provider(provider, row, name)
    transport = connect(server, row, api_key=api_key, client=client, timeout=timeout, max_connections=concurrency)
    try:
        with BatchStore(out, write=True) as store, ExitStack() as closing:
            store.refuse_open_batches()
            states = await _open_state_file(server, out, sampling, closing)
            store.begin(Meta(provider=row.name, model=name, top_logprobs=k, sampling=sampling))
            store.add_questions(asked)
            spent = store.totals()
            paid = spent.cost if spent.cost is not None else prices.cost(spent.usage) if prices else 0.0
            held = store.indices()
            _require_states(states, held, out)
            limit = CappedRateLimiter(concurrency, max_requests)
            run = CollectRunner(
                context=CallContext(
                    provider=row,
                    model=name,
                    codec=load_codec(row),
                    transport=transport,
                    endpoint=Endpoint(
                        known,
                        top_logprobs=None if row.logprobs_request == "none" or (most == 0 and not k) else k,
                        force_logprobs=top_logprobs is not None,
                    ),
                    rate_limiter=limit,
                    max_retries=max_retries,
                    must_have_logprobs=require_logprobs,
                    on_event=None,
                    token_ids=token_ids,
                ),
                store=store,
                n=n,
                seed=seed,
                sampling=sampling,
                prices=prices,
                budget=CollectBudget(max_cost, prior_cost=paid, max_completion_cost=longest),
                limiter=limit,
                on_progress=on_progress,
                prior_totals=spent,
                existing_indices=held,
                state_file=states,
            )
            return await run.run(asked, workers=concurrency)
    finally:
        await transport.aclose()


async def _open_state_file(
    server: object, out: str | os.PathLike[str], sampling: dict[str, Any], stack: ExitStack
) -> StateFile | None:
    """Open the file for the hidden states that are asked for; None where none are."""
    if not sampling.get("hidden_states"):
        return None
    if not isinstance(server, HuggingFaceModel):
        raise ConfigurationError(
            "Only a local model gives hidden states.", hint='Use provider="huggingface", or do without.'
        )
    found = await asyncio.to_thread(server.resolve_capture, sampling)
    if found is None:
        return None
    capture, width, vocabulary = found
    layers = capture.layers or ()
    layout = StateLayout(layers=layers, width=width if layers else 0, moment=capture.moment, vocabulary=vocabulary)
    return stack.enter_context(StateFile(out, write_layout=layout))


def _require_states(
    state_file: StateFile | None, existing_indices: dict[str, set[int]], out: str | os.PathLike[str]
) -> None:
    """Raise ConfigurationError where the file has samples without states: it was kept, and those were lost."""
    if state_file is None:
        return
    lost = {(question_id, number) for question_id, numbers in existing_indices.items() for number in numbers} - set(
        state_file.keys()
    )
    if lost:
        raise ConfigurationError(
            f"{out} holds {len(lost):,} samples whose hidden states are not in {state_file.path}.",
            hint="Put the file with the states back beside it, or collect into a new file.",
        )


P = ParamSpec("P")
R = TypeVar("R")


def run_sync(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Do what the coroutine function does, and wait for it; also inside a running event loop.

    An interrupt (Ctrl-C) stops it; what has arrived is in the file, and the next run goes on from there.
    """

    @wraps(function)
    def waited(*arguments: P.args, **settings: P.kwargs) -> R:
        portal = BackgroundLoop()
        try:
            return portal.run(partial(function, *arguments, **settings))
        finally:
            portal.close()

    return waited


collect = run_sync(collect_async)
