"""The settings of a reranker and of one call, checked before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal, get_args

from swift_client.adapters import (
    PROVIDERS,
    Capabilities,
    Codec,
    CustomProvider,
    CustomTransport,
    Provider,
    Transport,
    capabilities_of,
    connect,
    load_codec,
    resolve,
)
from swift_client.adapters.local.model import resolve_local_provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.answers import Spec, read_answer
from swift_client.answers.json import is_json
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead, HiddenHead
from swift_client.models.resolve_head import Head, ResolvedHead, resolve_head
from swift_client.pricing import Prices
from swift_client.sampling import (
    Budget,
    BudgetTracker,
    EarlyAbort,
    RateLimit,
    SampleRequest,
    create_sample_request,
    parse_abort,
    resolve_rate_limit,
    resolve_sampling,
)
from swift_client.sampling.model_client import CostModel
from swift_client.scoring.fusion import parse_fusion
from swift_client.scoring.judge import ExternalScorer, Judge, JudgeFunction
from swift_client.scoring.result import UserSimilarity
from swift_client.selection.select import FALLBACK_SCORER, Scorer, SelectionConfig
from swift_client.stopping import StoppingRule, stopping_rule
from swift_client.stopping.monitor import StoppingSpec, create_abort_monitor
from swift_client.store import AnswerStore, ReplyStore, SampleStore
from swift_client.structured.schema import ResponseSchema, create_response_schema
from swift_client.types import Completion, Event, Message, Method
from swift_client.validation import check_reference, require_int, require_positive
from swift_client.verify.verifier import Verifier, resolve_verifier

if TYPE_CHECKING:
    from swift_client.monitoring.guard import Action, DriftGuard
    from swift_client.redaction.policy import StoragePolicy
    from swift_client.reranker.drift import ModelDrift

RequireLogprobs = Literal["auto"] | bool
Store = str | os.PathLike[str] | ReplyStore | None
Redact = str | Callable[[str], str] | Sequence[str | Callable[[str], str]] | None
OnReject = Literal["return", "abstain", "escalate"]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of the sampling of completions.

    Raises:
        ConfigurationError: a value is wrong.
    """

    require_logprobs: RequireLogprobs
    top_logprobs: int | None  # alternatives per token to ask for; None asks for no logprobs
    force_logprobs: bool  # whether to ask a model for logprobs that is known to hide them
    rate_limit: RateLimit
    max_retries: int
    warm_cache: Literal["auto"] | bool
    abort: EarlyAbort | None
    on_event: Callable[[Event], None] | None

    def __post_init__(self) -> None:
        if self.require_logprobs not in ("auto", True, False):
            raise ConfigurationError(f'require_logprobs must be "auto", True or False, not {self.require_logprobs!r}.')
        require_int("max_retries", self.max_retries, low=0)


@dataclass(frozen=True, kw_only=True)
class RerankerConfig:
    """All settings of a reranker, which its constructor has checked."""

    provider: Provider
    model: str | None
    codec: Codec
    capabilities: Capabilities  # the model's entry in the provider's table
    # Creates the transport of one event loop.
    open_transport: Callable[[], Transport | CustomTransport]
    sampling: SamplingConfig
    selection: SelectionConfig
    cost: CostModel
    external: ExternalScorer | None
    judge: Judge | None
    verifier: Verifier | None
    store: AnswerStore | None
    timeout: float  # seconds that a function of the user may take
    shadow: ResolvedHead | None = None  # the head that scores without deciding
    drift: ModelDrift | None = None  # compares the model's answers with those of the head's training

    @property
    def reads_token_ids(self) -> bool:
        """True if completions need ``top_ids``: a head reads them, or they are stored for any head."""
        shadow_head = self.shadow and self.shadow.artifact
        return (
            self.store is not None
            or self.selection.reads_token_ids
            or bool(shadow_head and shadow_head.reads_token_ids)
        )

    @property
    def current_selection(self) -> SelectionConfig:
        """The rules of a choice now: without the head while it is set aside, since the model has changed."""
        return self.selection if self.drift is None else self.drift.adjust(self.selection)


def create_config(
    provider: str | Provider | CustomProvider,
    model: str | None,
    *,
    head: Head,
    scorer: Scorer,
    answer: Spec,
    select: Method,
    similarity: str | UserSimilarity | None,
    require_logprobs: RequireLogprobs,
    top_logprobs: int | None,
    base_url: str | None,
    api_key: ApiKey | None,
    client: object | None,
    timeout: float,
    max_retries: int,
    max_concurrency: int,
    on_event: Callable[[Event], None] | None,
    prices: Prices,
    store: Store,
    warm_cache: Literal["auto"] | bool,
    limit: RateLimit | None,
    abort: str | EarlyAbort | None,
    judge: JudgeFunction | None,
    verifier: object,
    external: JudgeFunction | None,
    fuse: str,
    max_reply_bytes: int,
    shadow: Head = None,
    redact: Redact = None,
    keep: str = "all",
    drift: Action | DriftGuard | None = "note",
) -> RerankerConfig:
    """Check the settings of a reranker; the arguments are those of its constructor.

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
        similarity=similarity,
        force_head=resolved_head.force_head,
        notes=resolved_head.notes,
    )

    shadow_head = _resolve_shadow(shadow, provider_entry.name, model, k=k)

    # 2. How completions are sampled.
    if artifact and top_logprobs is None:
        heads = [artifact, *([shadow_head.artifact] if shadow_head and shadow_head.artifact else [])]
        k = min(k, max(head.k_max for head in heads))
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
    if judge is not None and verifier is not None:
        raise ConfigurationError(
            "A judge of your own and a verifier are both given.", hint="Give one: a function, or a model that judges."
        )
    return RerankerConfig(
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
        verifier=resolve_verifier(verifier),
        store=resolve_store(store, resolve_policy(redact, keep, answer)),
        timeout=timeout,
        shadow=shadow_head,
        drift=_resolve_drift(drift, selection, provider_entry.name, model, sampling),
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of one call of ``best_of``, besides its sampling request."""

    stopping: StoppingRule | None = None
    budget: BudgetTracker | None = None
    on_reject: OnReject = "return"
    response_schema: ResponseSchema | None = None
    reference: str | None = None  # notes for the verifier's judge
    selection_id: str = field(default_factory=partial(token_hex, 16))  # of the Selection, in all steps of the call
    served_as: str | None = None  # name of a service's virtual model, for the samples file
    client_key: str | None = None  # name of the service's key that asks, of which a store keeps a digest

    def __post_init__(self) -> None:
        check_reference(self.reference)
        if self.on_reject not in get_args(OnReject):
            raise ConfigurationError(
                f"on_reject={self.on_reject!r} is unknown.", hint='Use "return", "abstain" or "escalate".'
            )


def resolve_call(
    prompt: str | Sequence[Message],
    n: int,
    *,
    stopping: StoppingSpec,
    budget: Budget | BudgetTracker | None,
    on_reject: str,
    response_model: object | None,
    reference: str | None,
    sampling: dict[str, Any],
    named: dict[str, Any],
    extra_body: Mapping[str, Any] | None,
    **request: Any,
) -> tuple[SampleRequest, RunOptions]:
    """Check the arguments of ``best_of``; ``request`` holds those of ``create_sample_request()``.

    ``named`` are the sampling fields that are parameters of ``best_of``; None: not given, so not sent.

    Raises:
        ConfigurationError: an argument is wrong; the message names the first one.
    """
    fields = {name: value for name, value in named.items() if value is not None} | sampling
    sample_request = create_sample_request(prompt, n, sampling=resolve_sampling(fields, extra_body), **request)
    options = RunOptions(
        stopping=None if stopping is None else stopping_rule(stopping),
        budget=_resolve_budget(budget),
        on_reject=on_reject,  # type: ignore[arg-type]  # checked by __post_init__
        response_schema=None if response_model is None else create_response_schema(response_model),
        reference=reference,
    )
    return sample_request, options


def _resolve_shadow(shadow: Head, provider: str, model: str | None, *, k: int) -> ResolvedHead | None:
    """Return the head of ``shadow=``. Raises as ``resolve_head()``, and for a head that reads hidden states."""
    if shadow is None:
        return None
    if isinstance(shadow, str) and shadow == "auto":
        raise ConfigurationError('shadow="auto" is no head.', hint="Give the name, the file or the object of one.")
    resolved = resolve_head(shadow, provider, model, k=k)
    if isinstance(resolved.artifact, HiddenHead):
        raise ConfigurationError(
            "A shadow head reads logprobs, and this one reads hidden states.",
            hint="Compare it on stored samples: evaluate(..., shadow=).",
        )
    return resolved


def resolve_policy(redact: Redact, keep: str, answer: Spec) -> StoragePolicy | None:
    """Return what may be stored; None for everything. Raises ConfigurationError for an unknown preset and the like."""
    if redact is None and keep == "all":
        return None
    from swift_client.redaction.policy import create_policy

    return create_policy(redact, keep, partial(_read_stored_answer, spec=answer if answer is not None else "auto"))


def _read_stored_answer(completion: Completion, spec: Spec) -> str | None:
    """Return the answer of a completion as votes compare it; "auto" reads structured answers too."""
    answer = read_answer(completion, spec)
    is_structured = answer is None and spec == "auto" and is_json(completion.text)
    return read_answer(completion, "json") if is_structured else answer


def _resolve_drift(
    drift: object, selection: SelectionConfig, provider: str, model: str | None, sampling: SamplingConfig
) -> ModelDrift | None:
    """Return what compares the model's answers with the reference; None without one."""
    scorer = selection.scorer
    has_profile = isinstance(scorer, AnyHead) and scorer.drift_profile is not None
    if drift is None or (drift == "note" and not has_profile):
        return None
    from swift_client.reranker.drift import ModelDrift

    return ModelDrift.create(drift, selection, provider, model, abort=sampling.abort, on_event=sampling.on_event)


def resolve_store(store: object, policy: StoragePolicy | None = None) -> AnswerStore | None:
    """Return the store that ``store=`` names; nothing is opened. Raises ConfigurationError for anything else."""
    match store:
        case None:
            return None
        case ReplyStore():
            return store if policy is None else ReplyStore(store.path, policy=policy)
        case str() if "://" in store:
            from swift_client.store.redis import RedisReplyStore

            return RedisReplyStore(store, policy=policy)
        case str() | os.PathLike():
            return ReplyStore(store, policy=policy)
        case SampleStore():
            raise ConfigurationError(
                "store= takes a path, not an open SampleStore.",
                hint="Close it and pass its path: many rerankers may share one file.",
            )
    raise ConfigurationError(
        f"store= takes the path of a file or the URL of a Redis, not {type(store).__name__}.",
        hint='Such as store="samples.db" or store="redis://host:6379/0".',
    )


def _resolve_budget(budget: object) -> BudgetTracker | None:
    """Return the tracker of ``budget=``; a Budget opens its own."""
    match budget:
        case None | BudgetTracker():
            return budget
        case Budget():
            return budget.open()
    raise ConfigurationError(
        f"budget= takes a Budget, not {type(budget).__name__}.", hint="Such as Budget(usd=0.05) or Budget(tokens=4000)."
    )
