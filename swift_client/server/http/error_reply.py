"""Errors as a status, headers and OpenAI's error object. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    CapabilityError,
    ConfigurationError,
    ConnectionFailedError,
    MissingApiKeyError,
    MissingExtraError,
    NoCompletionError,
    RateLimitError,
    RejectedError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    SwiftClientError,
    VerificationError,
)


class HttpError(Exception):
    """A request that is refused, with everything that its reply says."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after  # seconds
        self.closes = closes  # whether the connection ends, since the rest of the request is not read


@dataclass(frozen=True, kw_only=True)
class ErrorReply:
    """The reply to a request that failed."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The reply to one class of error; ``shows`` tells if the error's own message is for the client."""

    kind: type[SwiftClientError]
    status: int
    code: str
    shows: bool = True


# The first row whose class fits decides, so a class stands before its base.
_ROWS = (
    _Row(kind=AuthenticationError, status=502, code="upstream_authentication", shows=False),
    _Row(kind=RateLimitError, status=429, code="rate_limit_exceeded"),
    _Row(kind=RequestTimeoutError, status=504, code="upstream_timeout"),
    _Row(kind=ServerError, status=502, code="upstream_error"),
    _Row(kind=ConnectionFailedError, status=502, code="upstream_unreachable", shows=False),
    _Row(kind=ResponseDecodeError, status=502, code="upstream_invalid_reply"),
    _Row(kind=BadRequestError, status=502, code="upstream_refused"),
    _Row(kind=BudgetExceededError, status=402, code="budget_exceeded"),
    _Row(kind=RejectedError, status=422, code="answer_not_accepted"),
    _Row(kind=VerificationError, status=502, code="verification_failed"),
    _Row(kind=CapabilityError, status=502, code="upstream_lacks_capability"),
    _Row(kind=MissingApiKeyError, status=500, code="missing_upstream_key", shows=False),
    _Row(kind=MissingExtraError, status=500, code="service_configuration", shows=False),
    _Row(kind=ConfigurationError, status=400, code="invalid_request"),
)
_HIDDEN_MESSAGES = {
    "upstream_authentication": "The upstream provider refused the key of this service.",
    "upstream_unreachable": "The upstream provider could not be reached, or the connection broke.",
    "missing_upstream_key": "This service has no key for its upstream provider.",
    "service_configuration": "This service is not configured completely.",
}
# Refusals of the provider that are about the client's request itself.
_PASSED_STATUSES = frozenset((400, 413, 415, 422))
_TYPES = {401: "authentication_error", 402: "budget_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error object."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def reply_to_error(error: Exception, *, is_callers_key: bool = False) -> ErrorReply:
    """Return the reply to any error.

    Args:
        error: an HttpError or an error of ``best_of``; any other is a bug, of which the client learns nothing more.
        is_callers_key: whether the request was sent upstream with the caller's own key, so that a refused key is the
            caller's.
    """
    if isinstance(error, HttpError):
        headers = {"connection": "close"} if error.closes else {}
        body = error_body(error.status, error.message, code=error.code, param=error.param)
        return ErrorReply(status=error.status, body=body, headers=headers | _retry_headers(error.retry_after))
    if not isinstance(error, SwiftClientError):
        return ErrorReply(status=500, body=error_body(500, "The service failed.", code="internal_error"))
    if isinstance(error, NoCompletionError):
        return _reply_to_causes(error, is_callers_key=is_callers_key)
    row = next((row for row in _ROWS if isinstance(error, row.kind)), None)
    if row is None:
        return ErrorReply(status=500, body=error_body(500, "The service failed.", code="internal_error"))
    status, code = row.status, row.code
    message = error.message if row.shows else _HIDDEN_MESSAGES[code]
    if is_callers_key and isinstance(error, AuthenticationError | MissingApiKeyError):
        status, code, message = error.status or 401, "invalid_api_key", error.message
    elif isinstance(error, BadRequestError) and error.status in _PASSED_STATUSES:
        status, code = error.status, "invalid_request"
    param = error.param if isinstance(error, BadRequestError) else None
    retry_after = getattr(error, "retry_after", None)
    return ErrorReply(
        status=status,
        body=error_body(status, message, code=code, param=param),
        headers=_retry_headers(1.0 if retry_after is None and status == 429 else retry_after),
    )


def _reply_to_causes(error: NoCompletionError, *, is_callers_key: bool) -> ErrorReply:
    """Return the reply to the most frequent cause; a gateway error without one."""
    cause = _most_frequent(error.causes)
    if cause is None:
        return ErrorReply(status=502, body=error_body(502, error.message, code="no_completion"))
    reply = reply_to_error(cause, is_callers_key=is_callers_key)
    message = f"{error.message} {reply.body['error']['message']}"
    fields = {name: reply.body["error"][name] for name in ("code", "param")}
    return ErrorReply(status=reply.status, body=error_body(reply.status, message, **fields), headers=reply.headers)


def _most_frequent(causes: Sequence[SwiftClientError]) -> SwiftClientError | None:
    counts = Counter(type(cause) for cause in causes if not isinstance(cause, NoCompletionError))
    if not counts:
        return None
    kind = counts.most_common(1)[0][0]
    return next(cause for cause in causes if type(cause) is kind)


def _retry_headers(seconds: float | None) -> dict[str, str]:
    """Return ``Retry-After`` in whole seconds, rounded up."""
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(min(seconds, 86_400.0))))}
