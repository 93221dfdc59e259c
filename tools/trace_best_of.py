"""Count the files and stack frames of one ``best_of`` call: ``python tools/trace_best_of.py [--list]``.

The call: async client, scorer "mean_logprob", n=16 in one reply of a loopback server. Imports are not counted: a first
call makes them before anything is traced.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import swift_client
from swift_client import AsyncSwiftReranker

PACKAGE = str(Path(swift_client.__file__).parent)
MAX_FILES, MAX_DEPTH = 50, 11


def reply_body(n: int, k: int = 5) -> bytes:
    """Return a chat completion with ``n`` choices, their logprobs and lists of ``k`` alternatives."""
    texts = [f"I multiply. The answer is {408 + index % 3}." for index in range(n)]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [_token(character, k) for character in text]},
        }
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": sum(map(len, texts))}
    return json.dumps({"model": "m", "choices": choices, "usage": usage}).encode()


def _token(text: str, k: int) -> dict[str, Any]:
    alternatives = [{"token": text, "logprob": math.log(0.9), "bytes": None}]
    alternatives += [
        {"token": f"{text}{rank}", "logprob": math.log(0.02 / rank), "bytes": None} for rank in range(1, k)
    ]
    return {**alternatives[0], "top_logprobs": alternatives}


class Handler(BaseHTTPRequestHandler):
    """Answers every request with as many choices as it asks for."""

    def do_POST(self) -> None:
        """Send one reply."""
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = reply_body(request.get("n", 1))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


class Tracer:
    """Records which files of the package run, and how deep its frames stand on each other, in all threads."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.deepest: list[str] = []
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Take one profiler event."""
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        self.calls += 1
        name = frame.f_code.co_filename.removeprefix(PACKAGE)[1:]
        self.files[name] = self.files.get(name, 0) + 1
        stack: list[str] = []
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith(PACKAGE):
                path = caller.f_code.co_filename.removeprefix(PACKAGE)[1:]
                stack.append(f"{path}:{caller.f_lineno} {caller.f_code.co_qualname}")
            caller = caller.f_back
        if len(stack) > len(self.deepest):
            self.deepest = stack[::-1]


async def best_of(base_url: str, constructor: Callable[..., None], call: Callable[..., None]) -> None:
    """Make a client and call it once; profile both."""
    sys.setprofile(constructor)
    reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=base_url, scorer="mean_logprob")
    threading.setprofile(call)  # of the worker threads, which start now
    sys.setprofile(call)
    selection = await reranker.best_of("What is 17 * 24?", n=16)
    await reranker.aclose()
    assert len(selection.candidates) == 16, selection


def trace(base_url: str) -> tuple[Tracer, Tracer]:
    """Trace the constructor and the call of a new client, on a new event loop, after an untraced round."""
    asyncio.run(best_of(base_url, lambda *_: None, lambda *_: None))
    constructor, call = Tracer(), Tracer()
    try:
        asyncio.run(best_of(base_url, constructor, call))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None ends it
    return constructor, call


def main() -> int:
    """Print both counts; return 1 if one is above its bar."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        constructor, tracer = trace(f"http://127.0.0.1:{server.server_port}/v1")
    finally:
        server.shutdown()
    if "--list" in sys.argv:
        for name, calls in sorted(tracer.files.items()):
            print(f"{calls:6}  {name}")
        print(*tracer.deepest, sep="\n")
    both = {*tracer.files, *constructor.files}
    print(f"files entered: {len(tracer.files)} (bar {MAX_FILES}); with the constructor: {len(both)}")
    print(f"deepest stack: {len(tracer.deepest)} (bar {MAX_DEPTH})")
    print(f"calls: {tracer.calls}")
    return int(len(tracer.files) > MAX_FILES or len(tracer.deepest) > MAX_DEPTH)


if __name__ == "__main__":
    sys.exit(main())
