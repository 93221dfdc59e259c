"""Where a key comes from: the argument, a function, the row's variable, or signing in; read when a request needs it."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from collections.abc import Awaitable, Callable

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.transport.cloud_auth import TOKEN_SOURCES
from swift_client.adapters.transport.error_responses import scrub
from swift_client.errors import ConfigurationError, MissingApiKeyError, SwiftClientError

ApiKey = str | Callable[[], str | Awaitable[str]]
"""A key, or a function (sync or async) that gives one for each request."""


class ApiKeySource:
    """Gives the key for one request, and remembers the latest only to strike them out of messages."""

    def __init__(self, provider: Provider, api_key: ApiKey | None) -> None:
        self._provider = provider
        self._api_key = api_key
        self.recent_keys: deque[str] = deque(maxlen=64)

    async def read(self) -> str:
        """Return the key.

        Raises:
            MissingApiKeyError: there is none.
            ConfigurationError: the function failed, or no HTTP header can carry what it gave.
        """
        name, variable = self._provider.name, self._provider.key_variable
        if self._api_key is None and self._provider.sign_in and not os.environ.get(variable or "", "").strip():
            self._api_key = TOKEN_SOURCES[self._provider.sign_in]()
        if self._api_key is None and variable is None:
            return "none"  # keyless servers ignore it; the SDK wants one
        if callable(self._api_key):
            key = await self._call_function(self._api_key)
        else:
            key = self._api_key if self._api_key is not None else os.environ.get(variable or "", "")
        key = key.strip() if isinstance(key, str) else ""
        if not key:
            raise MissingApiKeyError(
                f"There is no API key for provider {name!r}.",
                hint=f"Set {variable}, or pass api_key=." if variable else "Pass a non-empty api_key=.",
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigurationError(
                f"The API key for provider {name!r} holds a character that no HTTP header can carry.",
                hint="Copy it again, without line breaks.",
            )
        if key not in self.recent_keys:
            self.recent_keys.append(key)
        return key

    async def _call_function(self, function: Callable[[], str | Awaitable[str]]) -> str:
        try:
            # A sync function may ask a vault over the network: not on the loop.
            answer = await asyncio.to_thread(function)
            return await answer if inspect.isawaitable(answer) else answer
        except SwiftClientError:  # of our own sign-in: it says what to do
            raise
        except Exception as error:
            problem = scrub(f"{type(error).__name__}: {error}", self.recent_keys)
        raise ConfigurationError(f"The api_key function failed. {problem}.", hint="Call it by itself to see why.")
