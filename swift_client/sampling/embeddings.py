"""Embeddings of texts by a model with OpenAI's endpoint ``/embeddings``, in one request per question."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from swift_client.adapters import Request
from swift_client.adapters.transport.redaction import redact_error
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    SwiftClientError,
)
from swift_client.features.segments import F64
from swift_client.pricing import Price, add_costs
from swift_client.sampling.budget import BudgetTracker, Cost
from swift_client.sampling.context import CallContext
from swift_client.sampling.model_client import ModelClient
from swift_client.sampling.retry import retry_policy
from swift_client.types import F32, Failure, Usage

# Wire formats of providers whose API has this endpoint.
OPENAI_CODECS = ("openai_chat", "openai_responses", "openai_completions")
_MAX_CHARACTERS = 20_000  # of one text: models read some 8,000 tokens
_MAX_VECTORS = 10_000  # vectors that one Embedder remembers
_TOKENS_PER_TEXT = 8  # tokens that a model may add to a text


@dataclass(eq=False, kw_only=True)
class Embeddings:
    """The vectors of M texts, and what they cost.

    Attributes:
        vectors: (M, D) float64; None if the request failed.
        usage: Tokens and calls.
        cost: US dollars; None if the price is unknown.
        failure: The failure, if there are no vectors.
    """

    vectors: F64 | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    failure: Failure | None = None


class Embedder:
    """A model of embeddings, with the vectors that it has returned. Safe to share between tasks, threads and loops.

    Raises:
        ConfigurationError: the provider has no such endpoint.
    """

    def __init__(self, model: ModelClient) -> None:
        if model.provider.codec not in OPENAI_CODECS:
            raise ConfigurationError(
                f"{model.provider.name} has no endpoint /embeddings of OpenAI's kind.",
                hint='Name another provider, such as similarity="embedding:openai/text-embedding-3-small".',
                provider=model.provider.name,
            )
        self.model = model
        self._vectors: OrderedDict[bytes, F32] = OrderedDict()
        self._lock = threading.Lock()

    async def embed(
        self, texts: Sequence[str], *, budget: BudgetTracker | None = None, deadline_at: float | None = None
    ) -> Embeddings:
        """Return the vectors of the texts; only those that are not remembered are sent, in one request.

        Args:
            texts: M texts, of which the first 20,000 characters count.
            budget: the budget that the request is paid from; None: no limit.
            deadline_at: the deadline in the running loop's time; None: no deadline.
        """
        keys = [hashlib.sha256(_sendable(text).encode()).digest() for text in texts]
        with self._lock:
            known = {key: self._vectors[key] for key in keys if key in self._vectors}
        missing = {key: _sendable(text) for key, text in zip(keys, texts, strict=True) if key not in known}
        result = Embeddings()
        if missing:
            vectors = await self._request(list(missing.values()), result, budget, deadline_at)
            if vectors is None:
                return result
            known |= zip(missing, vectors, strict=True)
            self._remember(dict(zip(missing, vectors, strict=True)))
        if len({len(vector) for vector in known.values()}) > 1:
            raise AssertionError  # one model has one number of dimensions
        result.vectors = np.array([known[key] for key in keys], np.float64)
        return result

    def _remember(self, vectors: dict[bytes, F32]) -> None:
        with self._lock:
            self._vectors.update(vectors)
            while len(self._vectors) > _MAX_VECTORS:
                self._vectors.popitem(last=False)

    async def _request(
        self, texts: Sequence[str], result: Embeddings, budget: BudgetTracker | None, deadline_at: float | None
    ) -> F32 | None:
        """Return the vectors (M, D), or None with the failure in ``result``; count calls and tokens there."""
        context = await self.model.call_context(phase="consensus")
        budget_seconds = math.inf if budget is None else budget.seconds_left
        ends = [] if deadline_at is None else [deadline_at]
        if budget_seconds < math.inf:
            ends.append(asyncio.get_running_loop().time() + budget_seconds)
        last_start = min(ends, default=None)
        attempts = 0

        async def attempt() -> F32:
            nonlocal attempts
            attempts += 1
            return await self._send(context, texts, result, budget, deadline_at)

        def on_retry(error: SwiftClientError, number: int, wait: float) -> None:
            context.emit_event("retry", 0, 0, f"embeddings: attempt {number} failed", error=error, wait=wait)

        try:
            vectors: F32 = await retry_policy(context.max_retries, last_start, on_retry)(attempt)
        except SwiftClientError as error:
            error.provider = error.provider or context.provider.name
            result.failure = Failure(error=error, lost=0, attempts=attempts)
            context.emit_event("failure", 0, 0, "embeddings failed", error=error)
            return None
        return vectors

    async def _send(
        self,
        context: CallContext,
        texts: Sequence[str],
        result: Embeddings,
        budget: BudgetTracker | None,
        deadline_at: float | None,
    ) -> F32:
        """Send once, within the limits of the model and the budget."""
        body: dict[str, Any] = {"model": context.model, "input": list(texts)}
        request = Request(method="POST", path="/embeddings", body=body, n=len(texts))
        price = None
        if budget is not None and budget.budget.usd is not None:
            price = await asyncio.to_thread(self.model.cost.price)
            if price is None:
                raise ConfigurationError(
                    f"The price of {context.model!r} is unknown, so a budget in US dollars cannot be kept.",
                    hint="Give prices= for the model of embeddings too.",
                )
        try:
            async with asyncio.timeout_at(deadline_at), _slot(context):
                with _reserve(budget, texts, price) as spent:
                    context.emit_event("request", 0, len(texts), f"asks for the embeddings of {len(texts)} texts")
                    result.usage += Usage(calls=1)
                    data = await context.transport.send(request)
                    if not isinstance(data, bytes):
                        raise ResponseDecodeError("The reply has no embeddings.", provider=context.provider.name)
                    vectors, tokens = parse_embeddings(data, len(texts))
                    spent.append(_cost(tokens, price))
        except TimeoutError:
            raise RequestTimeoutError("The deadline passed before the embeddings arrived.", retryable=False) from None
        except SwiftClientError as error:
            redact_error(error, context.transport.secrets)
            raise
        usage = Usage(prompt_tokens=tokens)
        result.usage += usage
        cost = await asyncio.to_thread(self.model.cost.cost, usage)
        result.cost = add_costs(result.cost, cost)
        context.rate_limiter.on_usage(tokens)
        context.emit_event("reply", 0, len(texts), f"brought {len(texts)} embeddings", usage=usage)
        return vectors


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Reply(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


def parse_embeddings(data: bytes, count: int) -> tuple[F32, int]:
    """Return the vectors (``count``, D) of a reply in the order of the texts, and its prompt tokens.

    Raises:
        ResponseDecodeError: the reply is something else, or its vectors are not those of ``count`` texts.
    """
    try:
        reply = msgspec.json.decode(data, type=_Reply)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ResponseDecodeError(f"The reply has no embeddings: {error}") from None
    places = [index if vector.index is None else vector.index for index, vector in enumerate(reply.data)]
    lengths = {len(vector.embedding) for vector in reply.data}
    if sorted(places) != list(range(count)) or len(lengths) != 1 or lengths == {0}:
        raise ResponseDecodeError(f"The reply has no embeddings of the same length for all of {count} texts.")
    vectors = np.empty((count, lengths.pop()), np.float32)
    with np.errstate(over="ignore"):
        vectors[places] = [vector.embedding for vector in reply.data]
    if not np.isfinite(vectors).all():
        raise ResponseDecodeError("The reply has embeddings that are not finite.")
    return vectors, max(0, reply.usage.prompt_tokens if reply.usage else 0)


@asynccontextmanager
async def _slot(context: CallContext) -> AsyncIterator[None]:
    limiter = context.rate_limiter
    await limiter.acquire()
    started_at = limiter.now()
    try:
        yield
        limiter.on_success(started_at=started_at)
    except SwiftClientError as error:
        limiter.on_error(error, started_at=started_at)
        raise
    finally:
        limiter.release()


@contextmanager
def _reserve(budget: BudgetTracker | None, texts: Sequence[str], price: Price | None) -> Iterator[list[Cost]]:
    """Reserve the worst case of a request; the list takes its actual cost.

    Raises:
        BudgetExceededError: it does not fit, and must not be sent.
    """
    spent: list[Cost] = []
    if budget is None:
        yield spent
        return
    # No token of a text is shorter than a byte.
    worst = _cost(sum(len(text.encode()) + _TOKENS_PER_TEXT for text in texts), price)
    budget.reserve(worst)
    actual = worst
    try:
        yield spent
        actual = spent[0] if spent else worst
    except ConfigurationError:  # nothing was sent
        actual = Cost()
        raise
    except (AuthenticationError, BadRequestError, RateLimitError, ServerError):  # refused, so not billed
        actual = Cost(calls=1)
        raise
    finally:
        budget.commit(worst, actual)


def _cost(tokens: int, price: Price | None) -> Cost:
    usd = price.most(prompt_tokens=tokens, completion_tokens=0) if price else 0.0
    return Cost(tokens=tokens, usd=usd, calls=1)


def _sendable(text: str) -> str:
    """Return the beginning of a text as valid UTF-8, and a space for an empty one, which servers refuse."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode() or " "
