"""OpenAI's Batch API: requests for uploading a file, creating a batch and downloading results, and their parsers.

Like the codecs, it does no I/O. Groq, Together, Azure and some gateways have the same API; providers that do set
``batches``. https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_or_none,
    decode_or_repair,
    excerpt,
    has_value,
)
from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport import error_responses
from swift_client.adapters.transport.redaction import scrub
from swift_client.errors import ProviderError, RequestTimeoutError, ResponseDecodeError

MAX_LINES = 50_000  # requests per file
MAX_BYTES = 200 * 10**6  # bytes per file
PAGE_SIZE = 100  # batches per page of the list
_METADATA_KEY = "swift_client"  # metadata field that identifies our batches
_FINAL_STATUSES = frozenset({"completed", "failed", "expired", "cancelled", "canceled"})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The state of a batch."""

    id: str
    status: str  # in lower case: validating, in_progress, finalizing, cancelling, or a final one
    input_file_id: str | None
    token: str | None  # the token passed to ``create()``, if the provider keeps metadata
    created_at: float | None  # Unix time
    output_file_id: str | None
    error_file_id: str | None
    n_requests: int
    n_completed: int
    n_failed: int
    error_message: str  # the provider's own error messages; may be empty

    @property
    def finished(self) -> bool:
        """True if its status is final."""
        return self.status in _FINAL_STATUSES


@dataclass(frozen=True, kw_only=True)
class OutputLine:
    """One line of an output or error file: the body of a reply, or the error of the request."""

    custom_id: str
    body: bytes = b""
    error: ProviderError | None = None


def endpoint(provider: Provider, path: str) -> str:
    """Return a batch's URL for ``path`` ("/chat/completions"); only Azure leaves the version out."""
    return path if provider.name.startswith("azure") else f"/v1{path}"


def request_line(custom_id: str, url: str, body: object) -> bytes:
    """Return one line of an input file, including the newline."""
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, allow_nan=False).encode() + b"\n"


def upload(name: str, file: BinaryIO) -> Request:
    """Build the request that uploads an input file."""
    return Request(method="POST", path="/files", body={"purpose": "batch"}, n=0, upload=(name, file))


def create(file_id: str, url: str, token: str) -> Request:
    """Build the request that creates a batch. It costs money."""
    body = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h", "metadata": {_METADATA_KEY: token}}
    return Request(method="POST", path="/batches", body=body, n=0)


def retrieve(batch_id: str) -> Request:
    """Build the request for the state of a batch."""
    return _get(f"/batches/{quote(batch_id, safe='')}")


def list_batches(after: str | None = None) -> Request:
    """Build the request that lists batches, newest first; ``after`` is the last id of the previous page."""
    return _get(f"/batches?limit={PAGE_SIZE}" + (f"&after={quote(after, safe='')}" if after else ""))


def download_file(file_id: str) -> Request:
    """Build the request that downloads a file."""
    return _get(f"/files/{quote(file_id, safe='')}/content")


def parse_file_id(data: bytes) -> str:
    """Return the id of an uploaded file; raise ResponseDecodeError."""
    file = decode_or_none(data, _WireFile)
    if file is None or not file.id:
        raise _unexpected_response(data, "file")
    return file.id


def parse_batch(data: bytes | Raw) -> Batch:
    """Parse the state of a batch; raise ResponseDecodeError."""
    wire = decode_or_none(data, _WireBatch)
    if wire is None or not wire.id:
        raise _unexpected_response(bytes(data), "batch")
    counts = decode_or_none(wire.request_counts, _Counts) or _Counts()
    metadata = decode_or_none(wire.metadata, dict[str, Any]) or {}
    token = metadata.get(_METADATA_KEY)
    return Batch(
        id=wire.id,
        status=wire.status.lower(),
        input_file_id=wire.input_file_id,
        token=token if isinstance(token, str) else None,
        created_at=decode_or_none(wire.created_at, float),
        output_file_id=wire.output_file_id or None,
        error_file_id=wire.error_file_id or None,
        n_requests=max(0, counts.total),
        n_completed=max(0, counts.completed),
        n_failed=max(0, counts.failed),
        error_message=_join_error_messages(decode_or_none(wire.errors, object)),
    )


def parse_batch_list(data: bytes) -> list[Batch]:
    """Parse one page of the list, without entries that are not batches; raise ResponseDecodeError."""
    page = decode_or_none(data, _Page)
    entries = page.data if page else decode_or_none(data, list[Raw])  # Together sends the list alone
    if entries is None:
        raise _unexpected_response(data, "list of batches")
    batches = []
    for raw in entries:
        try:
            batches.append(parse_batch(raw))
        except ResponseDecodeError:
            continue  # created by another program, in another shape
    return batches


def parse_output_line(data: bytes, provider: Provider | None = None) -> OutputLine | None:
    """Parse one line of an output or error file; None if it is not such a line or has no custom_id."""
    try:
        wire = decode_or_repair(_OUTPUT_LINE_DECODER.decode, data)
    except DECODE_ERRORS:
        return None
    # A failed request has an error status with a body, or an error instead of a response.
    response = decode_or_none(wire.response, _Response) or _Response()
    status = decode_or_none(response.status_code, int)
    body = bytes(response.body) if has_value(response.body) else b""
    if status is not None and 300 <= status < 600:
        problem = error_responses.error_from_response(status, {}, body, provider)
    elif body:
        return OutputLine(custom_id=wire.custom_id, body=body)
    elif has_value(wire.error):
        problem = failed_request_error(decode_or_none(wire.error, object), provider)
    else:
        problem = ResponseDecodeError(
            f"The batch returned neither a reply nor an error for a request: {excerpt(data)}",
            hint="Run the same command again.",
            provider=provider.name if provider else None,
        )
    return OutputLine(custom_id=wire.custom_id, error=problem)


def failed_request_error(error: object, provider: Provider | None = None) -> ProviderError:
    """Return the error of a request that was never tried, or that failed at the provider."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict) and code in ("batch_expired", "batch_cancelled", "batch_canceled"):
        message = error.get("message")
        if not (isinstance(message, str) and message):
            message = "The batch ended before this request's turn."
        return RequestTimeoutError(
            scrub(message),
            hint="Run the same command again; it asks for what is missing.",
            provider=provider.name if provider else None,
            retryable=True,
        )
    return error_responses.error_from_object(error, provider)


class _WireFile(Struct):
    id: str


class _Page(Struct):
    data: list[Raw]


class _Counts(Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class _WireBatch(Struct):
    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: Raw = Raw()
    request_counts: Raw = Raw()
    metadata: Raw = Raw()
    errors: Raw = Raw()


class _Response(Struct):
    status_code: Raw = Raw()
    body: Raw = Raw()


class _WireOutputLine(Struct):
    custom_id: str
    response: Raw = Raw()
    error: Raw = Raw()


_OUTPUT_LINE_DECODER = msgspec.json.Decoder(_WireOutputLine)


def _get(path: str) -> Request:
    return Request(method="GET", path=path, body={}, n=0)


def _unexpected_response(data: bytes, kind: str) -> ResponseDecodeError:
    return ResponseDecodeError(
        f"The provider's response is not a {kind}: {excerpt(data)}",
        hint="Check base_url=, and that this provider offers OpenAI's Batch API.",
        retryable=True,
    )


def _join_error_messages(errors: object) -> str:
    """Join the first three messages of ``errors.data``, or of ``errors`` itself if it has another shape."""
    data = errors.get("data") if isinstance(errors, dict) else errors
    entries: Sequence[object] = data if isinstance(data, list) else [data]
    messages = [entry.get("message") if isinstance(entry, dict) else entry for entry in entries]
    texts = list(dict.fromkeys(text for text in messages if isinstance(text, str) and text.strip()))
    return scrub(" ".join(" ".join(texts[:3]).split())[:600])
