"""The tokens of a reply that is passed on: as it reports them, else estimated from its length. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS
from swift_client.types import Usage

_BYTES_PER_TOKEN = 4  # of JSON, roughly, for requests and replies that report no usage
_MAX_LINE_BYTES = 1_000_000  # a longer line of a stream is not searched for its usage


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    """Usage as chat completions and responses name it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None

    def to_usage(self) -> Usage:
        """Return it under this package's names; what is missing counts 0."""
        details = self.prompt_tokens_details or self.input_tokens_details or _Details()
        return Usage(
            prompt_tokens=max(self.prompt_tokens or self.input_tokens or 0, 0),
            completion_tokens=max(self.completion_tokens or self.output_tokens or 0, 0),
            cached_prompt_tokens=max(details.cached_tokens or 0, 0),
            calls=1,
        )


class _Reply(Struct):
    """A reply, or one event of a stream, which has the usage of a response within it."""

    usage: Raw = Raw()
    response: Raw = Raw()


class TokenCount:
    """Counts the tokens of one reply while its bytes pass.

    Args:
        n_request_bytes: length of the request.
    """

    def __init__(self, n_request_bytes: int) -> None:
        self._n_request_bytes = n_request_bytes
        self._n_events = self._n_body_bytes = 0
        self._reported: Usage | None = None
        self._line = bytearray()  # the beginning of a line whose end has not arrived

    def add_body(self, body: bytes) -> None:
        """Take the complete body of a reply that is not streamed."""
        self._n_body_bytes += len(body)
        self._read(body)

    def add_chunk(self, chunk: bytes) -> None:
        """Take the next bytes of a stream of events."""
        first, *lines = chunk.split(b"\n")
        if len(self._line) <= _MAX_LINE_BYTES:
            self._line += first
        for line in lines:
            self._read_line(bytes(self._line))
            self._line = bytearray(line)

    def usage(self) -> Usage:
        """Return the usage that the reply reports; else an estimate, in which each event of a stream is one token."""
        if self._reported is not None:
            return self._reported
        n_completion = self._n_events or self._n_body_bytes // _BYTES_PER_TOKEN
        return Usage(
            prompt_tokens=self._n_request_bytes // _BYTES_PER_TOKEN,
            completion_tokens=n_completion,
            calls=1,
            estimated=True,
        )

    def _read_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        self._n_events += 1
        if b'"usage"' in line:
            self._read(line[5:])

    def _read(self, data: bytes) -> None:
        try:
            reply = msgspec.json.decode(data, type=_Reply)
            if reply.response:
                reply = msgspec.json.decode(reply.response, type=_Reply)
            usage = msgspec.json.decode(reply.usage, type=_Usage | None) if reply.usage else None
        except DECODE_ERRORS:
            return
        if usage is not None:
            self._reported = usage.to_usage()
