"""Collection through a provider's Batch API: within a day, at half the price, with the same rows as direct calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from swift_client.adapters import PROVIDERS, Provider, Transport
from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import MAX_BYTES, MAX_LINES
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.batch.plan import BatchPlan
from swift_client.collect.batch.results import BatchResults
from swift_client.collect.batch.runner import BatchProgress, BatchRunner
from swift_client.collect.batch.service import BatchAPI, open_jobs
from swift_client.collect.collect import run_sync
from swift_client.collect.result import CollectResult, CollectState
from swift_client.collect.setup import CollectSetup, Prices
from swift_client.errors import ConfigurationError
from swift_client.reranker.config import Redact, resolve_policy
from swift_client.sampling import RateLimiter
from swift_client.store import BatchStore, StoredQuestion
from swift_client.validation import require_int, require_positive

__all__ = ["BatchProgress", "collect_batch", "collect_batch_async"]

# Price of a batch as a share of the price of direct calls (OpenAI, Azure; Together at most; 2026).
DISCOUNT = 0.5


async def collect_batch_async(
    questions: str | os.PathLike[str] | Sequence[StoredQuestion],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider,
    model: str | None = None,
    n: int = 16,
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
    redact: Redact = None,
    keep: Literal["all", "arrays"] = "all",
    **sampling: Any,
) -> CollectResult:
    """Collect ``n`` completions per question in the samples file ``out``, as ``training.collect`` does, by batches.

    Requests, rows and numbers are those of direct calls. A process killed at any moment loses nothing: the file knows
    which batches are open, and the same call waits for them, fetches them, and requests no completion twice.
    Completions that a batch did not bring (failed, expired and cancelled batches keep what they have) are in the
    result's failures, and the next call requests them. If it is unknown whether a model gives logprobs, one completion
    is first sampled directly, at the full price, before any batch is paid for.

    Args:
        questions: as for ``collect``; so are the arguments not listed here.
        out: the samples file. It is locked until the batches have ended.
        provider: one with OpenAI's Batch API, as the provider table says.
        prices: of direct calls, per million tokens.
        discount: price of a batch as a share of these prices.
        max_cost: request no more than keeps the whole file below this cost, open batches included.
        max_requests: put at most this many requests into batches in this call.
        timeout: seconds per call; an upload may take longer.
        max_lines: requests per input file.
        max_bytes: bytes per input file.
        poll: seconds between two polls of the batches, at first and at most.
        settle: seconds after which the provider's list shows every batch that was created; waited for only if a call
            that may have created a batch was not answered.
        forget_batches: forget open batches, although they may be paid for; for example if their output is gone.
        on_progress: called after each poll of the batches.
        redact: as for ``collect``; so is keep. Input and output of batches are then held in memory and not in
            temporary files; the provider keeps them unredacted.
        keep: "arrays" stores no text.

    Raises:
        ConfigurationError: an argument, a question or the samples file is wrong, or the provider has no batches.
        LogprobsUnavailableError: no logprobs come, and ``require_logprobs`` is set.
        SwiftClientError: no batch could be created, or nothing could be fetched; open batches are not forgotten.
    """
    if "verifier" in sampling:
        raise ConfigurationError(
            "Batches cannot be judged.",
            hint="Fetch the batches first. Then collect into the same file without batches, with the verifier: this "
            "samples nothing again.",
        )
    require_int("max_lines", max_lines, low=1, high=MAX_LINES)
    require_int("max_bytes", max_bytes, low=1, high=MAX_BYTES)
    for seconds in poll:
        require_positive("poll", seconds)
    require_positive("discount", discount, unit="(a share of the price)")
    batch_prices = prices and Prices(prompt=prices.prompt * discount, completion=prices.completion * discount)
    setup = CollectSetup(
        questions,
        provider=provider,
        model=model,
        base_url=base_url,
        n=n,
        top_logprobs=top_logprobs,
        prices=batch_prices,
        max_cost=max_cost,
        max_requests=max_requests,
        seed=seed,
        timeout=timeout,
        max_retries=max_retries,
        sampling=sampling,
    )
    row = setup.provider
    if not row.batches or not isinstance(provider, (str, Provider)) or "hidden_states" in sampling:
        names = ", ".join(provider.name for provider in PROVIDERS.values() if provider.batches)
        raise ConfigurationError(
            f"Provider {row.name!r} has no batches for these requests.",
            hint=f"Providers with batches: {names}. Or collect by direct calls.",
        )
    transport = Transport(row, api_key=api_key, client=client, timeout=timeout, max_connections=2)
    context = setup.create_context(
        transport, rate_limiter=RateLimiter(1), require_logprobs=require_logprobs, token_ids=token_ids
    )
    url = openai_batch.endpoint(row, context.codec.request(CompletionRequest(row, setup.model, ())).path)
    try:
        with BatchStore(out, write=True, policy=resolve_policy(redact, keep, "auto")) as store:
            if forget_batches:
                store.forget_batches()
            store.begin(setup.meta)
            store.add_questions(setup.questions)
            state = CollectState(setup=setup, store=store, direct_prices=prices, on_progress=on_progress)
            if prices is not None:
                state.notes.setdefault(f"Batches are counted at {discount:g} of the given prices.")
            # Surplus completions get indices above all that any request asks for.
            pending_ends = [request.first_index + request.n for job in open_jobs(store) for request in job.wishes]
            runner = BatchRunner(
                api=BatchAPI(transport, url, listing_delay=settle, max_retries=max_retries),
                plan=BatchPlan(state=state, context=context, url=url),
                results=BatchResults(state=state, context=context, first_extra_index=max([n, *pending_ends])),
                max_lines=max_lines,
                max_bytes=max_bytes,
                poll=poll,
            )
            return await runner.run()
    finally:
        await transport.aclose()


collect_batch = run_sync(collect_batch_async)
