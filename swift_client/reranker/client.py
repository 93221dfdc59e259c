"""The two clients, sync and async. Each holds one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, Self

from swift_client.adapters import PROVIDERS, CustomProvider, Provider, capabilities_of, connect, load_codec, resolve
from swift_client.adapters.local.model import resolve_local_provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.adapters.transport.http import MAX_REPLY_BYTES
from swift_client.answers import Spec
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead
from swift_client.models.resolve_head import Head, resolve_head
from swift_client.pricing import Prices
from swift_client.reranker.acceptance import run_with_escalation
from swift_client.reranker.config import (
    RequireLogprobs,
    RerankerConfig,
    SamplingConfig,
    Store,
    resolve_call,
    resolve_store,
)
from swift_client.reranker.cost import CostModel
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.reranker.rank_replies import rank_reply
from swift_client.reranker.sync_loop import BackgroundLoop
from swift_client.sampling import Budget, BudgetTracker, EarlyAbort, RateLimit, parse_abort, resolve_rate_limit
from swift_client.scoring.fusion import parse_fusion
from swift_client.scoring.judge import ExternalScorer, Judge, JudgeFunction
from swift_client.selection.select import FALLBACK_SCORER, Scorer, SelectionConfig
from swift_client.stopping.monitor import StoppingSpec, create_abort_monitor
from swift_client.structured.schema import create_response_schema
from swift_client.types import Event, Message, Method, Selection
from swift_client.validation import require_int, require_positive


class _Client:
    """Settings, ``rank`` and ``head``: all that the two clients have in common."""

    def __init__(
        self,
        provider: str | Provider | CustomProvider,
        model: str | None = None,
        *,
        head: Head = "auto",
        scorer: Scorer = "auto",
        answer: Spec = "auto",
        select: Method = "auto",
        require_logprobs: RequireLogprobs = "auto",
        top_logprobs: int | None = None,
        base_url: str | None = None,
        api_key: ApiKey | None = None,
        client: object | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        max_concurrency: int = 16,
        on_event: Callable[[Event], None] | None = None,
        prices: Prices = None,
        store: Store = None,
        warm_cache: Literal["auto"] | bool = "auto",
        limit: RateLimit | None = None,
        abort: str | EarlyAbort | None = None,
        judge: JudgeFunction | None = None,
        external: JudgeFunction | None = None,
        fuse: str = "mean",
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        """Check the settings.

        Args:
            provider: a provider's name ("openai"), name and model ("openai/gpt-4.1-mini"), a Provider, or your own
                object with ``complete(messages, n, **options)``.
            model: default: the provider's default model.
            head: "auto": the head for exactly this provider and model if there is one, packaged or in your folder of
                heads (``swift_client.models.user_folder()``); the name of such a head, such as "pocket/pocket", to
                use it for another model too; a path, HeadArtifact or HiddenHead, which must fit; None: no head.
            scorer: "auto": the head, else "mean_logprob"; a name of ``scorers.SCORERS``; a callable from N
                completions to N numbers, higher is better; "judge": ``judge``, for every question.
            judge: your function, sync or async, from (messages, completions) to N numbers, higher is better, None for
                no opinion. Called if no logprobs come, since agreement alone would decide otherwise. It has
                ``timeout`` seconds; if it fails, the choice is made without it.
            external: a second score per completion, such as a reward model's: a function like ``judge``, called for
                every question (``adapters.reward_model``). If it fails or is late, the scorer decides alone.
            fuse: how the two scores become one: "mean" of their places between lowest and highest, "mean_rank",
                "worst_rank", or "weighted:share=0.3" with the scorer's share. Fused scores, 0..1, weigh votes too.
            answer: how the compared answer is read: "auto", "number", "boxed", "choice", "yes_no", "json", "text", a
                regex, a callable, or None.
            select: "vote", "best", or "auto": vote if answers can be read and compared.
            require_logprobs: "auto" uses what comes and says so in ``Selection.signal``; False asks for no logprobs;
                True raises LogprobsUnavailableError if none come.
            top_logprobs: alternatives per token to ask for; default: as many as the head or the provider knows, at
                most 20.
            base_url: overrides the provider's address.
            api_key: a key, or a function (sync or async) that returns one; default: the provider's environment
                variable. Read at the first request.
            client: your own openai client; it brings its own key and base URL.
            timeout: seconds per call, and of silence in a stream; a stream under a ``deadline`` may take longer.
            max_reply_bytes: bytes of one reply, after decompression; a longer one is a ResponseDecodeError.
            max_retries: further attempts of a failed call.
            max_concurrency: concurrent calls, over all threads and tasks that share this reranker; fewer for a while
                when the provider refuses them (429) or its headers say that little is left.
            limit: a RateLimit that rerankers of one key share, with requests and tokens per minute; it has its own
                ``max_concurrency``.
            on_event: called with an Event for every request, reply, retry and failure.
            prices: your own Price for the model, or a mapping from "model" or "provider/model" to Price; default:
                genai-prices (extra "prices"). They make ``Selection.cost`` and a budget in US dollars.
            store: a samples file, created if missing, that keeps every reply as it arrives. The same request sent
                again, for more answers too, sends only for those that are missing (``Selection.reused``). Threads and
                processes may share the file. It holds prompts and answers in plain text; only its owner may read a
                new one. Your own object is identified by its ``name`` and ``model``. If the file cannot be used, a
                note says why.
            warm_cache: whether the first of several calls is sent alone, to fill the provider's prompt cache for the
                others. "auto": if that is known to save a tenth of the cost and there is no deadline, since it takes
                about twice the time.
            abort: stream every answer by its own call, and close those that lose confidence compared with the first
                ones: "deepconf" (DeepConf-online), "head" (by the head's score so far), with parameters as in
                "deepconf:keep=0.1:warmup=4". Closed answers do not vote; their cost is an estimate.

        Raises:
            ConfigurationError: a setting is wrong; nothing has been sent and no key has been read.
            ArtifactError: the head cannot be read, or is made for another model.
        """
        require_positive("timeout", timeout)
        require_int("max_reply_bytes", max_reply_bytes, low=1)
        require_int("max_concurrency", max_concurrency, low=1)
        if top_logprobs is not None:
            require_int("top_logprobs", top_logprobs, low=0)
        provider_entry, model = resolve(provider, model, base_url)
        capabilities = capabilities_of(provider_entry, model)
        # A number of the caller's own wins over the provider's table, which may be out of date.
        k = capabilities.top_logprobs_max if top_logprobs is None else top_logprobs

        # 1. The head that scores. Without logprobs, or beside a scorer, "auto" looks for none.
        has_no_logprobs = provider_entry.logprobs_request == "none" or (k == 0 and top_logprobs is None)
        without_logprobs = has_no_logprobs or require_logprobs is False
        if head == "auto" and (without_logprobs or scorer != "auto"):
            head = None
        own_address = client is not None or provider_entry is not PROVIDERS.get(provider_entry.name)
        resolved_head = resolve_head(head, provider_entry.name, model, k=k, own_address=own_address)
        artifact = resolved_head.artifact
        if artifact and scorer != "auto":
            raise ConfigurationError("head= and scorer= are both given.", hint="Give one of them.")
        selection = SelectionConfig(
            scorer=artifact or (FALLBACK_SCORER if scorer in ("auto", "judge") else scorer),
            answer=answer,
            select=select,
            force_head=resolved_head.force_head,
            notes=resolved_head.notes,
        )

        # 2. How completions are sampled.
        if artifact and top_logprobs is None:
            k = min(k, artifact.k_max)
        sampling = SamplingConfig(
            require_logprobs=require_logprobs,
            top_logprobs=None if without_logprobs else k,
            force_logprobs=top_logprobs is not None,
            rate_limit=resolve_rate_limit(limit, max_concurrency),
            max_retries=max_retries,
            warm_cache=warm_cache,
            abort=None if abort is None else parse_abort(abort),
            on_event=on_event,
        )
        if sampling.abort:
            create_abort_monitor(sampling.abort, selection.scorer)  # refuses abort="head" without a head
        open_transport = partial(
            connect,
            resolve_local_provider(provider, provider_entry, model, selection.scorer),
            provider_entry,
            api_key=api_key,
            client=client,
            timeout=timeout,
            max_reply_bytes=max_reply_bytes,
            max_connections=sampling.rate_limit.max_concurrency,
            on_headers=lambda headers: sampling.rate_limit.for_this_process().on_headers(headers),
        )
        open_transport()  # connects to nothing; refuses a missing address and a client of another kind

        # 3. What changes the scores afterwards.
        parse_fusion(fuse)
        if scorer == "judge" and judge is None:
            raise ConfigurationError('scorer="judge" needs a judge.', hint="Pass your function as judge=.")
        config = RerankerConfig(
            provider=provider_entry,
            model=model,
            codec=load_codec(provider_entry),  # now: the first call would hold up its event loop with an import
            capabilities=capabilities,
            open_transport=open_transport,
            sampling=sampling,
            selection=selection,
            cost=CostModel.create(provider_entry, model, client, prices),
            external=None if external is None else ExternalScorer(external, fusion=fuse, timeout=timeout),
            judge=None if judge is None else Judge(judge, always_ask=scorer == "judge", timeout=timeout),
            store=resolve_store(store),
            timeout=timeout,
        )
        self.pipeline = SelectionPipeline(config)

    @property
    def head(self) -> AnyHead | None:
        """The head that scores; None if there is none. Its ``training`` says how well it does."""
        scorer = self.pipeline.config.selection.scorer
        return scorer if isinstance(scorer, AnyHead) else None

    def rank(self, response: Any, *, response_model: object | None = None) -> Selection:
        """Choose the best completion of a reply that you already have; nothing is sent.

        ``response`` is bytes, str, dict, an SDK object, or a list of Completion; ``response_model`` as in ``best_of``.
        """
        config = self.pipeline.config
        schema = create_response_schema(response_model)
        return rank_reply(response, config.provider, replace(config.selection, response_schema=schema))

    def __repr__(self) -> str:
        config = self.pipeline.config
        scorer = config.selection.scorer
        name = scorer if isinstance(scorer, str) else getattr(scorer, "name", getattr(scorer, "__name__", "custom"))
        return f"{type(self).__name__}({config.provider.name!r}, {config.model!r}, scorer={name!r})"


class AsyncSwiftReranker(_Client):
    """Best-of-N on the caller's event loop; the arguments are those of ``SwiftReranker``.

    One instance may serve many tasks, and several loops one after another or at once. Use it as
    ``async with AsyncSwiftReranker("openai") as reranker:``, or call ``aclose()`` at the end.
    """

    async def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        min_completions: int = 1,
        deadline: float | None = None,
        seed: int | None = None,
        stopping: StoppingSpec = None,
        budget: Budget | BudgetTracker | None = None,
        on_reject: str = "return",
        response_model: object | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[str, float] | None = None,
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        user: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Selection:
        """Ask ``n`` times and return the best answer; arguments and errors as ``SwiftReranker.best_of()``.

        Cancelling the task closes its connections and leaves nothing behind.
        """
        request, options = resolve_call(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed,
            stopping=stopping, budget=budget, on_reject=on_reject, response_model=response_model,
            sampling=sampling, extra_body=extra_body, named={
                "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": stop,
                "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty, "logit_bias": logit_bias,
                "reasoning_effort": reasoning_effort, "tools": tools, "tool_choice": tool_choice,
                "response_format": response_format, "user": user,
            },
        )  # fmt: skip
        return await run_with_escalation(self.pipeline, request, options)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self.pipeline.transports.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class SwiftReranker(_Client):
    """Best-of-N for sync code: scripts, notebooks, handlers, threads.

    One instance may serve many threads. It starts its own daemon thread with the first call, also after a fork, and
    ends it with ``close()``, with the ``with`` block, or at exit.
    """

    @cached_property
    def _background_loop(self) -> BackgroundLoop:
        return BackgroundLoop()

    def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        min_completions: int = 1,
        deadline: float | None = None,
        seed: int | None = None,
        stopping: StoppingSpec = None,
        budget: Budget | BudgetTracker | None = None,
        on_reject: str = "return",
        response_model: object | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[str, float] | None = None,
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        user: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Selection:
        """Ask ``n`` times and return the best answer.

        Args:
            prompt: a question, or a list of chat messages.
            n: completions to choose from, 1..1024.
            min_completions: with fewer completions than this, an error is raised.
            deadline: seconds from the call after which the best of what has arrived is returned. If the provider
                streams logprobs, calls are streamed, and answers that are finished by then count.
            seed: sent to the provider; the call that brings completion i and the following ones sends seed + i.
            stopping: sample in waves and stop when a rule says that there is enough: "auto", or another name of
                ``swift_client.stopping.STOPPING_RULES``, with parameters as in "beta:threshold=0.9". Running calls are
                cancelled; ``Selection.stopped`` has the reason, the count and the saving. None: all n at once.
            budget: what this call may spend: ``Budget(usd=0.05)``, ``Budget(tokens=4000)``, seconds, calls. Pass
                ``max_tokens`` too. If no further call fits, the best so far is returned, and ``stopped`` and
                ``notes`` say so. ``Budget(...).open()`` is a budget that many calls spend together.
            on_reject: what to do with an answer that is not accepted at the risk that the head was calibrated to
                (``swift-client calibrate``): "return" it, with ``accepted`` False; "abstain": raise RejectedError,
                which holds it; "escalate": sample the completions that a stopping rule left out, and choose again.
            response_model: a pydantic model class, or a JSON schema dict (extra "schema"), that answers have to match:
                their text, a ```json block in it, or the arguments of their one tool call. The schema is sent if the
                wire format has a field for it and the request does not set one. Completions that do not match neither
                vote nor win. Votes are for whole objects; if no two are equal, for their members. The chosen object is
                ``Selection.parsed``, and ``Selection.fields`` describes its members.
            temperature: a field of the request, as are the following ones; None: not sent.
            top_p: share of the probability that tokens are drawn from.
            max_tokens: maximum length of one answer.
            stop: texts that end an answer.
            presence_penalty: penalty of tokens that have occurred.
            frequency_penalty: penalty per occurrence of a token.
            logit_bias: bias of tokens by their id.
            reasoning_effort: "none", "low", "medium", "high", ..., as the provider knows them.
            tools: tools that the model may call.
            tool_choice: "auto", "none", "required", or the tool to call.
            response_format: format of the answer, such as ``{"type": "json_object"}``.
            user: identifies your user to the provider.
            extra_body: fields of the request that may have any name, also one that is refused in ``sampling``, such as
                OpenAI's ``store``. They win over all others.
            sampling: further fields of the request, sent to the provider unchanged: ``top_k``, ``min_p``, ... Arguments
                of the constructor and misspelled fields are refused.

        Returns:
            The choice, with every candidate, its cost (``usage``), the calls that failed, and notes on everything that
            did not go as asked.

        Raises:
            ConfigurationError: an argument is wrong; nothing was sent.
            BudgetExceededError: the budget ended before ``min_completions`` arrived; the best so far is inside.
            NoCompletionError: too few completions arrived, or none matches ``response_model``; every cause is inside.
            RejectedError: ``on_reject="abstain"``, and the answer is not accepted.
            LogprobsUnavailableError: ``require_logprobs=True`` and none come.
            ProviderError: the single cause of all failures, if no retry can help.
        """
        request, options = resolve_call(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed,
            stopping=stopping, budget=budget, on_reject=on_reject, response_model=response_model,
            sampling=sampling, extra_body=extra_body, named={
                "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": stop,
                "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty, "logit_bias": logit_bias,
                "reasoning_effort": reasoning_effort, "tools": tools, "tool_choice": tool_choice,
                "response_format": response_format, "user": user,
            },
        )  # fmt: skip
        return self._background_loop.run(lambda: run_with_escalation(self.pipeline, request, options))

    def close(self) -> None:
        """Cancel running calls, close the connections and end the thread."""
        self._background_loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
