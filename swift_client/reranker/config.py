"""What both faces are given: settings, checked once, before anything is sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from swift_client.adapters import (
    PROVIDERS,
    CustomProvider,
    Provider,
    Transports,
    capabilities_of,
    connect,
    load_codec,
    resolve,
)
from swift_client.adapters.local.model import resolve_local_provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.answers import Spec
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead
from swift_client.models.resolve_head import Head, resolve_head
from swift_client.pricing import Prices
from swift_client.reranker.caching import Store, resolve_store
from swift_client.reranker.cost import CostModel
from swift_client.reranker.rank_replies import rank_reply
from swift_client.reranker.sync_loop import BackgroundLoop
from swift_client.sampling import (
    EarlyAbort,
    Endpoint,
    RateLimit,
    parse_abort,
    resolve_rate_limit,
)
from swift_client.scoring.external import ExternalScorer
from swift_client.scoring.judge import Judge, JudgeFunction
from swift_client.selection.select import FALLBACK_SCORER, Method, Scorer, SelectionConfig
from swift_client.stopping.monitor import create_abort_monitor
from swift_client.structured.schema import create_response_schema
from swift_client.types import Event, Selection
from swift_client.validation import require_int, require_positive

RequireLogprobs = Literal["auto"] | bool

logger = logging.getLogger(__name__)


class BaseReranker:
    """Picks the best of N answers. This base holds the settings.

    Args:
        provider: a row's name ("openai"), name and model ("openai/gpt-4.1-mini"), a Provider row, or an object of your
            own with ``complete(messages, n, **options)``.
        model: default: the row's default model.
        head: "auto": the head for exactly this provider and model where there is one, packaged or in the folder of
            your heads (:func:`swift_client.models.user_folder`); the name of such a head, such as "pocket/pocket", to
            use it for another model too; a path, HeadArtifact or HiddenHead, which must fit; None: none.
        scorer: "auto": the head, else "mean_logprob"; a name of ``scorers.SCORERS``; a callable from N completions to
            N numbers, higher is better; "judge": ``judge``, for every question.
        judge: a function of yours, sync or async, from (messages, completions) to N numbers, higher is better, None for
            no opinion. Asked where no logprobs come, so that more than agreement decides; it has ``timeout`` seconds,
            and where it fails the choice is made without it.
        external: a second score a completion, such as a reward model's: a function as ``judge``, asked for every
            question (``adapters.reward_model``). Where it fails or is late, ours decide alone.
        fuse: how the two become one: "mean" of their places between lowest and highest, "mean_rank", "worst_rank", or
            "weighted:share=0.3" with the share of ours. Fused scores, 0..1, weigh votes too.
        answer: how the compared answer is read: "auto", "number", "boxed", "choice", "yes_no", "json", "text", a
            regex, a callable, or None.
        select: "vote", "best", or "auto": vote where answers can be read and compared.
        require_logprobs: "auto" uses what comes and says so in ``Selection.signal``; False asks for none; True raises
            LogprobsUnavailableError.
        top_logprobs: alternatives a token to ask for; default: as many as the head or the row knows, 20 at most.
        base_url: overrides the row's.
        api_key: a key, or a function (sync or async) that gives one; default: the row's environment variable. Read at
            the first request.
        client: your own openai client; it brings its own key and base URL.
        timeout: seconds for one call.
        max_retries: further attempts of a failed call.
        max_concurrency: calls under way at once, over all threads and tasks that share this reranker; fewer for a
            while where the provider refuses them (429) or its headers say that little is left.
        limit: a RateLimit that rerankers of one key share, with requests and tokens a minute; it has its own
            ``max_concurrency``.
        on_event: called with an Event for every request, reply, retry and failure.
        prices: a Price of your own for the model, or a mapping from "model" or "provider/model" to Price; default:
            genai-prices (extra "prices"). They make ``Selection.cost`` and a budget in US dollars.
        store: a samples file, made where there is none, that keeps every reply as it arrives: the same request asked
            again, for more answers too, sends for those alone that are not there (``Selection.reused``). Threads and
            processes may share it. It holds prompts and answers in plain text; only its owner may read a new one. An
            object of your own is told from others by its ``name`` and ``model``. Trouble with the file becomes a note.
        warm_cache: whether, where n takes several calls, the first goes alone, so that the others find its prompt in
            the provider's cache. "auto": where that is known to be a tenth cheaper and there is no deadline, since it
            takes about twice the time.
        abort: stream every answer by a call of its own, and close those that lose confidence against the first ones:
            "deepconf" (DeepConf-online), "head" (by the head's score so far), with parameters as in
            "deepconf:keep=0.1:warmup=4". Closed answers do not vote; what they cost is counted as an estimate.

    Raises:
        ConfigurationError: a setting is wrong; nothing has been sent and no key has been read.
        ArtifactError: the head cannot be read, or is made for another model.
    """

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
    ) -> None:
        if require_logprobs not in ("auto", True, False):
            raise ConfigurationError(f'require_logprobs must be "auto", True or False, not {require_logprobs!r}.')
        require_positive("timeout", timeout)
        require_int("max_retries", max_retries, low=0)
        require_int("max_concurrency", max_concurrency, low=1)
        if top_logprobs is not None:
            require_int("top_logprobs", top_logprobs, low=0)
        self._provider, self._model = resolve(provider, model, base_url)
        self._codec = load_codec(
            self._provider
        )  # here and not at the first call, whose event loop an import would hold up
        self._capabilities = known = capabilities_of(self._provider, self._model)
        most = known.top_logprobs_max
        # A number of the caller's own wins over the row, which may be out of date.
        hopeless = self._provider.logprobs_request == "none" or (most == 0 and top_logprobs is None)
        none = hopeless or require_logprobs is False
        if head == "auto" and (none or scorer != "auto"):
            head = None  # there would be nothing for it to read, or to do
        picked = resolve_head(
            head,
            self._provider.name,
            self._model,
            k=most if top_logprobs is None else top_logprobs,
            own_address=client is not None or self._provider is not PROVIDERS.get(self._provider.name),
        )
        artifact = picked.artifact
        if artifact and scorer != "auto":
            raise ConfigurationError("head= and scorer= are both given.", hint="Give one of them.")
        self._selection_config = SelectionConfig(
            scorer=artifact or (FALLBACK_SCORER if scorer in ("auto", "judge") else scorer),
            answer=answer,
            select=select,
            force_head=picked.force_head,
            notes=picked.notes,
        )
        asked = top_logprobs if top_logprobs is not None else min(most, artifact.k_max if artifact else most)
        self._must_have_logprobs = require_logprobs is True
        self._logprobs_disabled = require_logprobs is False
        self._has_warned = False
        self._top_logprobs = None if none else asked
        self._endpoint = Endpoint(known, top_logprobs=self._top_logprobs, force_logprobs=top_logprobs is not None)
        self._store = resolve_store(store)
        self._abort = parse_abort(abort)
        create_abort_monitor(self._abort, self._selection_config.scorer)  # a missing head is refused now
        self._rate_limit = resolve_rate_limit(limit, max_concurrency)
        self._max_retries, self._on_event = max_retries, on_event
        self._background_loop = BackgroundLoop()  # used by the sync face alone; starts nothing before its first call
        link = partial(
            connect,
            resolve_local_provider(provider, self._provider, self._model, self._selection_config.scorer),
            self._provider,
            api_key=api_key,
            client=client,
            timeout=timeout,
            max_connections=self._rate_limit.max_concurrency,
            on_headers=lambda headers: self._rate_limit.for_this_process().on_headers(headers),
        )
        self._warm_cache = warm_cache
        self._external_scorer = ExternalScorer(external, fuse=fuse, timeout=timeout)
        self._judge = Judge(judge, always_ask=scorer == "judge", timeout=timeout)
        self._cost_model = CostModel.create(self._provider, self._model, client, prices)
        link()  # opens nothing; a missing address or a client of another kind is refused now
        self._transports = Transports(link)

    @property
    def head(self) -> AnyHead | None:
        """The head that scores, found or given; None where there is none. Its ``training`` says what it is worth."""
        scorer = self._selection_config.scorer
        return scorer if isinstance(scorer, AnyHead) else None

    def rank(self, response: Any, *, response_model: object | None = None) -> Selection:
        """Choose the best completion of a reply that you already have; nothing is sent.

        ``response`` is bytes, str, dict, an SDK object, or a list of Completion; ``response_model`` as in ``best_of``.
        """
        return rank_reply(
            response,
            self._provider,
            replace(self._selection_config, response_schema=create_response_schema(response_model)),
        )

    def __repr__(self) -> str:
        scorer = self._selection_config.scorer
        name = scorer if isinstance(scorer, str) else getattr(scorer, "name", getattr(scorer, "__name__", "custom"))
        return f"{type(self).__name__}({self._provider.name!r}, {self._model!r}, scorer={name!r})"
