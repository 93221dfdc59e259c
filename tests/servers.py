"""A small HTTP server on loopback that obeys or misbehaves on command and records its requests.

::

    def test_retries_a_429(fault_server):
        fault_server.script(error(429, "slow down", headers={"retry-after": "0"}), chat(["4", "5"], k=5))
        ... SwiftReranker("openai-compatible", "m", base_url=fault_server.url) ...
        assert [request.json["n"] for request in fault_server.requests] == [2, 2]

Scripted answers are used once each, in order of arrival. After the script the server *obeys*: it gives as many
choices as ``n`` asks, with as many alternatives as ``top_logprobs`` asks, streamed where ``stream`` is true, with the
texts of ``fault_server.answers`` in turn. ``fault_server.serve(function)`` replaces that: it gets each request and
returns a Response. ``server.n_max = 1`` makes it give fewer choices in silence.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request as the server received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """One response, or one way of failing to respond."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the first byte."""
    chunks: tuple[bytes, ...] | None = None
    """Sent with chunked transfer encoding, instead of ``body``."""
    pause: float = 0.0
    """Seconds between chunks."""
    cut_at: int | None = None
    """Close the connection after this many bytes of the body, or this many chunks; the headers promise all of it."""
    reset: bool = False
    """Break the connection with a TCP reset instead of a close, at ``cut_at`` (default: before any byte)."""
    hang: bool = False
    """Read the request and do not answer until the server closes."""


def json_response(value: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with any JSON value."""
    return Response(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})


def error(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | int | None = None,
    type: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with OpenAI's error object."""
    body = {"error": {"message": message, "type": type, "param": param, "code": code}}
    return json_response(body, status, headers={"x-request-id": "req_test", **(headers or {})})


def html(status: int = 502, title: str = "Bad Gateway") -> Response:
    """Answer with the error page of a proxy."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Response(status, page.encode(), {"content-type": "text/html"})


def hang() -> Response:
    """Accept the request and never answer."""
    return Response(hang=True)


def reset() -> Response:
    """Break the connection with a TCP reset before any byte."""
    return Response(reset=True)


def slow(response: Response, *, chunk: int = 1024, pause: float = 0.01) -> Response:
    """Send the same body in chunks of ``chunk`` bytes with ``pause`` seconds between them."""
    parts = tuple(response.body[index : index + chunk] for index in range(0, len(response.body), chunk))
    return replace(response, chunks=parts, pause=pause)


def cut(response: Response, *, fraction: float = 0.5, reset: bool = False) -> Response:
    """Close the connection after ``fraction`` (0..1) of the body or of the chunks."""
    length = len(response.body) if response.chunks is None else len(response.chunks)
    return replace(response, cut_at=int(length * fraction), reset=reset)


def after(seconds: float, response: Response) -> Response:
    """Wait before the first byte."""
    return replace(response, delay=seconds)


def tokens_of(text: str) -> list[str]:
    """Split a text into the tokens that the builders below use: words with the space before them."""
    return re.findall(r"\s*\S+|\s+$", text)


def logprobs_of(text: str, *, k: int, seed: int = 0) -> list[dict[str, Any]]:
    """Build OpenAI's ``logprobs.content`` for a text: ``k`` alternatives per token, including the chosen one."""
    draw = random.Random(f"{seed}:{text}")
    content = []
    for token in tokens_of(text):
        weights = sorted((draw.random() + 0.01 for _ in range(max(k, 1))), reverse=True)
        total = sum(weights) / draw.uniform(0.9, 0.999)
        chances = [weight / total for weight in weights]
        rank = 0 if draw.random() < 0.8 else draw.randrange(max(k, 1))
        names = [token if position == rank else f" alt{position}" for position in range(len(chances))]
        top = [_entry(name, chance) for name, chance in zip(names, chances, strict=True)]
        content.append({**top[rank], "top_logprobs": top[:k]})
    return content


def _entry(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(chance), "bytes": list(token.encode())}


def chat_body(
    texts: Sequence[str], *, k: int | None = 5, finish_reason: str | Sequence[str] = "stop", model: str = "test-model"
) -> dict[str, Any]:
    """Build a chat.completion with one choice for each text; ``k=None``: ``logprobs: null``."""
    reasons = [finish_reason] * len(texts) if isinstance(finish_reason, str) else list(finish_reason)
    tokens = sum(len(tokens_of(text)) for text in texts)
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None if k is None else {"content": logprobs_of(text, k=k, seed=index), "refusal": None},
                "finish_reason": reason,
            }
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": tokens + 7},
    }


def chat(
    texts: Sequence[str],
    *,
    k: int | None = 5,
    finish_reason: str | Sequence[str] = "stop",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a whole chat.completion; see :func:`chat_body`."""
    return json_response(chat_body(texts, k=k, finish_reason=finish_reason), headers=headers)


def sse(events: Iterable[object], *, pause: float = 0.0, done: bool = True) -> Response:
    """Answer with server-sent events, one chunk each."""
    parts = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    if done:
        parts.append(b"data: [DONE]\n\n")
    return Response(headers={"content-type": "text/event-stream"}, chunks=tuple(parts), pause=pause)


def chat_stream(
    texts: Sequence[str], *, k: int | None = 5, finish_reason: str = "stop", pause: float = 0.0, done: bool = True
) -> Response:
    """Stream a chat completion token by token, the choices interleaved by index, usage last."""
    body = chat_body(texts, k=k, finish_reason=finish_reason)
    lanes = []
    for choice in body["choices"]:
        index, content = choice["index"], (choice["logprobs"] or {}).get("content")
        events = [_delta(index, {"role": "assistant", "content": ""}, None)]
        for place, token in enumerate(tokens_of(choice["message"]["content"])):
            logprobs = None if content is None else {"content": [content[place]], "refusal": None}
            events.append(_delta(index, {"content": token}, logprobs))
        events.append(_delta(index, {}, None, finish_reason))
        lanes.append(events)
    events = [event for row in itertools.zip_longest(*lanes) for event in row if event is not None]
    return sse([*events, {**_delta(0, {}, None), "choices": [], "usage": body["usage"]}], pause=pause, done=done)


def _delta(index: int, delta: object, logprobs: object, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    return {"id": "chatcmpl-test", "object": "chat.completion.chunk", "model": "test-model", "choices": [choice]}


class FaultServer:
    """A threaded HTTP server on a free loopback port. ``url`` is its base URL, ending in ``/v1``."""

    def __init__(self, answers: Sequence[str] = ("The answer is 4",)) -> None:
        self.answers = tuple(answers)
        """Texts of the regular answers, used in turn."""
        self.n_max: int | None = None
        """Largest number of choices in one reply, regardless of ``n``."""
        self.requests: list[Received] = []
        """Every request, in order of arrival."""
        self.most_connections = 0
        """Most connections that were open at once."""
        self.closed_early = 0
        """Number of replies during which the client closed the connection."""
        self._script: list[Response] = []
        self._serve: Callable[[Received], Response] = self.obey
        self._turn = 0
        self._lock = threading.Lock()
        self._open = 0
        self._closing = threading.Event()
        self._http = _Listener(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def script(self, *responses: Response) -> None:
        """Append answers; each is used once, in order of arrival."""
        self._script.extend(responses)

    def serve(self, function: Callable[[Received], Response]) -> None:
        """Answer every unscripted request with ``function(received)``; it may run in many threads at once."""
        self._serve = function

    def obey(self, request: Received) -> Response:
        """Answer as a server that does what it is asked for."""
        body = request.json
        n = min(body.get("n", 1), self.n_max or 1 << 30)
        with self._lock:
            texts = [self.answers[(self._turn + index) % len(self.answers)] for index in range(n)]
            self._turn += n
        k = body.get("top_logprobs", 0) if body.get("logprobs") else None
        return chat_stream(texts, k=k) if body.get("stream") else chat(texts, k=k)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _next(self, request: Received) -> Response:
        with self._lock:
            self.requests.append(request)
            scripted = self._script.pop(0) if self._script else None
        return scripted or self._serve(request)

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change
            self.most_connections = max(self.most_connections, self._open)


class _Listener(ThreadingHTTPServer):
    owner: FaultServer
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection; tests read ``closed_early``."""
        with self.owner._lock:
            self.owner.closed_early += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.owner._count(+1)

    def finish(self) -> None:
        self.server.owner._count(-1)
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(self.server.owner._next(Received(self.command, self.path, headers, body)))

    do_GET = do_POST

    def _answer(self, response: Response) -> None:
        closing = self.server.owner._closing
        if response.hang or (response.delay and closing.wait(response.delay)):
            closing.wait()
            self.close_connection = True
            return
        if response.reset and response.cut_at is None:
            self._break(reset=True)
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.chunks is None:
            self.send_header("content-length", str(len(response.body)))
        else:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if response.chunks is None:
            self.wfile.write(response.body[: response.cut_at])
        else:
            for chunk in response.chunks[: response.cut_at]:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                if response.pause and closing.wait(response.pause):
                    break
            if response.cut_at is None:
                self.wfile.write(b"0\r\n\r\n")
        if response.cut_at is not None:
            self._break(reset=response.reset)

    def _break(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Linger of zero seconds: close() sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing to stderr."""
