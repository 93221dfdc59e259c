"""Server-sent events: bytes in whatever pieces they arrive become decoded events, and those a Reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, repair_json
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ProviderError, ResponseDecodeError
from swift_client.types import Completion

Event = TypeVar("Event")


_SLICE_BYTES = 1 << 18
"""Bytes of a recorded stream that are read between two pauses."""

_LONG_LINE_BYTES = 1 << 16
"""Bytes of a line that is worth no copy."""


class EventDecoder(Generic[Event]):
    """Cuts bytes into events and decodes each as soon as it is whole.

    Args:
        decode: decodes the JSON of one event.
    """

    def __init__(self, decode: Callable[[bytes | memoryview], Event]) -> None:
        self._decode = decode
        self._buffer: list[bytes] = []
        self._event_data: bytes | memoryview = b""
        self.is_stream: bool | None = None
        """False where the server answered in one piece after all, None before the first byte that tells."""
        self.n_unreadable = 0
        """Events that were no JSON of the right shape."""

    @property
    def body(self) -> bytes:
        """What has not been read yet: all of the reply of a server that does not stream."""
        return b"".join(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes, which may end anywhere, also inside a character; yield the events that are whole now."""
        self._buffer.append(chunk)
        if self.is_stream is None and (begun := self.body.lstrip()):
            self.is_stream = not begun.startswith((b"{", b"[", b"<"))
        if self.is_stream and (b"\n" in chunk or b"\r" in chunk):
            *lines, rest = _split_lines(self.body)
            self._buffer = [rest] if rest else []
            for line in lines:
                yield from self._read_line(line)

    def close(self) -> Iterator[Event]:
        """Yield what is left when nothing more will come."""
        for line in [*_split_lines(self.body), b""]:
            yield from self._read_line(line)

    def _read_line(self, line: bytes) -> Iterator[Event]:
        """Read one line; an event's JSON may stand on several ``data:`` lines and ends with an empty one."""
        data: bytes | memoryview = line
        if line.startswith(b"data:"):
            # JSON may begin and end with white space; a last event of megabytes need not be copied.
            data = (
                line[5:].strip()
                if len(line) < 16
                else memoryview(line)[5:]
                if len(line) > _LONG_LINE_BYTES
                else line[5:]
            )
        elif not line.lstrip().startswith(b"{"):
            self.n_unreadable += bool(self._event_data) and not line
            self._event_data = self._event_data if line else b""
            return  # a comment, or a field that says nothing here
        if data == b"[DONE]":
            return
        self._event_data = b"\n".join((self._event_data, data)) if self._event_data else data
        event = self._decode_event(self._event_data)
        if event is not None:
            self._event_data = b""
            yield event

    def _decode_event(self, event: bytes | memoryview) -> Event | None:
        try:
            return self._decode(event)
        except DECODE_ERRORS:
            pass
        try:
            return self._decode(repair_json(bytes(event)))
        except DECODE_ERRORS:
            return None


def _split_lines(body: bytes) -> list[bytes]:
    """Split at LF, CR or both, as the standard says; the last line has no end yet."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return body.split(b"\n")  # four times as fast as splitlines


class Assembler(ABC, Generic[Event]):
    """Reads one reply, whole or streamed. A codec says what an event adds and what becomes of it all.

    Args:
        decode: decodes the JSON of one event.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
    """

    def __init__(
        self, decode: Callable[[bytes | memoryview], Event], *, top_logprobs: int | None = None, token_ids: bool = False
    ) -> None:
        self._decoder = EventDecoder(decode)
        self._options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids}
        self._error: ProviderError | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of a stream; they may end anywhere, also inside a character."""
        for event in self._decoder.feed(chunk):
            self._add(event)

    def take_new_tokens(self) -> Completion | None:
        """Return the tokens that came since the last call, without a text; None where there are none to speak of.

        Only for a reply of one completion. A codec without this gives none, so that nothing is closed early.
        """
        return None

    @property
    def finished(self) -> bool:
        """Whether every completion that has begun has ended, so that closing the stream would save nothing."""
        return False

    def close(self) -> Reply:
        """Return what has arrived; see :meth:`close_steps`."""
        return run_steps(self.close_steps())

    def close_steps(self) -> Generator[None, None, Reply]:
        """Decode what has arrived, yielding after each choice. A choice that did not end gets finish_reason "error".

        Raises:
            ResponseDecodeError: nothing that can be read has arrived.
            ProviderError: the stream holds an error object and no choice.
        """
        if not self._decoder.is_stream:
            return (yield from self._read_body(self._decoder.body))
        for event in self._decoder.close():
            self._add(event)
        return (yield from self._finish())

    def parse_steps(self, data: bytes) -> Generator[None, None, Reply]:
        """Decode a body in one piece, or the events of a stream that has ended, yielding after each choice.

        Raises:
            ResponseDecodeError: the bytes are no reply, and hold no whole choice.
            ProviderError: the 200 holds an error object instead of choices.
        """
        if not data[:64].lstrip().startswith((b"data:", b"event:", b":")):
            return (yield from self._read_body(data))
        for start in range(0, len(data), _SLICE_BYTES):
            self.feed(data[start : start + _SLICE_BYTES])
            yield
        return (yield from self.close_steps())

    def _notes(self, unfinished_indices: list[int]) -> list[str]:
        """Say what is wrong with the stream; ``unended`` are the indices of completions without an end."""
        which, odd = ", ".join(map(str, unfinished_indices)), self._decoder.n_unreadable
        return [
            *([f"The stream broke off with an error: {self._error}"] if self._error else []),
            *([f"Completion {which} did not end: the stream broke off."] if unfinished_indices else []),
            *([f"{odd} event(s) of the stream cannot be read."] if odd else []),
        ]

    def _empty_stream_error(self) -> ProviderError:
        """Return the error of a stream without a single choice."""
        return self._error or ResponseDecodeError(
            "The stream ended before the first token.", hint="Try again.", retryable=True
        )

    @abstractmethod
    def _add(self, event: Event) -> None:
        """Take one event."""

    @abstractmethod
    def _finish(self) -> Generator[None, None, Reply]:
        """Make the Reply of all events."""

    @abstractmethod
    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        """Make the Reply of a body in one piece."""
