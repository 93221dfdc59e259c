"""Virtual models: a configuration's rerankers, opened together and closed when their last request has ended."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from swift_client.errors import BudgetExceededError, RejectedError, VerificationError
from swift_client.reranker import AsyncSwiftReranker
from swift_client.reranker.acceptance import run_with_escalation
from swift_client.reranker.config import resolve_call, resolve_policy
from swift_client.sampling import Budget
from swift_client.sampling.model_client import ModelClient
from swift_client.server.access.client_keys import ClientKeys
from swift_client.server.access.cost_meter import CostMeter, ExpectedCost
from swift_client.server.access.identity import Caller
from swift_client.server.choice_rules import ChoiceRules
from swift_client.server.config import BudgetConfig, ModelConfig, ServiceConfig, VerifierConfig
from swift_client.server.observability.record import RequestRecord
from swift_client.server.passthrough.upstream import Upstream
from swift_client.server.question.arguments import create_arguments
from swift_client.server.question.call import ChatCall
from swift_client.server.service_key import read_service_key
from swift_client.server.tenant_stores import TenantStores
from swift_client.store import AnswerStore, ReplyStore
from swift_client.types import Event, Selection, Usage
from swift_client.verify.verifier import Verifier


class VirtualModel:
    """A model that clients see: a reranker with its settings.

    Args:
        config: its table.
        on_event: called with the request that a call upstream belongs to.

    Raises:
        ConfigurationError: a setting is wrong, or the variable of its key is not set; nothing was sent.
        ArtifactError: its head cannot be read.
    """

    def __init__(self, config: ModelConfig, on_event: Callable[[RequestRecord, Event], None]) -> None:
        self.config = config
        self._on_event = on_event
        # The request that is being answered, and the key that it is sent upstream with; tasks inherit them.
        self._request: ContextVar[tuple[CostMeter, RequestRecord] | None] = ContextVar("request", default=None)
        self._callers_key: ContextVar[str] = ContextVar("callers_key", default="")
        self.expected_cost = ExpectedCost(config.budget)
        api_key = self._callers_key.get if self.uses_callers_key else None
        self._rules = ChoiceRules(
            config, lambda table: create_reranker(table, api_key=api_key, on_event=self._pass_event)
        )
        self.reranker = self._rules.reranker
        self.policy = resolve_policy(config.redact, config.keep, self.reranker.pipeline.config.selection.answer)
        pattern = config.store_per_tenant
        self._tenants = None if pattern is None else TenantStores(pattern, self.policy)

    @property
    def uses_callers_key(self) -> bool:
        """True if requests are sent upstream with the caller's own key."""
        return self.config.key == "caller"

    @property
    def is_per_tenant(self) -> bool:
        """True if each tenant sees its own selections only."""
        return self._tenants is not None

    def store(self, tenant: str | None) -> ReplyStore | None:
        """Return the samples file of a tenant, which records choices and feedback; None without one."""
        store = self._store(tenant)
        return None if store is None else store.selections

    def _store(self, tenant: str | None) -> AnswerStore | None:
        if self._tenants is None:
            return self.reranker.pipeline.config.store
        return None if tenant is None else self._tenants.store(tenant)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.reranker.aclose()
        if self._tenants is not None:
            self._tenants.close()

    async def prepare(self) -> None:
        """Read the price lists: the first lookup takes half a second, for which no request has to wait then."""
        for client in self.clients().values():
            await asyncio.to_thread(client.cost.cost, Usage())

    def clients(self) -> dict[str, ModelClient]:
        """Return what its calls go through: the "model", and the "judge" if it has a verifier."""
        pipeline = self.reranker.pipeline
        clients = {"model": pipeline.model_client}
        return clients if pipeline.judge is None else {**clients, "judge": pipeline.judge.model}

    async def answer(self, call: ChatCall, caller: Caller, meter: CostMeter, record: RequestRecord) -> Selection:
        """Answer one call.

        Args:
            call: the call.
            caller: its key is sent upstream, if the model uses the caller's own.
            meter: gets the cost, also of an answer that does not come.
            record: gets the choice, also one that is rejected; the choice gets its ``selection_id``.

        Raises:
            HttpError: the caps refuse it.
            SwiftClientError: as of ``best_of``.
        """
        arguments = create_arguments(call, self.config)
        pipeline = self._rules.pipeline(call.override)
        if self.is_per_tenant:
            pipeline = copy.copy(pipeline)
            pipeline.config = replace(pipeline.config, store=self._store(caller.tenant))
        record.n = arguments["n"]
        self._request.set((meter, record))
        if self.uses_callers_key:
            self._callers_key.set(caller.bearer)
        request, options = resolve_call(**arguments, response_model=None, sampling={}, named={})
        if record.selection_id is not None:
            options = replace(options, selection_id=record.selection_id, served_as=call.model)
        options = replace(options, client_key=caller.name)
        selection: Selection | None = None
        try:
            selection = await run_with_escalation(pipeline, request, options)
        except (RejectedError, VerificationError) as error:
            selection = error.selection  # paid for, though it is not the reply
            raise
        except BudgetExceededError as error:
            selection = error.best
            raise
        finally:
            record.selection = selection
            meter.finish(selection)
        return selection

    def _pass_event(self, event: Event) -> None:
        request = self._request.get()
        if request is not None:
            meter, record = request
            meter.on_event(event)
            self._on_event(record, event)


class ModelSet:
    """The virtual models, the passthrough and the client keys of one configuration.

    After ``retire()`` no request may begin; the connections close when the last one has ended.

    Args:
        config: the configuration.
        on_event: as of VirtualModel.
    """

    def __init__(
        self,
        config: ServiceConfig,
        on_event: Callable[[RequestRecord, Event], None] = lambda record, event: None,
    ) -> None:
        self.config = config
        self.keys = ClientKeys(config.keys)
        self.models: Mapping[str, VirtualModel] = {
            name: VirtualModel(table, on_event) for name, table in config.models.items()
        }
        self.passthrough = None if config.passthrough is None else Upstream(config.passthrough)
        self._n_requests = 0
        self._is_retired = False

    async def prepare(self) -> None:
        """Do what the first request would otherwise wait for."""
        for model in self.models.values():
            await model.prepare()
        if self.passthrough is not None:
            await self.passthrough.prepare()

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[None]:
        """Hold the connections open for the length of a request."""
        self._n_requests += 1
        try:
            yield
        finally:
            self._n_requests -= 1
            await self._close_if_unused()

    async def retire(self) -> None:
        """Close all connections once no request uses them."""
        self._is_retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._is_retired and not self._n_requests:
            for model in self.models.values():
                await model.aclose()
            if self.passthrough is not None:
                await self.passthrough.aclose()


def create_reranker(
    config: ModelConfig, *, api_key: Any = None, on_event: Callable[[Event], None] | None = None
) -> AsyncSwiftReranker:
    """Return the reranker of a virtual model; nothing is sent.

    Args:
        config: its table.
        api_key: a function that returns the caller's key; None: the service's own key.
        on_event: called with the events of all requests, within the task of the request.

    Raises:
        ConfigurationError: a setting is wrong.
        MissingApiKeyError: the variable is not set.
    """
    check_limits(config.budget)
    return AsyncSwiftReranker(
        config.provider,
        config.model,
        head=None if config.head == "none" else config.head,
        scorer=config.scorer,
        answer=None if config.answer == "none" else config.answer,
        select=config.select,
        similarity=config.similarity,
        require_logprobs=config.require_logprobs,
        top_logprobs=config.top_logprobs,
        base_url=config.base_url,
        api_key=read_service_key(config.api_key_env) if api_key is None else api_key,
        timeout=config.timeout,
        max_retries=config.max_retries,
        max_concurrency=config.max_concurrency,
        on_event=on_event,
        store=None if config.store_per_tenant else config.store,
        redact=config.redact,
        keep=config.keep,
        drift=None if config.drift == "none" else config.drift,
        verifier=_create_verifier(config.verifier),
        shadow=config.shadow,
    )


def check_limits(budget: BudgetConfig | None) -> None:
    """Raise ConfigurationError for a budget without any limit."""
    if budget is not None:
        Budget(**{name: getattr(budget, name) for name in budget.__struct_fields__})


def _create_verifier(value: str | VerifierConfig | None) -> Verifier | str | None:
    if not isinstance(value, VerifierConfig):
        return value
    return Verifier(
        value.judge, mode=value.mode, criteria=value.criteria, when=value.when, reference=value.reference,
        require=value.require,
    )  # fmt: skip
