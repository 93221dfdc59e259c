"""Requests through the service to an upstream with injected faults: what came back, and what the service kept."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from openai.types.chat import ChatCompletion

from benchmarks.fault_calls import find_references
from benchmarks.fault_endpoint import FAULTS, EndpointProcess
from benchmarks.serving.processes import Service, run_service

CLIENTS = 64
FAULT_SHARE = 0.4
WARM_UP = 0.1  # share of the requests after which memory is first read
_LIMIT = 400_000  # max_reply_bytes that the faults of size refer to; the service's own limit is far above
# Faults of sheer size fill the memory limit of a reply by intent; benchmarks/fault_memory.py measures them.
_TOO_LARGE = frozenset({"too_long", "compressed_bomb", "s_flood", "endless_error", "s_long_line"})
# Bytes after the end of a reply shift all later replies of a connection: what is lost then belongs to another request.
_SHIFTS_REPLIES = frozenset({"second_response", "short_length"})
_CODES_OF_SERVICE = frozenset({"internal_error", "service_busy", "service_configuration"})
_DONE = "data: [DONE]\n\n"


@dataclass
class FaultResult:
    """The findings over all requests.

    Attributes:
        malformed: replies that are neither a chat.completion nor OpenAI's error object, with the first examples.
        unforced: 5xx although a completion arrived from upstream, or that name a fault of the service itself.
        lost: completions that arrived from upstream and are not in a reply.
        statuses: replies per status.
        memory_mb: resident memory of the service after a tenth of the requests, and at the end.
        descriptors: open files of the service before the first request, and after the last.
    """

    n_requests: int = 0
    malformed: int = 0
    unforced: int = 0
    lost: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    memory_mb: tuple[float, float] = (0.0, 0.0)
    descriptors: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        """Keep one of the first examples."""
        if len(self.examples) < 12:
            self.examples.append(f"{kind}: {text[:300]}")


@dataclass(frozen=True)
class _Reply:
    status: int
    references: frozenset[str]
    error_code: str | None
    fault: str | None
    ended: float


def send_with_faults(n_requests: int, folder: Path, *, seed: int) -> FaultResult:
    """Send ``n_requests`` to a service whose upstream fails in all the ways of benchmarks/faults.py."""
    settings = "timeout = 1.5\nmax_retries = 1\nmax_concurrency = 256\n[models.best.caps]\nn = 8"
    with (
        EndpointProcess() as endpoint,
        run_service(endpoint.url, folder, settings=settings, server="max_concurrency = 64") as service,
    ):
        return asyncio.run(_run(n_requests, service, endpoint, seed))


async def _run(n_requests: int, service: Service, endpoint: EndpointProcess, seed: int) -> FaultResult:
    result = FaultResult()
    before, started, warm = service.n_descriptors, time.monotonic(), 0.0
    replies: dict[int, _Reply] = {}
    numbers = iter(range(n_requests))
    chance = random.Random(seed)
    names = [name for name in FAULTS if name not in _TOO_LARGE | _SHIFTS_REPLIES]
    url = f"http://127.0.0.1:{service.port}/v1/chat/completions"
    n_warm = int(n_requests * WARM_UP)

    async def client(http: httpx2.AsyncClient) -> None:
        nonlocal warm
        for number in numbers:
            fault = chance.choice(names) if chance.random() < FAULT_SHARE else None
            is_streamed = chance.random() < 0.2
            body = _body(number, fault, seed, n=chance.choice([1, 2, 3, 4]), is_streamed=is_streamed)
            reply = await http.post(url, json=body)
            replies[number] = _read(reply, fault, result, is_streamed=is_streamed)
            if number == n_warm:
                warm = service.memory_mb
            if number % 500 == 0:
                _settle(await asyncio.to_thread(endpoint.account), replies, arrived, result)

    arrived: dict[int, list[tuple[str, float]]] = {}
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=CLIENTS)) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    await asyncio.sleep(1)
    _settle(endpoint.account(), replies, arrived, result)
    result.n_requests, result.seconds = n_requests, time.monotonic() - started
    await asyncio.sleep(6)  # idle connections to upstream end after 5 s
    result.memory_mb, result.descriptors = (warm, service.memory_mb), (before, service.n_descriptors)
    return result


def _body(number: int, fault: str | None, seed: int, *, n: int, is_streamed: bool) -> dict[str, Any]:
    orders = {
        "call": number, "fault": fault, "seed": f"{seed}-{number}", "share": 0.85, "limit": _LIMIT, "delay": 0.02,
        "wants_object": False,
    }  # fmt: skip
    return {
        "model": "best",
        "messages": [{"role": "user", "content": json.dumps(orders)}],
        "stream": is_streamed,
        "swift": {"n": n, "texts": True},
    }


def _read(reply: httpx2.Response, fault: str | None, result: FaultResult, *, is_streamed: bool) -> _Reply:
    """Check the shape of a reply, and return what it says."""
    result.statuses[reply.status_code] += 1
    code = None
    try:
        if is_streamed and reply.headers["content-type"].startswith("text/event-stream"):
            events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
            last = json.loads(events[-2] if reply.text.endswith(_DONE) else events[-1])
            if "error" in last:
                code = _error_code(last)
        elif reply.status_code == 200:
            ChatCompletion.model_validate_json(reply.content, strict=True)
        else:
            code = _error_code(reply.json())
    except (ValueError, KeyError, IndexError, TypeError) as error:
        result.malformed += 1
        result.note("malformed", f"{reply.status_code} {error} {reply.text[:200]}")
    # A stream repeats the text of the winner, which is among the candidates' texts of its ``swift`` object.
    references = frozenset(find_references(reply.text))
    return _Reply(reply.status_code, references, code, fault, time.monotonic())


def _error_code(body: Mapping[str, Any]) -> str:
    error = body["error"]
    if not (isinstance(error["message"], str) and isinstance(error["type"], str) and {"param", "code"} <= error.keys()):
        raise ValueError("not OpenAI's error object")
    return str(error["code"])


def _settle(
    account: Mapping[str, Any],
    replies: dict[int, _Reply],
    arrived: dict[int, list[tuple[str, float]]],
    result: FaultResult,
) -> None:
    """Compare what upstream sent with what came back, for all requests that have ended."""
    result.faults.update(account["faults"])
    for reference, sent_at in account["arrived"]:
        arrived.setdefault(int(reference.split("-")[1]), []).append((reference, sent_at))
    for number in list(replies):
        reply = replies.pop(number)
        # What is sent while the service already answers cannot be in the reply.
        expected = {reference for reference, sent_at in arrived.pop(number, ()) if sent_at < reply.ended - 0.3}
        if missing := expected - reply.references:
            result.lost += len(missing)
            result.note("lost", f"{len(missing)} of {len(expected)} of request {number}: {reply}")
        if reply.error_code in _CODES_OF_SERVICE or (reply.status >= 500 and expected):
            result.unforced += 1
            result.note("unforced", f"request {number}: {reply}")
