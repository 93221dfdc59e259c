"""OpenAI's Batch API on the wire: a file of requests goes up, a batch is made of it, files of replies come down.

Pure, as the codecs are: functions that build a Request, and functions that read what came back. Groq, Together and
Azure speak the same, as do some gateways; rows say so in ``batches``. https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, excerpt, has_value, repair_json
from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, RequestTimeoutError, ResponseDecodeError

MAX_LINES = 50_000
"""Requests that one file may hold."""
MAX_BYTES = 200 * 10**6
"""Bytes that one file may hold."""
PAGE_SIZE = 100
"""Batches in one page of the list."""
_METADATA_KEY = "swift_client"
"""Field of a batch's metadata that says which of our batches it is."""
_FINAL_STATUSES = frozenset({"completed", "failed", "expired", "cancelled", "canceled"})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How a batch stands."""

    id: str
    status: str
    """In lower case: validating, in_progress, finalizing, cancelling, or one of those that end it."""
    input_file_id: str | None
    token: str | None
    """What :func:`create` gave it, where the provider keeps metadata."""
    created_at: float | None
    """Unix time."""
    output_file_id: str | None
    error_file_id: str | None
    n_requests: int
    n_completed: int
    n_failed: int
    error_message: str
    """What the provider says is wrong with it, in its own words; may be empty."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _FINAL_STATUSES


@dataclass(frozen=True, kw_only=True)
class OutputLine:
    """One line of an output or error file: a reply's body, or why there is none."""

    custom_id: str
    body: bytes = b""
    error: ProviderError | None = None


def endpoint(provider: Provider, path: str) -> str:
    """Return what a batch calls ``path`` ("/chat/completions"). Azure alone leaves the version out."""
    return path if provider.name.startswith("azure") else f"/v1{path}"


def request_line(custom_id: str, url: str, body: object) -> bytes:
    """Return one request of an input file, with its line's end."""
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, allow_nan=False).encode() + b"\n"


def upload(name: str, file: BinaryIO) -> Request:
    """Describe the call that puts an input file up."""
    return Request(method="POST", path="/files", body={"purpose": "batch"}, n=0, upload=(name, file))


def create(file_id: str, url: str, token: str) -> Request:
    """Describe the call that makes a batch, and so costs money."""
    body = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h", "metadata": {_METADATA_KEY: token}}
    return Request(method="POST", path="/batches", body=body, n=0)


def retrieve(batch_id: str) -> Request:
    """Describe the call that asks how a batch stands."""
    return _get(f"/batches/{quote(batch_id, safe='')}")


def list_batches(after: str | None = None) -> Request:
    """Describe the call that lists batches, the newest first; ``after`` is the last id of the page before."""
    return _get(f"/batches?limit={PAGE_SIZE}" + (f"&after={quote(after, safe='')}" if after else ""))


def download_file(file_id: str) -> Request:
    """Describe the call that downloads a file."""
    return _get(f"/files/{quote(file_id, safe='')}/content")


def parse_file_id(data: bytes) -> str:
    """Read the id of the file that was put up. Raises ResponseDecodeError."""
    named = decode_or_none(data, _WireFile)
    if named is None or not named.id:
        raise _unexpected_response(data, "file")
    return named.id


def parse_batch(data: bytes | Raw) -> Batch:
    """Read how a batch stands. Raises ResponseDecodeError."""
    wire = decode_or_none(data, _WireBatch)
    if wire is None or not wire.id:
        raise _unexpected_response(bytes(data), "batch")
    counts = decode_or_none(wire.request_counts, _Counts) or _Counts()
    created = decode_or_none(wire.created_at, float)
    metadata = decode_or_none(wire.metadata, dict[str, Any]) or {}
    token = metadata.get(_METADATA_KEY)
    return Batch(
        id=wire.id,
        status=wire.status.lower(),
        input_file_id=wire.input_file_id,
        token=token if isinstance(token, str) else None,
        created_at=created,
        output_file_id=wire.output_file_id or None,
        error_file_id=wire.error_file_id or None,
        n_requests=max(0, counts.total),
        n_completed=max(0, counts.completed),
        n_failed=max(0, counts.failed),
        error_message=_join_error_messages(decode_or_none(wire.errors, object)),
    )


def parse_batch_list(data: bytes) -> list[Batch]:
    """Read one page of the list; what in it is no batch is left out. Raises ResponseDecodeError."""
    page = decode_or_none(data, _Page)
    found = page.data if page else decode_or_none(data, list[Raw])  # Together sends the list alone
    if found is None:
        raise _unexpected_response(data, "list of batches")
    batches = []
    for raw in found:
        try:
            batches.append(parse_batch(raw))
        except ResponseDecodeError:
            continue  # another program's, of a shape of its own
    return batches


def parse_output_line(data: bytes, provider: Provider | None = None) -> OutputLine | None:
    """Read one line of an output or error file; None where it is none, or says not whose it is."""
    try:
        wire = msgspec.json.decode(data, type=_WireOutputLine)
    except DECODE_ERRORS:
        try:
            wire = msgspec.json.decode(repair_json(data), type=_WireOutputLine)
        except DECODE_ERRORS:
            return None
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
            f"A batch answered a request with nothing: {excerpt(data)}",
            hint="Run the same command again.",
            provider=provider.name if provider else None,
        )
    return OutputLine(custom_id=wire.custom_id, error=problem)


def failed_request_error(error: object, provider: Provider | None = None) -> ProviderError:
    """Return the error of a request that was never tried, or that the provider could not answer."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict) and code in ("batch_expired", "batch_cancelled", "batch_canceled"):
        said = error.get("message")
        return RequestTimeoutError(
            error_responses.scrub(said)
            if isinstance(said, str) and said
            else "The batch ended before this request's turn.",
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


def _get(path: str) -> Request:
    return Request(method="GET", path=path, body={}, n=0)


def _unexpected_response(data: bytes, kind: str) -> ResponseDecodeError:
    return ResponseDecodeError(
        f"The provider answered with no {kind}: {excerpt(data)}",
        hint="Check base_url=, and that this provider has OpenAI's Batch API.",
        retryable=True,
    )


def _join_error_messages(errors: object) -> str:
    """Join the messages of ``errors.data``, or of whatever else stands there."""
    listed = errors.get("data") if isinstance(errors, dict) else errors
    entries: Sequence[object] = listed if isinstance(listed, list) else [listed]
    said = [entry.get("message") if isinstance(entry, dict) else entry for entry in entries]
    texts = list(dict.fromkeys(text for text in said if isinstance(text, str) and text.strip()))
    return error_responses.scrub(" ".join(" ".join(texts[:3]).split())[:600])
