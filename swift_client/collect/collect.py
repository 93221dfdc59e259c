"""Collection by direct calls: n completions per question into a samples file, resuming where an earlier run stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, Literal, ParamSpec, TypeVar

from swift_client.adapters import CustomProvider, Provider, connect
from swift_client.adapters.local.model import HuggingFaceModel, resolve_local_provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.collect.judging import connect_verifier
from swift_client.collect.result import (
    CollectedJudgements,
    CollectFailure,
    CollectProgress,
    CollectResult,
    CollectState,
)
from swift_client.collect.runner import CollectRunner
from swift_client.collect.setup import CollectSetup, Prices
from swift_client.errors import ConfigurationError
from swift_client.reranker.config import Redact, resolve_policy
from swift_client.sampling import RateLimit, resolve_rate_limit
from swift_client.sampling.rate_limiter import DEFAULT_MAX_CONCURRENCY
from swift_client.sampling.sync_loop import BackgroundLoop
from swift_client.store import BatchStore, StateFile, StateLayout, StoredQuestion
from swift_client.validation import require_int
from swift_client.verify.verifier import Verifier

__all__ = [
    "CollectFailure",
    "CollectProgress",
    "CollectResult",
    "CollectedJudgements",
    "Prices",
    "collect",
    "collect_async",
]


async def collect_async(
    questions: str | os.PathLike[str] | Sequence[StoredQuestion],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider | CustomProvider,
    model: str | None = None,
    n: int = 16,
    top_logprobs: int | None = None,
    require_logprobs: bool = True,
    token_ids: bool = True,
    prices: Prices | None = None,
    max_cost: float | None = None,
    max_requests: int | None = None,
    concurrency: int = DEFAULT_MAX_CONCURRENCY,
    limit: RateLimit | None = None,
    seed: int | None = None,
    base_url: str | None = None,
    api_key: ApiKey | None = None,
    client: object | None = None,
    timeout: float = 60.0,
    max_retries: int = 2,
    verifier: Verifier | str | None = None,
    on_progress: Callable[[CollectProgress], None] | None = None,
    redact: Redact = None,
    keep: Literal["all", "arrays"] = "all",
    **sampling: Any,
) -> CollectResult:
    """Collect ``n`` completions per question in the samples file ``out``.

    Each reply is written to the file, safe from kill -9, before it is used. A question's completions are numbered from
    0; those already in the file are not requested again. A call that fails after its retries loses only its own
    completions, and the next run requests them again.

    Args:
        questions: a questions file (see ``training.questions``), or questions.
        out: the samples file; created if it does not exist, else continued.
        provider: as for SwiftReranker; so are model, base_url, api_key, client, timeout and max_retries.
        model: default: the provider's default model.
        n: completions per question.
        top_logprobs: alternatives per token; default: as many as the provider allows.
        require_logprobs: raise if none come; a head needs them.
        token_ids: also store the identities of the alternatives; about 26 KB more per 400 tokens.
        prices: prices per million tokens; without them every cost is None.
        max_cost: stop before the whole file has cost more. Needs prices, and ``max_tokens`` among the sampling fields,
            which limits the cost of a call. Charges for failed calls are not known, and not counted.
        max_requests: send at most this many requests in this run, retries included.
        concurrency: number of questions, and of requests, in parallel.
        limit: a RateLimit that others with this API key share, with requests and tokens per minute; it has its own
            number of concurrent requests.
        seed: the same seed requests the same completions. The call that brings completion i of a question sends
            ``question_seed(question_id, seed)`` + i.
        base_url: overrides the provider's address.
        api_key: default: the provider's environment variable.
        client: your own openai client.
        timeout: seconds per call.
        max_retries: further attempts of a failed call.
        verifier: judges each distinct answer of a question once its samples are complete, whatever its ``when``; also
            of samples that an earlier run has collected. Judgements are in ``Sample.verifier_scores``; a head learns to
            weigh them. Judgements that failed are missing, and the next run asks for them. The verifier's calls count
            towards ``max_cost`` and ``max_requests``. Its mode "auto" means "p_true"; "pairwise" is refused.
        on_progress: called after each reply and each failure.
        redact: as for SwiftReranker; so is keep. A completion that nobody could grade later, since its text is not
            stored as it came, is graded as it arrives if its question has an answer.
        keep: "arrays" stores no text.
        sampling: further fields of the request, such as ``temperature`` and ``max_tokens``. ``hidden_states`` (True, or
            layers, of which "vocabulary" is one) of a local model are kept in a file of their own, ``out``.states.
            Arguments of a reranker and misspelled fields are refused; ``extra_body``, a dict, may have any field.

    Raises:
        ConfigurationError: an argument, a question or the samples file is wrong; nothing was sent.
        AuthenticationError: the key is refused.
        LogprobsUnavailableError: no logprobs come, and ``require_logprobs`` is set.
        SwiftClientError: the first questions all failed, and nothing has come.
    """
    setup = CollectSetup(
        questions,
        provider=provider,
        model=model,
        base_url=base_url,
        n=n,
        top_logprobs=top_logprobs,
        prices=prices,
        max_cost=max_cost,
        max_requests=max_requests,
        seed=seed,
        timeout=timeout,
        max_retries=max_retries,
        sampling=sampling,
    )
    require_int("concurrency", concurrency, low=1)
    rate_limit = resolve_rate_limit(limit, concurrency, name="concurrency")
    concurrency = rate_limit.max_concurrency
    server = resolve_local_provider(provider, setup.provider, setup.model)
    transport = connect(
        server, setup.provider, api_key=api_key, client=client, timeout=timeout, max_connections=concurrency
    )
    own_client = setup.create_model_client(transport, rate_limit=rate_limit, client=client)
    connected = connect_verifier(verifier, own_client, timeout=timeout)
    try:
        policy = resolve_policy(redact, keep, "auto")
        if policy is not None and sampling.get("hidden_states"):
            raise ConfigurationError(
                "Hidden states cannot be stored with redact= or keep=: they give the text back.",
                hint="Leave hidden_states out.",
            )
        with BatchStore(out, write=True, policy=policy) as store, ExitStack() as stack:
            store.refuse_open_batches()
            state_file = await _open_state_file(server, out, sampling, stack)
            store.begin(setup.meta)
            store.add_questions(setup.questions)
            state = CollectState(setup=setup, store=store, direct_prices=prices, on_progress=on_progress)
            _require_states(state_file, state.existing_indices, out)
            context = setup.create_context(
                transport,
                rate_limiter=rate_limit.for_this_process(),
                require_logprobs=require_logprobs,
                token_ids=token_ids,
            )
            runner = CollectRunner(state=state, context=context, state_file=state_file, verifier=connected)
            return await runner.run(workers=concurrency)
    finally:
        if connected and connected.judge.model.transports is not own_client.transports:
            await connected.judge.model.transports.aclose()
        await transport.aclose()


async def _open_state_file(
    server: object, out: str | os.PathLike[str], sampling: dict[str, Any], stack: ExitStack
) -> StateFile | None:
    """Open the file for hidden states; return None if none are requested."""
    if not sampling.get("hidden_states"):
        return None
    if not isinstance(server, HuggingFaceModel):
        raise ConfigurationError(
            "Only a local model gives hidden states.", hint='Use provider="huggingface", or leave hidden_states out.'
        )
    resolved = await asyncio.to_thread(server.resolve_capture, sampling)
    if resolved is None:
        return None
    capture, width, vocabulary = resolved
    layers = capture.layers or ()
    layout = StateLayout(layers=layers, width=width if layers else 0, moment=capture.moment, vocabulary=vocabulary)
    return stack.enter_context(StateFile(out, write_layout=layout))


def _require_states(
    state_file: StateFile | None, existing_indices: dict[str, set[int]], out: str | os.PathLike[str]
) -> None:
    """Raise ConfigurationError if samples lack their states: the samples file was kept, the states file lost."""
    if state_file is None:
        return
    samples = {(question_id, index) for question_id, indices in existing_indices.items() for index in indices}
    if without_states := samples - set(state_file.keys()):
        raise ConfigurationError(
            f"{out} holds {len(without_states):,} samples whose hidden states are not in {state_file.path}.",
            hint="Put the states file back beside it, or collect into a new file.",
        )


P = ParamSpec("P")
R = TypeVar("R")


def run_sync(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Return a function that runs the coroutine function and waits, also inside a running event loop.

    An interrupt (Ctrl-C) stops it; everything that has arrived is in the file, and the next run continues from there.
    """

    @wraps(function)
    def run(*arguments: P.args, **settings: P.kwargs) -> R:
        loop = BackgroundLoop()
        try:
            return loop.run(partial(function, *arguments, **settings))
        finally:
            loop.close()

    return run


collect = run_sync(collect_async)
