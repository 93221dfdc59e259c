"""Objects of your own as providers: anything with ``complete(messages, n, **options)``.

::

    class Mine:
        name = "mine"                                     # optional
        async def complete(self, messages, n, **options):    # or a plain def, which runs in a thread
            return await my_gateway(messages, n, options)   # bytes, dict, SDK object or list[Completion]

    SwiftReranker(provider=Mine())
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

from swift_client.adapters.codecs.inputs import normalize_reply
from swift_client.adapters.providers.provider import Capabilities, Provider, Reply, Request
from swift_client.adapters.transport.exceptions import error_from_exception
from swift_client.adapters.transport.redaction import scrub
from swift_client.errors import CapabilityError, ConfigurationError, ProviderError, SwiftClientError
from swift_client.types import Completion, Message

OWN_OBJECT_CODEC = "by_shape"  # an object's replies are recognized by their shape


class CustomProvider(Protocol):
    """The interface of an object of your own."""

    def complete(self, messages: list[Message], n: int, **options: Any) -> Any | Awaitable[Any]:
        """Return up to ``n`` completions.

        Args:
            messages: the chat messages.
            n: number of completions.
            options: the rest of the request's body, such as ``logprobs``, ``top_logprobs`` and ``temperature``.

        Returns:
            Any provider's reply as bytes, dict or SDK object; a list of Completion; or a Reply, which brings its own
            usage and notes. May be awaitable.
        """


def to_provider(provider: object) -> Provider:
    """Return the row of an object: its own ``provider``, or a row without knowledge, so its replies decide.

    Raises:
        ConfigurationError: it has no ``complete`` that takes ``**options``.
    """
    complete = getattr(provider, "complete", None)
    if not callable(complete) or isinstance(provider, type):
        raise ConfigurationError(
            f"{provider!r} is not a provider.",
            hint="Pass a name, a Provider row, or an object (not a class) with complete(messages, n, **options).",
        )
    kinds = {parameter.kind for parameter in inspect.signature(complete).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ConfigurationError(
            f"{type(provider).__name__}.complete() must take **options.",
            hint="logprobs, top_logprobs and the sampling parameters arrive in them.",
        )
    if isinstance(own := getattr(provider, "provider", None), Provider):
        return own
    return Provider(
        name=str(getattr(provider, "name", type(provider).__name__)),
        base_url=None,
        key_variable=None,
        codec=OWN_OBJECT_CODEC,
        default_model=None,
        capabilities=Capabilities(
            n_max=None, top_logprobs_max=20, streams_logprobs=False, checked="", evidence="your own object"
        ),
    )


class CustomTransport:
    """A transport to an object of your own. ``timeout`` does not apply to an object that sets ``ignores_timeout``."""

    def __init__(self, custom: CustomProvider, *, timeout: float = 60.0, max_connections: int = 16) -> None:
        self.provider = to_provider(custom)
        self._custom = custom
        self._timeout = None if getattr(custom, "ignores_timeout", False) else timeout
        self._slots = asyncio.Semaphore(max_connections)
        self._executor = ThreadPoolExecutor(max_connections, thread_name_prefix="swift-client")

    @property
    def secrets(self) -> list[str]:
        """The keys to remove from messages: an object's own are not known."""
        return []

    async def send(
        self, request: Request, *, timeout: float | None = None, parts: list[bytes] | None = None
    ) -> bytes | Sequence[Completion] | Reply:
        """Call the object; arguments and errors as ``Transport.send()``, but ``parts`` stays empty."""
        problem: SwiftClientError | None = None
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout if timeout is None else timeout):
                    answer = await self._call_complete(request.body, request.n)
                    return answer if isinstance(answer, Reply) else normalize_reply(answer)
            except (TypeError, ValueError) as error:  # a bug in the object, not in our request
                text = scrub(f"{type(error).__name__}: {error}")
                problem = ProviderError(f"complete() failed with {text}", provider=self.provider.name)
            except Exception as error:
                problem = error_from_exception(error, self.provider)
        raise problem

    def stream(
        self, request: Request, *, timeout: float | None = None, total_timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Raise CapabilityError: an object of your own does not stream."""
        raise CapabilityError(
            f"Provider {self.provider.name!r} cannot stream.", hint="Use a provider of `swift-client providers`."
        )

    async def aclose(self) -> None:
        """End the threads. The object itself is not closed."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _call_complete(self, body: Mapping[str, Any], n: int) -> Any:
        options = {name: value for name, value in body.items() if name not in ("messages", "n", "stream")}
        if inspect.iscoroutinefunction(self._custom.complete):
            return await self._custom.complete(body["messages"], n, **options)
        call = partial(self._custom.complete, body["messages"], n, **options)
        answer = await asyncio.get_running_loop().run_in_executor(self._executor, call)
        return await answer if inspect.isawaitable(answer) else answer
