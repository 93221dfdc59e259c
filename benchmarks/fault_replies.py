"""Replies for benchmarks/faults.py: a correct reply in pieces, and what a faulty server makes of it.

A reply is a list of steps: bytes to send, seconds to wait, an ``Ending`` of the connection, or a ``Paid``: from here on
the client has everything of these choices, with status 200, and must not lose them. Each choice's text has a reference
of its own, which shows later where it went.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

JSON = "application/json"
EVENTS = "text/event-stream"
DEEP = b"[" * 20_000 + b"]" * 20_000
"""Deeper than any decoder goes."""


class Ending(Enum):
    """The end of a connection."""

    CLOSE = "close"
    RESET = "reset"
    HALF_CLOSE = "half close"
    """No more bytes come, but the connection stays."""
    HANG = "hang"
    """Nothing happens any more."""


@dataclass(frozen=True)
class Paid:
    """Choices that have arrived by now."""

    references: tuple[str, ...]


Step = bytes | float | Ending | Paid
Steps = list[Step]


@dataclass
class Draw:
    """One request as the faults see it, with a random generator of its own."""

    rng: random.Random
    call: int
    n: int
    k: int
    """Alternatives per token; 0: no logprobs are asked for."""
    is_streamed: bool
    wants_object: bool
    """Whether the answers are to be JSON objects."""
    limit: int
    """The client's ``max_reply_bytes``."""
    key: str
    """The API key as the client sent it."""
    n_drawn: int = 0

    def choice(self, index: int) -> dict[str, Any]:
        """Draw one good choice, with a new reference."""
        reference = f"ref-{self.call if self.call >= 0 else 10**9}-{self.n_drawn}-{self.rng.randrange(10**6)}"
        self.n_drawn += 1
        answer = self.rng.choice("4445")
        if self.wants_object:
            tokens = ["{", '"answer"', ":", f" {answer}", ",", ' "reference"', ":", f' "{reference}"', "}"]
        else:
            tokens = ["The", " answer", " is", " ", answer, f". [{reference}]"]
        content = [self._token(token) for token in tokens] if self.k else None
        return {
            "index": index,
            "message": {"role": "assistant", "content": "".join(tokens)},
            "logprobs": {"content": content} if content else None,
            "finish_reason": "stop",
        }

    def _token(self, text: str) -> dict[str, Any]:
        chance = 0.5 + 0.45 * self.rng.random()
        rest = (1 - chance) * 0.9
        chances = [chance, *(rest / 2**rank for rank in range(1, self.k))]
        texts = [text, *(f" other{rank}" for rank in range(1, self.k))]
        top = [
            {"token": token, "logprob": math.log(value), "bytes": list(token.encode())}
            for token, value in zip(texts, chances, strict=True)
        ]
        return {**top[0], "top_logprobs": top}

    def body(self) -> dict[str, Any]:
        """Draw a good reply of ``n`` choices."""
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [self.choice(index) for index in range(self.n)],
            "usage": {"prompt_tokens": 7, "completion_tokens": 6 * self.n, "total_tokens": 7 + 6 * self.n},
        }


def reference_of(choice: Mapping[str, Any]) -> str:
    """Return the reference in a choice's text."""
    text: str = choice["message"]["content"]
    return text[text.index("ref-") :].rstrip(']"}')


def paid(choices: Sequence[Mapping[str, Any]]) -> Paid:
    """Return the step after which these choices have arrived."""
    return Paid(tuple(map(reference_of, choices)))


def http(
    body: bytes,
    *,
    status: int | str = 200,
    kind: str = JSON,
    headers: Mapping[str, str] | None = None,
    length: int | str | None = -1,
) -> bytes:
    """Write a response; ``length`` None: without a content-length, which ends with the connection."""
    fields = {"content-type": kind, **(headers or {})}
    if length is not None:
        fields["content-length"] = str(len(body) if length == -1 else length)
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body


def json_http(value: object, **options: Any) -> bytes:
    """Write any JSON value as a response."""
    return http(json.dumps(value).encode(), **options)


def good(draw: Draw) -> Steps:
    """Answer correctly: as a stream if one is asked for."""
    return whole_stream(draw) if draw.is_streamed else plain(draw)


def plain(draw: Draw) -> Steps:
    """Answer correctly in one piece."""
    body = draw.body()
    return [json_http(body), paid(body["choices"])]


@dataclass
class Pieces:
    """A good reply's bytes, with the place at which each choice ends."""

    data: bytes
    ends: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, draw: Draw) -> Pieces:
        """Draw a reply and write it choice by choice."""
        body = draw.body()
        choices = body.pop("choices")
        tail = json.dumps(body).encode()[1:]
        pieces = cls(b'{"choices": [')
        for index, choice in enumerate(choices):
            pieces.data += (b", " if index else b"") + json.dumps(choice).encode()
            pieces.ends.append((len(pieces.data), reference_of(choice)))
        pieces.data += b"], " + tail
        return pieces

    def cut(self, stop: int) -> list[Step]:
        """Return the first ``stop`` bytes, and the choices in them."""
        return [self.data[:stop], Paid(tuple(reference for end, reference in self.ends if end <= stop))]

    def steps(self, n_parts: int, pause: float) -> Steps:
        """Return all bytes in parts, with pauses between them."""
        size = math.ceil(len(self.data) / n_parts)
        steps: Steps = []
        for start in range(0, len(self.data), size):
            stop = start + size
            inside = tuple(reference for end, reference in self.ends if start < end <= stop)
            steps += [self.data[start:stop], Paid(inside), pause]
        return steps


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Write one chunk of chunked transfer encoding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: object) -> bytes:
    """Write one server-sent event."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"data: " + data + b"\n\n"


@dataclass
class Stream:
    """A streamed reply: the events of all choices by turns, each with the choices that it completes."""

    events: list[tuple[bytes, tuple[str, ...]]]

    @classmethod
    def of(cls, draw: Draw, *, interleaved: bool = True) -> Stream:
        """Draw a good reply and stream it token by token."""
        body = draw.body()
        lanes = [_lane(choice) for choice in body["choices"]]
        longest = max(map(len, lanes))
        rows = [lane[place] for place in range(longest) for lane in lanes if place < len(lane)]
        events = rows if interleaved else [one for lane in lanes for one in lane]
        usage = event({"choices": [], "usage": body["usage"]})
        return cls([*events, (usage, ()), (b"data: [DONE]\n\n", ())])

    def steps(self, *, stop: int | None = None, pause: float = 0.0) -> Steps:
        """Return the first ``stop`` events as chunks, with the headers and without the last chunk."""
        steps: Steps = [STREAM_HEAD]
        for data, references in self.events[:stop]:
            steps.append(chunk(data))
            if references:
                steps.append(Paid(references))
            if pause:
                steps.append(pause)
        return steps

    def map(self, change: Callable[[bytes], bytes]) -> Stream:
        """Return the stream with the bytes of each event changed."""
        return Stream([(change(data), references) for data, references in self.events])

    def insert(self, draw: Draw, *extra: bytes) -> Stream:
        """Return the stream with further events at random places before its end."""
        events = list(self.events)
        for data in extra:
            events.insert(draw.rng.randrange(len(events) - 1), (data, ()))
        return Stream(events)


def _lane(choice: Mapping[str, Any]) -> list[tuple[bytes, tuple[str, ...]]]:
    """Return the events of one choice."""
    index, text = choice["index"], choice["message"]["content"]
    content = (choice["logprobs"] or {}).get("content")
    texts = [entry["token"] for entry in content] if content else [text[:9], text[9:]]
    lane: list[tuple[bytes, tuple[str, ...]]] = []
    for place, token in enumerate(texts):
        logprobs = {"content": [content[place]]} if content else None
        part = {"index": index, "delta": {"content": token}, "logprobs": logprobs, "finish_reason": None}
        lane.append((event({"choices": [part]}), ()))
    ending = {"index": index, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    return [*lane, (event({"choices": [ending]}), (reference_of(choice),))]


def whole_stream(draw: Draw) -> Steps:
    """Stream correctly."""
    return [*Stream.of(draw).steps(), LAST_CHUNK]
