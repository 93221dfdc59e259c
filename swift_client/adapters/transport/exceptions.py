"""Translation of exceptions of openai, httpx2, httpx, the standard library and users' objects to our error tree.

Classes are recognised by the names of their ancestors, so this module imports none of those libraries and also handles
a caller's openai client that still uses the older httpx.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.transport import error_responses
from swift_client.adapters.transport.redaction import scrub
from swift_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    ProviderError,
    RequestTimeoutError,
    ResponseDecodeError,
    SwiftClientError,
)

_TIMEOUT_ERROR_NAMES = {"TimeoutException", "APITimeoutError", "TimeoutError", "Timeout"}
_CONFIGURATION_ERROR_NAMES = {"UnsupportedProtocol", "InvalidURL", "LocalProtocolError", "CookieConflict"}
_DECODE_ERROR_NAMES = {"DecodingError", "APIResponseValidationError"}
_CONNECTION_ERROR_NAMES = {"TransportError", "RequestError", "APIConnectionError", "ConnectionError", "StreamError"}
_CONNECTION_ERROR_NAMES |= {"EndOfStream", "BrokenResourceError", "ClosedResourceError", "OSError"}


def error_from_exception(
    error: Exception, provider: Provider | None = None, *, bytes_received: int = 0, secrets: Iterable[str] = ()
) -> SwiftClientError:
    """Return the equivalent error of our tree; errors of our tree are returned unchanged.

    Raise the result outside the ``except`` block: the original exception holds the request, and with it the key, and
    must not become the result's ``__context__``.

    Args:
        error: any exception.
        provider: for names in the message.
        bytes_received: bytes of the body that had arrived.
        secrets: keys that must not appear in the message, besides those of the failed request itself.
    """
    if isinstance(error, SwiftClientError):
        return error
    # Collect the facts: class names along the ancestry, causes, keys to remove, and the HTTP response if there is one.
    name = provider.name if provider else None
    chain = list(_cause_chain(error))
    names = {cls.__name__ for cls in type(error).__mro__}
    cause_names = {type(cause).__name__ for cause in chain}  # the SDK wraps all causes in one APIConnectionError
    requests = [request for cause in chain if (request := _failed_request(cause)) is not None]
    secrets = [*secrets, *_request_keys(requests)]
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
    text = " ".join(scrub(_error_text(chain[-1]), secrets).split())[:600]
    # Then classify, from the most to the least specific.
    if isinstance(status, int) and status >= 300:
        headers, body = _headers_and_body(response, error)
        return error_responses.error_from_response(status, headers, body, provider, secrets=secrets)
    host = ""
    if requests:
        url = requests[0].url
        host = f" to {url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"
    if names & _TIMEOUT_ERROR_NAMES:
        hint = "Raise timeout=, or request fewer tokens or fewer completions per call."
        message = "The reply was not complete within the timeout."
        return RequestTimeoutError(message, hint=hint, provider=name, retryable=True)
    if any(isinstance(cause, ssl.SSLError) or "[SSL" in str(cause) for cause in chain):
        hint = (
            "Certificates come from the system's trust store: install the CA there or name it in SSL_CERT_FILE; "
            "a server without TLS needs http:// in base_url=."
        )
        return ConnectionFailedError(f"No secure connection{host}: {text}.", hint=hint, provider=name)
    if cause_names & _DECODE_ERROR_NAMES:
        return ResponseDecodeError(f"The reply could not be decompressed or read: {text}.", provider=name)
    if names & _CONNECTION_ERROR_NAMES and not cause_names & _CONFIGURATION_ERROR_NAMES:
        if bytes_received:
            message, hint = f"The connection{host} broke after {bytes_received:,} bytes of the reply", ""
        else:
            message = f"No connection{host}"
            hint = "Check that the server is running, base_url=, and the proxy variables (HTTPS_PROXY)."
        return ConnectionFailedError(f"{message}: {text}.", hint=hint, provider=name, retryable=True)
    if isinstance(error, RuntimeError) and "loop" in text:
        hint = "Create the client and the reranker inside the loop that uses them."
        return ConfigurationError(f"The client belongs to another event loop: {text}.", hint=hint, provider=name)
    if cause_names & _CONFIGURATION_ERROR_NAMES or "OpenAIError" in names or isinstance(error, (TypeError, ValueError)):
        hint = "Check base_url=, the key and the sampling parameters."
        return ConfigurationError(f"The request could not be built: {text}.", hint=hint, provider=name)
    return ProviderError(f"{type(error).__name__}: {text}.", provider=name)


def _cause_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            # anyio tries several addresses; the first refusal says as much as all of them.
            current = current.exceptions[0]
        else:
            # httpcore2 suppresses the context, which holds the actual reason, so it is followed too.
            current = current.__cause__ or current.__context__


def _error_text(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"  # asyncio's own text is "Connect call failed"
    return (str(error) or type(error).__name__).strip().rstrip(".")


def _request_keys(requests: list[Any]) -> list[str]:
    """Return the keys of the failed requests, because servers and libraries repeat them in messages."""
    headers = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
    values = [request.headers.get(header) for request in requests for header in headers]
    return [value.removeprefix("Bearer ").strip() for value in values if value]


def _failed_request(error: BaseException) -> Any:
    try:
        request = getattr(error, "request", None)
    except RuntimeError:  # httpx2 raises this if no request was set
        return None
    return request if hasattr(request, "headers") and hasattr(request, "url") else None


def _headers_and_body(response: object, error: Exception) -> tuple[Mapping[str, str], bytes]:
    try:
        content = getattr(response, "content", None)
    except Exception:  # unread or closed response: only the status is known
        content = None
    if not isinstance(content, bytes):
        content = str(getattr(error, "message", "") or error).encode("utf-8", "replace")
    headers = getattr(response, "headers", None)
    return dict(headers.items()) if headers is not None else {}, content
