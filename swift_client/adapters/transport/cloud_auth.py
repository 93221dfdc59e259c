"""Signing in without a key: the cloud's own library finds who you are and gives tokens that expire.

Each function returns another one, for ``api_key=``, that gives a token good for at least a few minutes more. Rows with
``sign_in`` use it where neither ``api_key=`` nor their variable gives a key. Called in a thread, never on the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from swift_client.errors import ConnectionFailedError, MissingApiKeyError, MissingExtraError

_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"

TokenSource = Callable[[], str]


def google_token_source(credentials: Any = None) -> TokenSource:
    """Return a function that gives Google access tokens.

    Args:
        credentials: of google-auth; default: Application Default Credentials, looked for at the first token.

    Raises (the function, not this):
        MissingExtraError: google-auth is not installed.
        MissingApiKeyError: there are no credentials, or Google refuses them.
        ConnectionFailedError: the token's endpoint cannot be reached.
    """
    lock = threading.Lock()
    held = credentials

    def give() -> str:
        nonlocal held
        try:
            import google.auth
            from google.auth.transport.requests import Request
        except ImportError:
            raise MissingExtraError.needs("vertex", "Signing in to Google without a token of your own") from None
        with lock:  # sixteen requests that start together need one token
            try:
                if held is None:
                    held, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
                if not held.valid:  # false from 3 min 45 s before the end: google.auth._helpers.REFRESH_THRESHOLD
                    held.refresh(Request())
                return str(held.token)
            except google.auth.exceptions.TransportError as error:
                problem: Exception = ConnectionFailedError(f"No token from Google: {error}.", retryable=True)
            except google.auth.exceptions.GoogleAuthError as error:
                problem = MissingApiKeyError(
                    f"Google does not know who you are: {error}",
                    hint="`gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS, or pass "
                    "api_key=.",
                )
        raise problem

    return give


def azure_token_source(credential: Any = None) -> TokenSource:
    """Return a function that gives Microsoft Entra tokens.

    Args:
        credential: of azure-identity, anything with ``get_token(scope)``; default: DefaultAzureCredential, made at the
            first token. It keeps its token and renews it five minutes before the end.

    Raises (the function, not this):
        MissingExtraError: azure-identity is not installed.
        MissingApiKeyError: there are no credentials, or Entra refuses them.
    """
    lock = threading.Lock()
    held = credential

    def give() -> str:
        nonlocal held
        try:
            from azure.core.exceptions import ClientAuthenticationError
            from azure.identity import DefaultAzureCredential
        except ImportError:
            raise MissingExtraError.needs("azure", "Signing in to Azure without AZURE_OPENAI_API_KEY") from None
        with lock:
            try:
                held = held or DefaultAzureCredential()
                return str(held.get_token(_AZURE_SCOPE).token)
            except ClientAuthenticationError as error:
                reason = error.message.strip().partition("\n")[0]
        raise MissingApiKeyError(
            f"Azure does not know who you are: {reason}",
            hint="Set AZURE_OPENAI_API_KEY, or `az login`, or pass api_key=.",
        )

    return give


TOKEN_SOURCES: Mapping[str, Callable[[], TokenSource]] = MappingProxyType(
    {"google": google_token_source, "azure": azure_token_source}
)
"""``Provider.sign_in`` → the function that signs in."""
