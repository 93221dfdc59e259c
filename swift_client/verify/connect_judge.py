"""From ``Verifier.judge`` to the model that judges."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from swift_client.adapters import Transports, capabilities_of, connect, load_codec, resolve
from swift_client.adapters.local.model import resolve_local_provider
from swift_client.adapters.providers.custom import OWN_OBJECT_CODEC
from swift_client.errors import ConfigurationError
from swift_client.pricing import Price
from swift_client.sampling import Endpoint, RateLimit
from swift_client.sampling.model_client import CostModel, ModelClient
from swift_client.verify.judge import Judge

_DEFAULT_MAX_RETRIES, _DEFAULT_TIMEOUT = 2, 60.0
_HINT = 'Use a provider and model, such as "openai/gpt-4.1-nano", or a reranker'


def connect_judge(judge: object, own: ModelClient | None = None, *, timeout: float = _DEFAULT_TIMEOUT) -> Judge:
    """Return the judge that ``Verifier.judge`` names. Opens nothing and reads no key.

    Args:
        judge: "self", a provider and model, or a reranker.
        own: the model that answers; a judge of the same provider uses its address, key and limits.
        timeout: seconds per call of a judge with its own connections.

    Raises:
        ConfigurationError: there is no such judge, or "self" has no meaning.
    """
    if judge == "self":
        if own is None:
            raise ConfigurationError(
                'The judge "self" has no meaning: no model is asked for answers.', hint=f"{_HINT}."
            )
        return Judge(own)
    if isinstance(judge, str):
        return Judge(connect_model(judge, own, timeout=timeout))
    client = getattr(getattr(judge, "pipeline", None), "model_client", None)
    if not isinstance(client, ModelClient):
        raise ConfigurationError(f"A verifier's judge cannot be {type(judge).__name__}.", hint=f'{_HINT}, or "self".')
    return Judge(client, is_borrowed=True)


def connect_model(name: str, own: ModelClient | None, *, timeout: float) -> ModelClient:
    """Return the client of a model that is given by provider and name."""
    shared_address = None
    if own is not None and name.replace(":", "/", 1).split("/", 1)[0] == own.provider.name:
        shared_address = own.provider.base_url
    provider, model = resolve(name, base_url=shared_address)
    capabilities = capabilities_of(provider, model)
    # One Price is that of the model that answers; a mapping has prices of several models.
    is_same = own is not None and own.provider.name == provider.name and own.provider.codec != OWN_OBJECT_CODEC
    is_own_model = own is not None and is_same and own.model == model
    prices = None if own is None or (isinstance(own.cost.prices, Price) and not is_own_model) else own.cost.prices
    served_by = resolve_local_provider(name, provider, model)
    # A local model, like an object of the caller's, answers as itself whatever model a request names.
    if own is not None and is_same and (isinstance(served_by, str) or is_own_model):
        return replace(own, model=model, capabilities=capabilities, cost=replace(own.cost, model=model, prices=prices))
    rate_limit = RateLimit()
    open_transport = partial(
        connect,
        served_by,
        provider,
        timeout=timeout,
        max_connections=rate_limit.max_concurrency,
        on_headers=lambda headers: rate_limit.for_this_process().on_headers(headers),
    )
    return ModelClient(
        provider=provider,
        model=model,
        codec=load_codec(provider),
        capabilities=capabilities,
        transports=Transports(open_transport),
        endpoint=Endpoint(capabilities, top_logprobs=capabilities.top_logprobs_max),
        rate_limit=rate_limit,
        max_retries=_DEFAULT_MAX_RETRIES if own is None else own.max_retries,
        on_event=None if own is None else own.on_event,
        cost=CostModel.create(provider, model, None, prices),
    )
