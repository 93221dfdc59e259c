"""API keys: from the argument, a function, the provider's environment variable, or a cloud's sign-in.

Signing in: the cloud's own library finds the credentials and returns tokens that expire. A provider with ``sign_in``
uses it if neither ``api_key=`` nor its variable gives a key. It runs in a thread, never on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.transport.error_responses import ENCODINGS
from swift_client.adapters.transport.redaction import scrub
from swift_client.adapters.user_threads import UserThreads
from swift_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    MissingApiKeyError,
    MissingExtraError,
    SwiftClientError,
)

# A key, or a function (sync or async) that returns one for each request.
ApiKey = str | Callable[[], str | Awaitable[str]]

TokenSource = Callable[[], str]

_PLAIN_WORD = re.compile(r"[\W_]*(?:[^\W\d_]{1,15}|\d{1,5})[\W_]*")
_NO_KEY = "none"  # sent to servers without keys, which ignore it
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"


class ApiKeySource:
    """Provides the key for each request. Remembers recent keys only to remove them from messages."""

    def __init__(self, provider: Provider, api_key: ApiKey | None, *, timeout: float = 60.0) -> None:
        self._provider = provider
        self._api_key = api_key
        self.recent_keys: deque[str] = deque(maxlen=64)
        self._timeout = timeout
        self._threads: UserThreads | None = None  # made for the first call of a function

    async def read(self) -> str:
        """Return the key.

        Raises:
            MissingApiKeyError: there is none.
            ConfigurationError: the function failed, or the key has a character that HTTP headers cannot carry.
        """
        # Order: api_key=, the provider's variable, signing in.
        name, variable = self._provider.name, self._provider.key_variable
        if self._api_key is None and self._provider.sign_in and not os.environ.get(variable or "", "").strip():
            self._api_key = TOKEN_SOURCES[self._provider.sign_in]()
        if self._api_key is None and variable is None:
            return _NO_KEY
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
                f"The API key for provider {name!r} contains a character that HTTP headers cannot carry.",
                hint="Copy it again, without line breaks.",
            )
        if key not in self.recent_keys:
            self.recent_keys.append(key)
        return key

    async def _call_function(self, function: Callable[[], str | Awaitable[str]]) -> str:
        try:
            # A sync function may ask a vault over the network: not on the event loop.
            async with asyncio.timeout(self._timeout):
                self._threads = self._threads or UserThreads()
                answer = await self._threads.call(function)
                return await answer if inspect.isawaitable(answer) else answer
        except TimeoutError:
            problem = f"It took longer than {self._timeout:g} s"
        except SwiftClientError:  # raised by our own sign-in: it already says what to do
            raise
        except Exception as error:
            text = scrub(str(error), self.recent_keys)
            # It may hold a key that has not been read, so only plain words and short numbers are shown.
            text = " ".join(word if _PLAIN_WORD.fullmatch(word) else "***" for word in text[:600].split())
            problem = f"{type(error).__name__}: {text}"
        raise ConfigurationError(f"The api_key function failed. {problem}.", hint="Call it directly to see why.")


def build_headers(provider: Provider, key: str) -> dict[str, str]:
    """Return the headers of a request, with the key."""
    headers = {"accept": "application/json", "accept-encoding": ", ".join(ENCODINGS), **provider.headers}
    # The user and password of a base URL are sent only to a server without a key.
    if provider.key_header != "authorization":
        headers[provider.key_header] = key
    elif key != _NO_KEY or "authorization" not in headers:
        headers["authorization"] = f"Bearer {key}"
    if provider.key_variable == "OPENAI_API_KEY":
        # OpenAI's client reads these variables too; they are not sent to any other vendor.
        variables = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}
        headers |= {name: value for name, variable in variables.items() if (value := os.environ.get(variable))}
    return headers


def url_credentials(provider: Provider) -> list[str]:
    """Return the secrets of a base URL with user and password, to remove them from messages."""
    scheme, _, encoded = provider.headers.get("authorization", "").partition(" ")
    if scheme != "Basic":
        return [encoded] if encoded else []
    try:
        password = base64.b64decode(encoded).decode("utf-8", "replace").partition(":")[2]
    except ValueError:
        return [encoded]
    return [encoded, password]


def google_token_source(credentials: Any = None) -> TokenSource:
    """Return a function that returns Google access tokens, each valid for at least a few minutes.

    Args:
        credentials: of google-auth; default: Application Default Credentials, looked up at the first token.

    Raises (the returned function):
        MissingExtraError: google-auth is not installed.
        MissingApiKeyError: there are no credentials, or Google refuses them.
        ConnectionFailedError: the token endpoint cannot be reached.
    """
    lock = threading.Lock()

    def get_token() -> str:
        nonlocal credentials
        try:
            import google.auth
            from google.auth.transport.requests import Request
        except ImportError:
            raise MissingExtraError.needs("vertex", "Signing in to Google without api_key=") from None
        with lock:  # sixteen requests that start together need one token
            try:
                if credentials is None:
                    credentials, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
                # `valid` turns False 3 min 45 s before the token expires (google.auth._helpers.REFRESH_THRESHOLD).
                if not credentials.valid:
                    credentials.refresh(Request())
                return str(credentials.token)
            except google.auth.exceptions.TransportError as error:
                problem: Exception = ConnectionFailedError(
                    f"No token from Google: {scrub(str(error))}.", retryable=True
                )
            except google.auth.exceptions.GoogleAuthError as error:
                problem = MissingApiKeyError(
                    f"Signing in to Google failed: {scrub(str(error))}",
                    hint="Run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or pass "
                    "api_key=.",
                )
        raise problem

    return get_token


def azure_token_source(credential: Any = None) -> TokenSource:
    """Return a function that returns Microsoft Entra tokens, each valid for at least a few minutes.

    Args:
        credential: of azure-identity, anything with ``get_token(scope)``; default: DefaultAzureCredential, created at
            the first token. It keeps its token and renews it five minutes before it expires.

    Raises (the returned function):
        MissingExtraError: azure-identity is not installed.
        MissingApiKeyError: there are no credentials, or Entra refuses them.
    """
    lock = threading.Lock()

    def get_token() -> str:
        nonlocal credential
        try:
            from azure.core.exceptions import ClientAuthenticationError
            from azure.identity import DefaultAzureCredential
        except ImportError:
            raise MissingExtraError.needs("azure", "Signing in to Azure without AZURE_OPENAI_API_KEY") from None
        with lock:
            try:
                credential = credential or DefaultAzureCredential()
                return str(credential.get_token(_AZURE_SCOPE).token)
            except ClientAuthenticationError as error:
                reason = scrub(error.message.strip().partition("\n")[0])
        raise MissingApiKeyError(
            f"Signing in to Azure failed: {reason}", hint="Set AZURE_OPENAI_API_KEY, run `az login`, or pass api_key=."
        )

    return get_token


# ``Provider.sign_in`` → the function that signs in.
TOKEN_SOURCES: Mapping[str, Callable[[], TokenSource]] = MappingProxyType(
    {"google": google_token_source, "azure": azure_token_source}
)
