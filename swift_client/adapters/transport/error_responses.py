"""From what a server answered to the error that says what happened and what to do. Pure: bytes in, exception out.

Body shapes that providers send, all read here: OpenAI's ``{"error": {"message", "type", "param", "code"}}``; xAI's
``{"code": ..., "error": "text"}``; SGLang's bare JSON string and ``{"object": "error", "message"}``; FastAPI's
``{"detail": ...}``, which Mistral hangs under ``message``; Amazon's ``{"Message": ...}``; gateways' ``errors``, ``msg``
and ``error_message``; Google's list of errors with ``RetryInfo``; OpenRouter's upstream text in ``metadata.raw``; a
proxy's HTML page; plain text; nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.transport.rate_limit_headers import retry_after_from_headers, retry_after_from_message
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

_MAX_MESSAGE_CHARS = 600
"""Characters kept of a provider's message: a server may echo the whole prompt."""

_MESSAGE_FIELDS = ("message", "Message", "msg", "error_message", "error_description")
"""Fields in which providers put their sentence."""

_API_KEY_PATTERN = re.compile(
    r"\b(?:sk|gsk|xai|fw|hf|pplx|nvapi|tgp)[-_][\w.*-]{6,}|\bAIza[\w-]{10,}|(?<=Bearer )\S{6,}"
)


@dataclass(frozen=True, kw_only=True)
class _ErrorDetails:
    """What a body says, in one shape."""

    message: str = ""
    param: str | None = None
    kind: str = ""
    """``type``, ``code`` and ``status`` words, joined in lower case."""
    status: int | None = None
    """An HTTP status inside the body, as OpenRouter and vLLM put it."""
    retry_delay: float | None = None
    """Google's ``RetryInfo.retryDelay`` in seconds."""


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    provider: Provider | None = None,
    *,
    secrets: Iterable[str] = (),
) -> ProviderError:
    """Build the error of an HTTP answer that is not 2xx.

    Args:
        status: HTTP status code.
        headers: names in any case.
        body: the whole body as it came.
        provider: the row; its name and key variable stand in the message.
        secrets: keys that must not appear in the message, which servers echo in 401 texts.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    request_id = lower.get("x-request-id") or lower.get("apim-request-id") or lower.get("request-id")
    if 300 <= status < 400:
        target = scrub(lower.get("location", "another address"), secrets)
        return ConnectionFailedError(
            f"The server redirects to {target}, and a redirected request may lose its body or its key.",
            hint="Give base_url= the address that really answers.",
            provider=provider.name if provider else None,
            status=status,
            request_id=request_id,
        )
    return _build_error(status, status, _parse_body(body), lower, request_id, provider, secrets)


def error_from_object(error: object, provider: Provider | None = None, *, secrets: Iterable[str] = ()) -> ProviderError:
    """Build the error of an error object inside a 200 body or a stream (OpenRouter, LM Studio).

    Args:
        error: the decoded JSON value under ``"error"``: an object or a string.
        provider: as for :func:`from_response`.
        secrets: as for :func:`from_response`.
    """
    details = _parse_details({"error": error})
    status = details.status or _infer_status(details.kind)
    return _build_error(status, details.status, details, {}, None, provider, secrets)


def error_from_html(body: bytes, provider: Provider | None = None) -> ResponseDecodeError | None:
    """Return the error of a 200 that carries a web page instead of JSON, or None where it is not a page."""
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
    """Whether a 4xx says that this model gives no logprobs at all (a cap on their number is no refusal).

    Real sentences: "You are not allowed to request logprobs from this model", "`logprobs` is not supported with this
    model", "Logprobs is not enabled for models/...", "Unsupported parameter: 'top_logprobs'", and llama.cpp's
    Responses, which gives none even then: "top_logprobs requires logprobs to be set to true". OpenRouter's Responses
    names the field that asks for them there: "Invalid option" at path ["include",0].
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


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace every given secret, and whatever looks like an API key, by ``***``."""
    for secret in secrets:
        if len(secret) >= 4:  # shorter ones are placeholders such as "x", and would eat the message
            text = text.replace(secret, "***")
    return _API_KEY_PATTERN.sub("***", text)


def _build_error(
    status: int,
    shown_status: int | None,
    details: _ErrorDetails,
    headers: Mapping[str, str],
    request_id: str | None,
    provider: Provider | None,
    secrets: Iterable[str],
) -> ProviderError:
    message = " ".join(scrub(details.message, secrets).split())
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[:_MAX_MESSAGE_CHARS] + "..."
    if not message:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "an unknown status"
        message = f"The server answered {status} ({phrase}) and said nothing more."
    kind, hint, retryable = _classify_status(status, details.kind, provider)
    verdict = headers.get("x-should-retry")
    if verdict in ("true", "false"):
        retryable = verdict == "true"
    error = kind(
        message,
        hint=hint,
        provider=provider.name if provider else None,
        status=shown_status,
        request_id=request_id,
        retryable=retryable,
    )
    if isinstance(error, BadRequestError):
        error.param = details.param
    if isinstance(error, (RateLimitError, ServerError)):
        asked = retry_after_from_headers(headers)
        error.retry_after = next(
            (
                wait
                for wait in (asked, details.retry_delay, retry_after_from_message(details.message))
                if wait is not None
            ),
            None,
        )
    return error


def _classify_status(status: int, kind: str, provider: Provider | None) -> tuple[type[ProviderError], str, bool]:
    """Return the class, the hint and whether a retry can help."""
    variable = provider.key_variable if provider else None
    match 401 if "api_key_invalid" in kind else status:  # Google says so with a 400
        case 401 | 403:
            where = f" in {variable}" if variable else ""
            return AuthenticationError, f"Check the key{where} (or api_key=) and what it is allowed to use.", False
        case 402:
            return BadRequestError, "Add credit to the account.", False
        case 404:
            return BadRequestError, "Check model= and base_url=.", False
        case 408:
            return RequestTimeoutError, "Ask for fewer tokens, or raise timeout=.", True
        case 409:
            return BadRequestError, "Another request is in the way; try again.", True
        case 429 if any(word in kind for word in ("insufficient_quota", "exceeded_current_quota", "billing")):
            return RateLimitError, "The quota is used up: add credit; waiting does not help.", False
        case 429:
            return RateLimitError, "Lower max_concurrency=, or try again later.", True
        case _ if status >= 500:
            return ServerError, "The fault is on the server's side; try again later.", True
        case _ if "content_filter" in kind:
            return BadRequestError, "The provider's content filter refused the prompt; change the prompt.", False
        case _:
            return BadRequestError, "Change the request: sending the same again cannot help.", False


def _infer_status(kind: str) -> int:
    """Return the status that OpenAI sends with such an error, for errors inside a 200."""
    for words, status in (
        (("rate_limit", "insufficient_quota", "resource_exhausted", "too_many"), 429),
        (("authentication", "invalid_api_key", "permission", "unauthorized"), 401),
        (("timeout", "deadline_exceeded"), 408),
        (("server_error", "internal", "overloaded", "unavailable", "api_error"), 500),
    ):
        if any(word in kind for word in words):
            return status
    return 400


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
    inner = value.get("error")
    if not isinstance(inner, dict):
        inner = {**value, "message": inner} if isinstance(inner, str) else value
    codes = [*map(inner.get, ("type", "code", "error_code", "status")), *_google_reasons(inner.get("details"))]
    numbers = [code for code in codes if isinstance(code, int) and 400 <= code <= 599]
    param = inner.get("param")
    return _ErrorDetails(
        message=_extract_message(inner),
        param=param if isinstance(param, str) else None,
        kind=" ".join(code for code in codes if isinstance(code, str)).lower(),
        status=numbers[0] if numbers else None,
        retry_delay=_google_retry_delay(inner.get("details")),
    )


def _extract_message(inner: dict[str, Any]) -> str:
    message = next((inner[name] for name in _MESSAGE_FIELDS if inner.get(name)), None)
    if isinstance(message, dict):  # Mistral hangs FastAPI's errors under it
        inner = message
    if isinstance(message, str):
        metadata = inner.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        return f"{message}: {raw}" if isinstance(raw, str) and raw not in message else message
    several = next((inner[name] for name in ("detail", "errors") if inner.get(name)), None)
    faults = several if isinstance(several, list) else [several]
    return "; ".join(filter(None, map(_extract_nested_message, faults)))


def _extract_nested_message(fault: object) -> str:
    """Read one of several errors; pydantic's under FastAPI name the wrong field."""
    if not isinstance(fault, dict):
        return fault if isinstance(fault, str) else ""
    place, said = (
        fault.get("loc"),
        next((fault[name] for name in _MESSAGE_FIELDS if isinstance(fault.get(name), str)), ""),
    )
    return f"{'.'.join(map(str, place))}: {said}" if isinstance(place, (list, tuple)) and place else said


def _google_retry_delay(details: object) -> float | None:
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            return retry_after_from_message(f"retry in {delay}")
    return None


def _google_reasons(details: object) -> list[object]:
    return [detail.get("reason") for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _page_title(page: str) -> str:
    for tag in ("title", "h1", "body"):
        start = page.lower().find(f"<{tag}")
        end = page.lower().find(f"</{tag}", start)
        if 0 <= start < end:
            text = re.sub(r"<[^<>]*>", " ", page[start:end]).strip()
            if text:
                return text
    return ""
