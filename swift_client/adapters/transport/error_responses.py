"""Errors built from a server's response: they say what happened and what to do. Bytes in, exception out.

Body formats of the providers, all parsed here: OpenAI's ``{"error": {"message", "type", "param", "code"}}``; xAI's
``{"code": ..., "error": "text"}``; SGLang's bare JSON string and ``{"object": "error", "message"}``; FastAPI's
``{"detail": ...}``, which Mistral puts under ``message``; Amazon's ``{"Message": ...}``; gateways' ``errors``, ``msg``
and ``error_message``; Google's list of errors with ``RetryInfo``; OpenRouter's upstream text in ``metadata.raw``; a
proxy's HTML page; plain text; nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import msgspec

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.transport.rate_limit_headers import retry_after_from_headers, retry_after_from_message
from swift_client.adapters.transport.redaction import scrub
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
)

_MAX_MESSAGE_CHARS = 600  # longer messages are cut: a server may echo the whole prompt

_MAX_BODY_BYTES = 1_000_000  # bytes that are read of a refusal's body

ENCODINGS = ("gzip", "deflate")  # compression that is requested of servers
_MAX_ID_CHARS = 200
# Fields in which providers put their message.
_MESSAGE_FIELDS = ("message", "Message", "msg", "error_message", "error_description")

# Words of errors inside a 200, with the status that OpenAI sends with such an error.
_STATUS_PATTERNS = tuple(
    (re.compile(pattern), status)
    for pattern, status in (
        (r"rate.?limit|insufficient_quota|exhausted|too.many|throttl", 429),
        (r"authentication|api.key|permission|unauthorized|forbidden", 401),
        (r"time.?out|timed.out|deadline.exceeded", 408),
        (r"server.error|internal|overload|unavailable|api_error|gateway|capacity|\bbusy|upstream|network|disconnect"
         r"|connection|try again|temporar|crash", 500),
        (r"invalid|bad.request|unsupported|not.support|must be|required|missing|not.found|not exist|unknown|unexpected "
         r"endpoint|context.(size|length|window)|too long|malformed|content.?(filter|policy)|violat|refus|denied", 400),
    )
)  # fmt: skip
_STATUS_IN_TEXT = re.compile(
    r"^\W*([45]\d\d)\b|\b(?:http(?:/[\d.]+)?|status|code|error)(?: code)?\W{1,3}([45]\d\d)\b", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class _ErrorDetails:
    """The content of an error body, in one format.

    Attributes:
        kind: words of ``type``, ``code`` and ``status``, joined in lower case.
        status: an HTTP status inside the body, as OpenRouter and vLLM send it.
        retry_delay: Google's ``RetryInfo.retryDelay`` in seconds.
    """

    message: str = ""
    param: str | None = None
    kind: str = ""
    status: int | None = None
    retry_delay: float | None = None


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    provider: Provider | None = None,
    *,
    secrets: Iterable[str] = (),
) -> ProviderError:
    """Build the error of a response whose status is not 2xx.

    Args:
        status: HTTP status code.
        headers: names in any case.
        body: the complete body.
        provider: for its name and key variable in the message.
        secrets: keys that must not appear in the message; servers echo them in a 401.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    request_id = lower.get("x-request-id") or lower.get("apim-request-id") or lower.get("request-id")
    request_id = scrub(request_id, secrets)[:_MAX_ID_CHARS] if request_id else None
    if 300 <= status < 400:
        target = scrub(lower.get("location", "another address")[:_MAX_MESSAGE_CHARS], secrets)
        return ConnectionFailedError(
            f"The server redirects to {target}, and a redirected request may lose its body or its key.",
            hint="Set base_url= to the address that it redirects to, if you trust it.",
            provider=provider.name if provider else None,
            status=status,
            request_id=request_id,
        )
    error = _build_error(status, replace(_parse_body(body), status=status), lower, provider, secrets)
    error.request_id = request_id
    return error


def error_from_object(error: object, provider: Provider | None = None, *, secrets: Iterable[str] = ()) -> ProviderError:
    """Build the error of an error object inside a 200 body or a stream (OpenRouter, LM Studio).

    Args:
        error: the decoded JSON value under ``"error"``: an object or a string.
        provider: as for ``error_from_response()``.
        secrets: as for ``error_from_response()``.
    """
    details = _parse_details({"error": error})
    return _build_error(details.status or _infer_status(details), details, {}, provider, secrets)


def error_from_html(body: bytes, provider: Provider | None = None) -> ResponseDecodeError | None:
    """Return the error of a 200 with a web page instead of JSON, or None if the body is not a page."""
    if not body[:64].lstrip().startswith(b"<"):
        return None
    title = _page_title(body[:20_000].decode("utf-8", "replace")) or "no title"
    return ResponseDecodeError(
        f"The server answered with a web page ({title}) instead of JSON.",
        hint="Check base_url=; it usually ends in /v1.",
        provider=provider.name if provider else None,
        status=200,
    )


def is_logprobs_refusal(error: ProviderError) -> bool:
    """Return True if a 4xx says that this model returns no logprobs at all, not just fewer.

    Real messages are "You are not allowed to request logprobs from this model", "`logprobs` is not supported with this
    model", "Logprobs is not enabled for models/...", "Unsupported parameter: 'top_logprobs'". llama.cpp's Responses API
    says "top_logprobs requires logprobs to be set to true", and returns none even then. OpenRouter's Responses API
    names the field that requests them: "Invalid option" at path ["include",0].
    """
    if error.status not in (400, 403, 404, 422):
        return False
    param = getattr(error, "param", None) or ""
    if "nvalid option" in error.message and (param.startswith("include") or '"include"' in error.message):
        return True
    return (
        "logprobs" in error.message.lower()
        and bool(re.search(r"not[\w\s]{0,12}(support|allow|enable|availab|permit)|unsupported|unknown|unrecogni|extra "
                           r"(inputs|fields)|does ?n[o']t|requires logprobs", error.message, re.IGNORECASE))
    )  # fmt: skip


def too_long_error(max_bytes: float, provider: Provider) -> ResponseDecodeError:
    """Return the error of a reply with more than ``max_bytes`` bytes."""
    return ResponseDecodeError(
        f"The reply is longer than max_reply_bytes={max_bytes:_.0f}, so it was not read to its end.",
        hint="Raise max_reply_bytes=, or ask for fewer completions, tokens or alternatives per call.",
        provider=provider.name,
    )


def encoding_error(status: int, provider: Provider) -> ResponseDecodeError:
    """Return the error of a reply that is compressed otherwise than requested."""
    return ResponseDecodeError(
        f"The reply is compressed in another way than requested ({', '.join(ENCODINGS)}).",
        hint="Check the server and the proxies in front of it.",
        provider=provider.name,
        status=status,
    )


def _build_error(
    status: int, details: _ErrorDetails, headers: Mapping[str, str], provider: Provider | None, secrets: Iterable[str]
) -> ProviderError:
    """Build the error. ``status`` may be inferred; the error shows only ``details.status``, which the server sent."""
    # The message: without secrets, on one line, of bounded length, never empty.
    message = " ".join(scrub(details.message, secrets).split())
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[:_MAX_MESSAGE_CHARS] + "..."
    if not message and details.status is None:
        message = "The server sent an error without a message."
    elif not message:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "an unknown status"
        message = f"The server answered {status} ({phrase}) without a message."
    kind, hint, retryable = _classify_status(status, details.kind, provider)
    should_retry = headers.get("x-should-retry")  # the server knows best
    if should_retry in ("true", "false"):
        retryable = should_retry == "true"
    # The error, with the fields that only some classes have.
    name = provider.name if provider else None
    error = kind(message, hint=hint, provider=name, status=details.status, retryable=retryable)
    if isinstance(error, BadRequestError):
        error.param = details.param
    if isinstance(error, (RateLimitError, ServerError)):
        waits = retry_after_from_headers(headers), details.retry_delay, retry_after_from_message(details.message)
        error.retry_after = next((wait for wait in waits if wait is not None), None)
    return error


def _classify_status(status: int, kind: str, provider: Provider | None) -> tuple[type[ProviderError], str, bool]:
    """Return the error class, the hint, and whether a retry can help."""
    variable = provider.key_variable if provider else None
    match 401 if "api_key_invalid" in kind else status:  # Google says so with a 400
        case 401 | 403:
            source = f" in {variable}" if variable else ""
            return AuthenticationError, f"Check the key{source} (or api_key=) and its permissions.", False
        case 402:
            return BadRequestError, "Add credit to the account.", False
        case 404:
            return BadRequestError, "Check model= and base_url=.", False
        case 408:
            return RequestTimeoutError, "Request fewer tokens, or raise timeout=.", True
        case 409:
            return BadRequestError, "Another request is in conflict with this one; try again.", True
        case 429 if any(word in kind for word in ("insufficient_quota", "exceeded_current_quota", "billing")):
            return RateLimitError, "The quota is used up: add credit; waiting does not help.", False
        case 429:
            return RateLimitError, "Lower max_concurrency=, or try again later.", True
        case _ if status >= 500:
            return ServerError, "The problem is on the server's side; try again later.", True
        case _ if "content_filter" in kind:
            return BadRequestError, "The provider's content filter refused the prompt; change the prompt.", False
        case _:
            return BadRequestError, "Change the request: sending it again unchanged will fail again.", False


def _infer_status(details: _ErrorDetails) -> int:
    """Return the status that fits an error without one, inside a 200, from its kind or else from its message.

    An error that says nothing known counts as the server's, so it is retried: the request was accepted before.
    """
    kind = details.kind.removeprefix("error").strip()
    if number := _STATUS_IN_TEXT.search(details.message):
        return int(str(number[1] or number[2]))
    for text in (kind, details.message.lower()):
        for pattern, status in _STATUS_PATTERNS:
            if pattern.search(text):
                return status
    return 400 if kind else 500


def _parse_body(body: bytes) -> _ErrorDetails:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        if text.lstrip().startswith("<"):
            return _ErrorDetails(message=_page_title(text[:20_000]))
        return _ErrorDetails(message=text)
    return _parse_details(value)


def _parse_details(value: Any) -> _ErrorDetails:
    if isinstance(value, list) and value:
        value = value[0]  # Google wraps its error in a list
    if isinstance(value, str):
        return _ErrorDetails(message=value)
    if not isinstance(value, dict):
        return _ErrorDetails()
    # The error is under "error" as an object, under "error" as a text, or it is the body itself.
    inner = value.get("error")
    if not isinstance(inner, dict):
        inner = {**value, "message": inner} if isinstance(inner, str) else value
    listed = inner.get("details")  # Google's list of reasons and RetryInfo
    google_details = [detail for detail in listed if isinstance(detail, dict)] if isinstance(listed, list) else []
    delays = [detail["retryDelay"] for detail in google_details if isinstance(detail.get("retryDelay"), str)]
    codes = [inner.get(name) for name in ("type", "code", "error_code", "status", "status_code", "statusCode")]
    codes += [detail.get("reason") for detail in google_details]
    numbers = [int(str(code)) for code in codes if re.fullmatch("[45][0-9][0-9]", str(code))]
    param = inner.get("param")
    return _ErrorDetails(
        message=_extract_message(inner),
        param=param if isinstance(param, str) else None,
        kind=" ".join(code for code in codes if isinstance(code, str)).lower(),
        status=numbers[0] if numbers else None,
        retry_delay=retry_after_from_message(f"retry in {delays[0]}") if delays else None,
    )


def _extract_message(inner: dict[str, Any]) -> str:
    message = next((inner[name] for name in _MESSAGE_FIELDS if inner.get(name)), None)
    if isinstance(message, dict):  # Mistral puts FastAPI's errors there
        inner = message
    if isinstance(message, str):
        metadata = inner.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        return f"{message}: {raw}" if isinstance(raw, str) and raw not in message else message
    nested = next((inner[name] for name in ("detail", "errors") if inner.get(name)), None)
    errors = nested if isinstance(nested, list) else [nested]
    return "; ".join(filter(None, map(_extract_nested_message, errors)))


def _extract_nested_message(error: object) -> str:
    """Return the message of one of several errors; pydantic's errors under FastAPI also name the invalid field."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    location = error.get("loc")
    message = next((error[name] for name in _MESSAGE_FIELDS if isinstance(error.get(name), str)), "")
    if isinstance(location, (list, tuple)) and location:
        return f"{'.'.join(map(str, location))}: {message}"
    return str(message)


def _page_title(page: str) -> str:
    for tag in ("title", "h1", "body"):  # the first with text says most in fewest words
        start = page.lower().find(f"<{tag}")
        end = page.lower().find(f"</{tag}", start)
        if 0 <= start < end:
            text = re.sub(r"<[^<>]*>", " ", page[start:end]).strip()
            if text:
                return text
    return ""


async def read_start(chunks: AsyncGenerator[bytes]) -> bytes:
    """Return the body of a refusal, cut after a megabyte: it may be endless."""
    body = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) >= _MAX_BODY_BYTES:
                break
    return bytes(body[:_MAX_BODY_BYTES])
