"""The two clients, sync and async. Each holds one pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from swift_client.adapters import CustomProvider, Provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.adapters.transport.http import MAX_REPLY_BYTES
from swift_client.answers import Spec
from swift_client.models import AnyHead
from swift_client.models.resolve_head import Head
from swift_client.pricing import Prices
from swift_client.reranker.acceptance import run_with_escalation
from swift_client.reranker.best_of import Run
from swift_client.reranker.best_of_many import AsyncBestOfMany, SyncBestOfMany
from swift_client.reranker.config import Redact, RequireLogprobs, Store, create_config
from swift_client.reranker.feedback import queue_feedback
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.reranker.rank_replies import RankedQuestion, rank_reply, rank_reply_verified
from swift_client.sampling import EarlyAbort, RateLimit
from swift_client.scoring.judge import JudgeFunction
from swift_client.scoring.result import UserSimilarity
from swift_client.selection.select import Scorer
from swift_client.structured.schema import create_response_schema
from swift_client.types import Event, Message, Method, Selection
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.verifier import Verifier, resolve_verifier

if TYPE_CHECKING:
    from swift_client.monitoring.guard import Action, DriftGuard

T = TypeVar("T")


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
        similarity: str | UserSimilarity | None = None,
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
        verifier: Verifier | str | None = None,
        external: JudgeFunction | None = None,
        fuse: str = "mean",
        max_reply_bytes: int = MAX_REPLY_BYTES,
        shadow: Head = None,
        redact: Redact = None,
        keep: Literal["all", "arrays"] = "all",
        drift: Action | DriftGuard | None = "note",
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
            verifier: a Verifier, or the name of its judge: "self" or a provider and model. A model then judges the
                distinct answers if the votes leave the leading one in doubt, and both choose together.
            external: a second score per completion, such as a reward model's: a function like ``judge``, called for
                every question (``adapters.reward_model``). If it fails or is late, the scorer decides alone.
            fuse: how the two scores become one: "mean" of their places between lowest and highest, "mean_rank",
                "worst_rank", or "weighted:share=0.3" with the scorer's share. Fused scores, 0..1, weigh votes too.
            answer: how the compared answer is read: "auto", "number", "boxed", "choice", "yes_no", "json", "text", a
                regex, a callable, or None.
            select: "vote", "best", "consensus" (the text most like the others), or "auto": vote if answers can be read
                and compared; consensus of three or more texts if there are no logprobs either.
            similarity: how texts are compared for a consensus: "token_f1" (words; the default), "chrf" (character
                n-grams), "content" (the share of the words that not nearly all texts have), "embedding:openai/MODEL" or
                "embedding:model=MODEL" (cosine of embeddings by that model, or by one of the same provider), or your
                function from the M different texts to their similarities, (M, M) numbers from 0 to 1. If it fails, or
                takes more than ``timeout`` seconds, "token_f1" takes its place and a note says so.
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
                note says why. Processes on several hosts share replies through a Redis instead
                (``redis://host:6379/0?ttl=86400``, extra "redis"), which stores neither prompts nor choices.
            redact: what is removed from all that is stored: presets ("mails", "phones", "cards", "ibans", "keys"), your
                function from a text to a text, or a list of both. Completions that it changes are not reused. If your
                function fails, nothing is stored, and a note says so.
            keep: "arrays": of completions only numbers and hashes are stored, and nothing is reused.
            warm_cache: whether the first of several calls is sent alone, to fill the provider's prompt cache for the
                others. "auto": if that is known to save a tenth of the cost and there is no deadline, since it takes
                about twice the time.
            abort: stream every answer by its own call, and close those that lose confidence compared with the first
                ones: "deepconf" (DeepConf-online), "head" (by the head's score so far), with parameters as in
                "deepconf:keep=0.1:warmup=4". Closed answers do not vote; their cost is an estimate.
            shadow: a second head on logprobs, given as ``head`` but not "auto", that scores every question of
                ``best_of`` and decides nothing: ``Selection.shadow`` has its choice, which ``store=`` records. If it
                fails, only ``Selection.shadow.error`` says so. If it reads more alternatives per token than ``head``,
                as many are asked for.
            drift: what happens while the answers are unlike those that the head was trained on, as when the provider
                has changed the model: "note" says so in ``Selection.notes``, the log and an Event; "withhold" also
                accepts no answer; "set_aside" also chooses as without a head. Heads know their training's answers
                since 0.2; "note" does nothing without. A ``swift_client.monitoring.DriftGuard`` has another reference
                or rate of false alarms. None: answers are not compared.

        Raises:
            ConfigurationError: a setting is wrong; nothing has been sent and no key has been read.
            ArtifactError: the head cannot be read, or is made for another model.
        """
        config = create_config(
            provider, model, head=head, scorer=scorer, answer=answer, select=select, similarity=similarity,
            require_logprobs=require_logprobs, top_logprobs=top_logprobs, base_url=base_url, api_key=api_key,
            client=client, timeout=timeout, max_retries=max_retries, max_concurrency=max_concurrency,
            on_event=on_event, prices=prices, store=store, warm_cache=warm_cache, limit=limit, abort=abort,
            judge=judge, verifier=verifier, external=external, fuse=fuse, max_reply_bytes=max_reply_bytes,
            shadow=shadow, redact=redact, keep=keep, drift=drift,
        )  # fmt: skip
        self.pipeline = SelectionPipeline(config)
        self._run: Run = partial(run_with_escalation, self.pipeline)

    @property
    def _first_pipeline(self) -> SelectionPipeline:
        return self.pipeline

    @property
    def head(self) -> AnyHead | None:
        """The head that scores; None if there is none. Its ``training`` says how well it does."""
        scorer = self.pipeline.config.selection.scorer
        return scorer if isinstance(scorer, AnyHead) else None

    def _rank_unverified(
        self,
        response: Any,
        response_model: object | None,
        prompt: str | Sequence[Message] | None,
        reference: str | None,
    ) -> Selection:
        config = self.pipeline.config
        selection = replace(config.selection, response_schema=create_response_schema(response_model))
        return rank_reply(response, config.provider, selection, RankedQuestion.create(prompt, reference))

    async def _rank_verified(
        self,
        response: Any,
        response_model: object | None,
        prompt: str | Sequence[Message] | None,
        reference: str | None,
        verifier: Verifier | str,
    ) -> Selection:
        config = self.pipeline.config
        selection = replace(config.selection, response_schema=create_response_schema(response_model))
        question = RankedQuestion.create(prompt, reference)
        checked = resolve_verifier(verifier) or Verifier()
        own = self.pipeline.model_client
        judge = connect_judge(checked.judge, own, timeout=config.timeout)
        try:
            return await rank_reply_verified(response, config.provider, selection, question, checked, judge)
        finally:
            # Connections to another provider were opened for this reply alone.
            if not judge.is_borrowed and judge.model.transports is not own.transports:
                await judge.model.transports.aclose()

    def __repr__(self) -> str:
        config = self.pipeline.config
        scorer = config.selection.scorer
        name = scorer if isinstance(scorer, str) else getattr(scorer, "name", getattr(scorer, "__name__", "custom"))
        return f"{type(self).__name__}({config.provider.name!r}, {config.model!r}, scorer={name!r})"


class AsyncSwiftReranker(_Client, AsyncBestOfMany):
    """Best-of-N on the caller's event loop; the arguments are those of ``SwiftReranker``.

    One instance may serve many tasks, and several loops one after another or at once. Use it as
    ``async with AsyncSwiftReranker("openai") as reranker:``, or call ``aclose()`` at the end.
    """

    @overload
    def rank(
        self, response: Any, *, response_model: type[T], prompt: str | Sequence[Message] | None = None
    ) -> Selection[T]: ...

    @overload
    def rank(
        self,
        response: Any,
        *,
        response_model: Mapping[str, Any] | None = None,
        prompt: str | Sequence[Message] | None = None,
    ) -> Selection[Any]: ...

    def rank(
        self,
        response: Any,
        *,
        response_model: object | None = None,
        prompt: str | Sequence[Message] | None = None,
    ) -> Selection:
        """Choose the best completion of a reply that you already have; nothing is sent.

        ``response`` is bytes, str, dict, an SDK object, or a list of Completion; ``response_model`` and ``prompt`` as
        in ``best_of``. A head that knows the questions of its training accepts no answer without ``prompt``. With a
        verifier it is ``arank()``.
        """
        return self._rank_unverified(response, response_model, prompt, None)

    @overload
    async def arank(
        self,
        response: Any,
        *,
        response_model: type[T],
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection[T]: ...

    @overload
    async def arank(
        self,
        response: Any,
        *,
        response_model: Mapping[str, Any] | None = None,
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection[Any]: ...

    async def arank(
        self,
        response: Any,
        *,
        response_model: object | None = None,
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection:
        """Choose the best completion of a reply that you already have, and let a verifier judge it if there is one.

        ``response`` is bytes, str, dict, an SDK object, or a list of Completion; ``response_model``, ``prompt`` and
        ``reference`` as in ``best_of``. A head that knows the questions of its training accepts no answer without
        ``prompt``, and ``verifier`` cannot judge without it. Its judge may be "self", the model of this reranker. The
        verifier that the reranker was made with judges in ``best_of()`` only; give it here too.
        """
        if verifier is None:
            return await asyncio.to_thread(self._rank_unverified, response, response_model, prompt, reference)
        return await self._rank_verified(response, response_model, prompt, reference, verifier)

    async def feedback(self, id: str, *, correct: bool | None) -> None:
        """Store whether a chosen answer was right; arguments and errors as ``SwiftReranker.feedback()``."""
        await asyncio.wrap_future(queue_feedback(self.pipeline.config.store, id, correct))

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self.pipeline.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class SwiftReranker(_Client, SyncBestOfMany):
    """Best-of-N for sync code: scripts, notebooks, handlers, threads.

    One instance may serve many threads. It starts its own daemon thread with the first call, also after a fork, and
    ends it with ``close()``, with the ``with`` block, or at exit.
    """

    @overload
    def rank(
        self,
        response: Any,
        *,
        response_model: type[T],
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection[T]: ...

    @overload
    def rank(
        self,
        response: Any,
        *,
        response_model: Mapping[str, Any] | None = None,
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection[Any]: ...

    def rank(
        self,
        response: Any,
        *,
        response_model: object | None = None,
        prompt: str | Sequence[Message] | None = None,
        reference: str | None = None,
        verifier: Verifier | str | None = None,
    ) -> Selection:
        """Choose the best completion of a reply that you already have; nothing is sent, unless there is a verifier.

        ``response`` is bytes, str, dict, an SDK object, or a list of Completion; ``response_model``, ``prompt`` and
        ``reference`` as in ``best_of``. A head that knows the questions of its training accepts no answer without
        ``prompt``, and ``verifier`` cannot judge without it. Its judge may be "self", the model of this reranker. The
        verifier that the reranker was made with judges in ``best_of()`` only; give it here too.
        """
        if verifier is None:
            return self._rank_unverified(response, response_model, prompt, reference)
        return self._background_loop.run(
            lambda: self._rank_verified(response, response_model, prompt, reference, verifier)
        )

    def feedback(self, id: str, *, correct: bool | None) -> None:
        """Store whether a chosen answer was right, in the samples file, for any later training.

        Any process may do so at any later time: it needs a reranker with the same ``store=``, and the id.

        Args:
            id: ``Selection.id`` of an answer that ``best_of()`` chose with this ``store=``.
            correct: True or False; it replaces earlier feedback. None withdraws it.

        Raises:
            UnknownSelectionError: the samples file has no selection with this id.
            ConfigurationError: the reranker has no ``store=``, or the file cannot be written.
        """
        queue_feedback(self.pipeline.config.store, id, correct).result()

    def close(self) -> None:
        """Cancel running calls, close the connections and end the thread."""
        self._background_loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
