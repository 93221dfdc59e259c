"""The provider of the models that are not virtual ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import cast

from swift_client.adapters import Transport, Transports, connect, resolve
from swift_client.adapters.transport.raw_reply import RawReply
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.sampling.model_client import CostModel
from swift_client.server.access.cost_meter import ExpectedCost
from swift_client.server.config import PassthroughConfig
from swift_client.server.service_key import read_service_key

_CODECS = ("openai_chat", "openai_responses")
_ANY_MODEL = "any"  # requests name theirs


class Upstream:
    """One provider that requests are sent to as they are.

    Raises:
        ConfigurationError: its API is not OpenAI's, or the variable of its key is not set; nothing was sent.
    """

    def __init__(self, config: PassthroughConfig) -> None:
        provider, _ = resolve(config.provider, _ANY_MODEL, config.base_url)
        if provider.codec not in _CODECS:
            raise ConfigurationError(
                f"[passthrough]: the API of provider {provider.name!r} is not OpenAI's.",
                hint="Requests are sent as they are, so it must take chat completions or responses.",
            )
        self.provider, self.uses_callers_key = provider, config.key == "caller"
        self.expected_cost = ExpectedCost(None)
        # The key of the request that is being sent; tasks inherit it.
        self._callers_key: ContextVar[str] = ContextVar("callers_key", default="")
        open_transport = partial(
            connect,
            config.provider,
            provider,
            api_key=self._callers_key.get if self.uses_callers_key else read_service_key(config.api_key_env),
            timeout=config.timeout,
            max_connections=config.max_concurrency,
        )
        open_transport()  # connects to nothing; refuses a missing address
        self._transports = Transports(open_transport)

    @asynccontextmanager
    async def open(self, path: str, body: bytes, callers_key: str) -> AsyncGenerator[RawReply]:
        """Send one request, once, and yield the reply as it arrives, whatever its status.

        Args:
            path: below the base URL.
            body: JSON.
            callers_key: sent if the provider gets the caller's own key.

        Raises:
            SwiftClientError: there is no reply, or it breaks off.
        """
        self._callers_key.set(callers_key)
        transport = cast(Transport, await self._transports.get())  # others are for objects of the user's
        async with transport.forward(path, body) as reply:
            yield reply

    async def prepare(self) -> None:
        """Read the price list: the first lookup takes half a second, for which no request has to wait then."""
        await self.cost_model(_ANY_MODEL)

    async def cost_model(self, model: str) -> CostModel:
        """Return the prices of a model, looked up before they are needed."""
        cost = CostModel.create(self.provider, model, None, None)
        with suppress(MissingExtraError):  # the cost is not known then
            await asyncio.to_thread(cost.price)
        return cost

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._transports.aclose()
