"""Server-sent events: bytes in whatever pieces they arrive become decoded events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from swift_client.adapters.tolerant import UNREADABLE, repaired

Event = TypeVar("Event")

_LINE_END = re.compile(rb"\r\n|\n|\r")


def looks_streamed(data: bytes) -> bool:
    """Whether a body begins as a recorded stream does."""
    return data[:64].lstrip().startswith((b"data:", b"event:", b":"))


class Events(Generic[Event]):
    """Cuts bytes into events and decodes each as soon as it is whole.

    Args:
        decoder: decodes the JSON of one event.
    """

    def __init__(self, decoder: msgspec.json.Decoder[Event]) -> None:
        self._decode: Callable[[bytes], Event] = decoder.decode
        self._rest = bytearray()
        self._pending = b""
        self.streamed: bool | None = None
        """False where the server answered in one piece after all, None before the first byte that tells."""
        self.unreadable = 0
        """Events that were no JSON of the right shape."""

    @property
    def body(self) -> bytes:
        """The reply of a server that does not stream."""
        return bytes(self._rest)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes, which may end anywhere, also inside a character; yield the events that are whole now."""
        self._rest += chunk
        if self.streamed is None and self._rest.strip():
            self.streamed = not self._rest.lstrip().startswith((b"{", b"[", b"<"))
        if self.streamed:
            *lines, rest = _LINE_END.split(bytes(self._rest))
            self._rest = bytearray(rest)
            for line in lines:
                yield from self._read_line(line)

    def close(self) -> Iterator[Event]:
        """Yield what is left when nothing more will come."""
        yield from self._read_line(bytes(self._rest))
        yield from self._read_line(b"")

    def _read_line(self, line: bytes) -> Iterator[Event]:
        """Read one line; an event's JSON may stand on several ``data:`` lines and ends with an empty one."""
        if line.startswith(b"data:"):
            line = line[5:].strip()
        elif not line.lstrip().startswith(b"{"):
            self.unreadable += bool(self._pending) and not line
            self._pending = self._pending if line else b""
            return  # a comment, or a field that says nothing here
        if line == b"[DONE]":
            return
        self._pending = self._pending + b"\n" + line if self._pending else line
        event = self._decoded(self._pending)
        if event is not None:
            self._pending = b""
            yield event

    def _decoded(self, event: bytes) -> Event | None:
        try:
            return self._decode(event)
        except UNREADABLE:
            pass
        try:
            return self._decode(repaired(event))
        except UNREADABLE:
            return None
