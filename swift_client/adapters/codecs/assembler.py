"""The base class of every codec's StreamAssembler: bodies and server-sent events in, one Reply out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar, Unpack

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none, decode_or_repair
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reply import ReplyMetadata
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.adapters.transport.redaction import scrub
from swift_client.errors import ProviderError, ResponseDecodeError
from swift_client.types import Completion

Event = TypeVar("Event")

_SLICE_BYTES = 1 << 16  # bytes of a recorded stream that are decoded between two yields: thousands of small events
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXCERPT_BYTES = 300  # of an event that cannot be read
_LONG_LINE_BYTES = 1 << 16  # a line longer than this is not copied


class Assembler(ABC, Generic[Event]):
    """Decodes one reply, streamed or not. A subclass defines how its events add up to a Reply.

    Args:
        options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions``.
    """

    decode_event: ClassVar[staticmethod[..., Any]]  # decodes the JSON of one event

    def __init__(self, **options: Unpack[DecodeOptions]) -> None:
        self._events: EventDecoder[Event] = EventDecoder(self.decode_event)
        self._options = options
        self._metadata = ReplyMetadata()
        self._error: ProviderError | None = None

    @classmethod
    def parse(cls, data: bytes, **options: Unpack[DecodeOptions]) -> Reply:
        """Decode a complete reply at once; see ``Codec``."""
        return run_steps(cls.parse_steps(data, **options))

    @classmethod
    def parse_steps(cls, data: bytes, **options: Unpack[DecodeOptions]) -> Generator[None, None, Reply]:
        """Decode a complete reply step by step; see ``Codec``."""
        data = data.removeprefix(_BYTE_ORDER_MARK)
        assembler = cls(**options)
        is_stream = data[:64].lstrip().startswith((b"data:", b"event:", b":", b"error:", b"id:", b"retry:"))
        return assembler._replay(data) if is_stream else assembler._read_body(data)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of a stream; they may end anywhere, even inside a character."""
        for event in self._events.feed(chunk):
            self._add(event)

    def discard_rest(self) -> None:
        """Forget bytes that are not part of a complete event."""
        self._events.discard_rest()

    def take_new_tokens(self) -> Completion | None:
        """Return the tokens that arrived since the last call, without a text; None if there are too few.

        Only for a reply of one completion. The default returns None, so no stream is aborted early.
        """
        return None

    @property
    def finished(self) -> bool:
        """True if every completion that has started has ended, so aborting the stream would save nothing."""
        return False

    def close(self) -> Reply:
        """Return what has arrived; see ``close_steps()``."""
        return run_steps(self.close_steps())

    def close_steps(self) -> Generator[None, None, Reply]:
        """Decode what has arrived, yielding after each choice. A choice without an end gets finish_reason "error".

        Raises:
            ResponseDecodeError: nothing readable has arrived.
            ProviderError: the stream contains an error object and no choice.
        """
        if not self._events.is_stream:
            return (yield from self._read_body(self._events.body.removeprefix(_BYTE_ORDER_MARK)))
        for event in self._events.close():
            self._add(event)
        self._error = self._error or self._events.error
        reply = yield from self._finish()
        return replace(reply, error=self._error or reply.error)

    def _replay(self, stream: bytes) -> Generator[None, None, Reply]:
        """Decode a recorded stream, yielding after each slice and each choice."""
        for start in range(0, len(stream), _SLICE_BYTES):
            self.feed(stream[start : start + _SLICE_BYTES])
            yield
        return (yield from self.close_steps())

    def _notes(self, unfinished_indices: list[int]) -> list[str]:
        """Return a note on every fault of the stream; ``unfinished_indices`` are completions without an end."""
        unfinished, n_unreadable = ", ".join(map(str, unfinished_indices)), self._events.n_unreadable
        return [
            *([f"The stream broke off with an error: {self._error}"] if self._error else []),
            *([f"Completion {unfinished} did not end: the stream broke off."] if unfinished else []),
            *([f"{n_unreadable} event(s) of the stream cannot be read."] if n_unreadable else []),
        ]

    def _empty_stream_error(self) -> ProviderError:
        """Return the error of a stream without a single choice."""
        text = self._events.unreadable_text
        return self._error or ResponseDecodeError(
            f"The stream ended before the first token{f': {text}' if text else '.'}", hint="Try again.", retryable=True
        )

    @abstractmethod
    def _add(self, event: Event) -> None:
        """Take one event."""

    @abstractmethod
    def _finish(self) -> Generator[None, None, Reply]:
        """Build the Reply from all events."""

    @abstractmethod
    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        """Build the Reply from a body that is not a stream."""


def run_steps(steps: Generator[None, None, Reply]) -> Reply:
    """Run all steps of a decoder without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            reply: Reply = end.value
            return reply


class EventDecoder(Generic[Event]):
    """Splits a stream of server-sent events and decodes each as soon as it is complete.

    Args:
        decode: decodes the JSON of one event.
    """

    def __init__(self, decode: Callable[[bytes | memoryview], Event]) -> None:
        self._decode = decode
        self._buffer: list[bytes] = []
        self._event_data: bytes | memoryview = b""
        # False if the server did not stream after all, None before the first byte that shows it.
        self.is_stream: bool | None = None
        self.is_done = False  # True after "[DONE]"
        self.n_unreadable = 0  # number of events that were not JSON of the right shape
        self.unreadable_text = ""  # the first of them, for an error message
        self.error: ProviderError | None = None  # from an "error:" field or an event of the name "error"
        self._event_name = b""

    @property
    def body(self) -> bytes:
        """All bytes that are not decoded yet: the whole reply of a server that does not stream."""
        return b"".join(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes, which may end anywhere; yield the events that are now complete."""
        self._buffer.append(chunk)
        # The first byte that is not white space shows whether the server streams.
        if self.is_stream is None and (start := chunk.lstrip(_BYTE_ORDER_MARK + b" \t\r\n")):
            self.is_stream = not start.startswith((b"{", b"[", b"<"))
            self._buffer = [start if self.is_stream else self.body]
        if self.is_stream and (b"\n" in chunk or b"\r" in chunk):
            *lines, rest = _split_lines(self.body)
            self._buffer = [rest] if rest else []
            for line in lines:
                yield from self._read_line(line)

    def discard_rest(self) -> None:
        """Forget bytes of an event that is not complete; a body that is not a stream is kept."""
        if self.is_stream:
            self._buffer, self._event_data = [], b""

    def close(self) -> Iterator[Event]:
        """Yield the events that are left at the end of the stream."""
        for line in [*_split_lines(self.body), b""]:
            yield from self._read_line(line)

    def _read_line(self, line: bytes) -> Iterator[Event]:
        """Read one line. The JSON of an event may span several ``data:`` lines and ends with an empty one."""
        data: bytes | memoryview = line
        if line.startswith(b"data:"):
            # JSON may begin and end with white space, so only short lines ("[DONE]") are stripped;
            # a last event of megabytes is not copied.
            if len(line) > _LONG_LINE_BYTES:
                data = memoryview(line)[5:]
            else:
                data = line[5:].strip() if len(line) < 16 else line[5:]
        elif not line.lstrip().startswith(b"{"):
            self._read_other_line(line)
            return
        if data == b"[DONE]":
            self.is_done = True
            return
        # An event is complete as soon as its JSON is: the empty line after it may come much later.
        self._event_data = b"\n".join((self._event_data, data)) if self._event_data else data
        event = self._decode_event(self._event_data)
        if event is not None:
            if self._event_name == b"error":
                self._read_error(self._event_data)
            self._event_data = b""
            yield event

    def _read_other_line(self, line: bytes) -> None:
        """Read the end of an event, a field without JSON, or a comment."""
        field, _, value = line.partition(b":")
        if field == b"error" and value:  # llama.cpp until 2025
            self._read_error(value)
        elif not line:
            if self._event_data and self._event_name == b"error":
                self._read_error(self._event_data)  # a sentence
            elif self._event_data:
                self.n_unreadable += 1
                text = bytes(self._event_data[:_EXCERPT_BYTES]).decode("utf-8", "replace")
                self.unreadable_text = self.unreadable_text or scrub(" ".join(text.split()))
            self._event_name = b""
        elif field == b"event":
            self._event_name = value.strip()
        self._event_data = self._event_data if line else b""

    def _read_error(self, data: bytes | memoryview) -> None:
        """Keep the first error: JSON of any shape, or a sentence."""
        value = decode_or_none(data, object)
        if value is None:
            value = bytes(data).decode("utf-8", "replace").strip()
        if isinstance(value, dict) and value.get("error"):
            value = value["error"]
        self.error = self.error or error_responses.error_from_object(value)

    def _decode_event(self, event: bytes | memoryview) -> Event | None:
        try:
            return decode_or_repair(self._decode, event)
        except DECODE_ERRORS:
            return None


def _split_lines(body: bytes) -> list[bytes]:
    """Split at LF, CR or both, as the standard says; the last line has no end yet."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return body.split(b"\n")  # four times as fast as splitlines
