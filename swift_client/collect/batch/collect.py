"""Collect through a provider's Batch API: within a day and at half the price, with the rows of a direct collect."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from swift_client.adapters import PROVIDERS, Provider, Transport, capabilities_of, load_codec, resolve
from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import MAX_BYTES, MAX_LINES
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.batch.job import open_jobs
from swift_client.collect.batch.plan import BatchPlan
from swift_client.collect.batch.results import BatchResults
from swift_client.collect.batch.runner import BatchProgress, BatchRunner
from swift_client.collect.batch.service import BatchAPI
from swift_client.collect.budget import Prices, max_completion_cost
from swift_client.collect.collect import run_sync
from swift_client.collect.result import CollectResult
from swift_client.dataset.questions import read_questions
from swift_client.errors import ConfigurationError
from swift_client.sampling import (
    CallContext,
    Endpoint,
    RateLimiter,
    create_sample_request,
)
from swift_client.store import BatchStore, Meta, StoredQuestion
from swift_client.validation import require_int, require_positive

__all__ = ["BatchProgress", "collect_batch", "collect_batch_async"]

DISCOUNT = 0.5
"""What a batch costs of the price of direct calls (OpenAI, Azure, Together at most; 2026)."""


async def collect_batch_async(
    questions: str | os.PathLike[str] | Sequence[StoredQuestion],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider,
    model: str | None = None,
    n: int = 8,
    top_logprobs: int | None = None,
    require_logprobs: bool = True,
    token_ids: bool = True,
    prices: Prices | None = None,
    discount: float = DISCOUNT,
    max_cost: float | None = None,
    max_requests: int | None = None,
    seed: int | None = None,
    base_url: str | None = None,
    api_key: ApiKey | None = None,
    client: object | None = None,
    timeout: float = 60.0,
    max_retries: int = 4,
    max_lines: int = MAX_LINES,
    max_bytes: int = MAX_BYTES,
    poll: tuple[float, float] = (2.0, 60.0),
    settle: float = 60.0,
    forget_batches: bool = False,
    on_progress: Callable[[BatchProgress], None] | None = None,
    **sampling: Any,
) -> CollectResult:
    """Draw ``n`` completions of each question into the file ``out``, as :func:`training.collect` does, by batches.

    Requests, rows and numbers are those of a direct collect. A process killed at any moment has lost nothing: the file
    knows which batches are under way, and the same call waits for them, fetches them, and asks for no completion twice.
    What a batch did not bring (failed, expired and cancelled ones keep what they have) stands in the result's failures,
    and the next call asks for it. Where nothing vouches for a model's logprobs, one completion is asked for directly
    first, at the full price, so that no batch is paid for in vain.

    Args:
        questions: as for ``collect``; so are the arguments not named here.
        out: the samples file. It is held until the batches have ended.
        provider: one whose row says that it has OpenAI's Batch API.
        prices: of direct calls, per million tokens.
        discount: what a batch costs of these prices.
        max_cost: ask for no more than keeps the whole file below this, batches under way included.
        max_requests: put no more requests than this into batches in this call.
        timeout: seconds for one call; an upload may take longer.
        max_lines: requests in one input file.
        max_bytes: bytes of one input file.
        poll: seconds between two looks at the batches, at first and at most.
        settle: seconds after which the provider's list shows every batch that was made; waited for only where a call
            that may have made a batch was not answered.
        forget_batches: give up batches under way, whatever they cost: their output is gone, say.
        on_progress: called after each look at the batches.

    Raises:
        ConfigurationError: a wrong argument, question, or samples file, or a provider without batches.
        LogprobsUnavailableError: none come, and ``require_logprobs`` is set.
        SwiftClientError: no batch could be made, or nothing could be fetched; those under way are not forgotten.
    """
    asked = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    require_int("n", n, low=1, high=1024)
    require_int("max_retries", max_retries, low=0)
    require_int("max_lines", max_lines, low=1, high=MAX_LINES)
    require_int("max_bytes", max_bytes, low=1, high=MAX_BYTES)
    require_positive("timeout", timeout)
    if max_requests is not None:
        require_int("max_requests", max_requests, low=1)
    if seed is not None:
        require_int("seed", seed, low=0, high=2**62)
    for seconds in poll:
        require_positive("poll", seconds)
    require_positive("discount", discount, unit="(a share of the price)")
    halved = (
        None if prices is None else Prices(prompt=prices.prompt * discount, completion=prices.completion * discount)
    )
    longest = max_completion_cost(halved, max_cost, sampling)
    for question in asked:
        create_sample_request(question.messages, n, seed=seed, sampling=sampling)
    row, name = resolve(provider, model, base_url)
    if not row.batches or not isinstance(provider, (str, Provider)) or "hidden_states" in sampling:
        raise ConfigurationError(
            f"Provider {row.name!r} has no batches that this could send.",
            hint=f"{', '.join(each.name for each in PROVIDERS.values() if each.batches)} may; collect directly.",
        )
    known = capabilities_of(row, name)
    k = known.top_logprobs_max if top_logprobs is None else top_logprobs
    require_int("top_logprobs", k, low=0)
    endpoint = Endpoint(
        known,
        top_logprobs=None if row.logprobs_request == "none" or (known.top_logprobs_max == 0 and not k) else k,
        force_logprobs=top_logprobs is not None,
    )
    transport = Transport(row, api_key=api_key, client=client, timeout=timeout, max_connections=2)
    line = CallContext(
        provider=row,
        model=name,
        codec=load_codec(row),
        transport=transport,
        endpoint=endpoint,
        rate_limiter=RateLimiter(1),
        max_retries=max_retries,
        must_have_logprobs=require_logprobs,
        on_event=None,
        token_ids=token_ids,
    )
    url = openai_batch.endpoint(row, line.codec.request(row, name, (), n=1, top_logprobs=None).path)
    try:
        with BatchStore(out, write=True) as store:
            if forget_batches:
                store.forget_batches()
            store.begin(Meta(provider=row.name, model=name, top_logprobs=k, sampling=sampling))
            store.add_questions(asked)
            ends = (wish.first_index + wish.n for job in open_jobs(store) for wish in job.wishes)
            held = store.indices()
            notes = {} if prices is None else {f"Batches are counted at {discount:g} of the given prices.": None}
            run = BatchRunner(
                api=BatchAPI(transport, url, listing_delay=settle, max_retries=max_retries),
                plan=BatchPlan(
                    context=line,
                    url=url,
                    questions=asked,
                    n=n,
                    seed=seed,
                    sampling=sampling,
                    existing_indices=held,
                    prices=halved,
                    max_completion_cost=longest,
                    max_cost=max_cost,
                    max_requests=max_requests,
                ),
                results=BatchResults(
                    store=store,
                    context=line,
                    prices=halved,
                    existing_indices=held,
                    first_extra_index=max([n, *ends]),
                    notes=notes,
                ),
                prices=prices,
                max_lines=max_lines,
                max_bytes=max_bytes,
                poll=poll,
                on_progress=on_progress,
            )
            return await run.run()
    finally:
        await transport.aclose()


collect_batch = run_sync(collect_batch_async)
