"""The settings of a reranker and of one call, checked before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from swift_client.adapters import Capabilities, Codec, CustomTransport, Provider, Transport
from swift_client.errors import ConfigurationError
from swift_client.reranker.cost import CostModel
from swift_client.sampling import (
    Budget,
    BudgetTracker,
    EarlyAbort,
    RateLimit,
    SampleRequest,
    create_sample_request,
    resolve_sampling,
)
from swift_client.scoring.judge import ExternalScorer, Judge
from swift_client.selection.select import SelectionConfig
from swift_client.stopping import StoppingRule, stopping_rule
from swift_client.stopping.monitor import StoppingSpec
from swift_client.store import ReplyStore, SampleStore
from swift_client.structured.schema import ResponseSchema, create_response_schema
from swift_client.types import Event, Message
from swift_client.validation import require_int

RequireLogprobs = Literal["auto"] | bool
Store = str | os.PathLike[str] | ReplyStore | None
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
    store: ReplyStore | None
    timeout: float  # seconds that a function of the user may take


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of one call of ``best_of``, besides its sampling request."""

    stopping: StoppingRule | None = None
    budget: BudgetTracker | None = None
    on_reject: OnReject = "return"
    response_schema: ResponseSchema | None = None

    def __post_init__(self) -> None:
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
    )
    return sample_request, options


def resolve_store(store: object) -> ReplyStore | None:
    """Return the store that ``store=`` names; nothing is opened. Raises ConfigurationError for anything else."""
    match store:
        case None | ReplyStore():
            return store
        case str() | os.PathLike():
            return ReplyStore(store)
        case SampleStore():
            raise ConfigurationError(
                "store= takes a path, not an open SampleStore.",
                hint="Close it and pass its path: many rerankers may share one file.",
            )
    raise ConfigurationError(f"store= takes the path of a file, not {type(store).__name__}.")


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
