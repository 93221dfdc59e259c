"""The part of soak.py over real HTTP: a fault server, and rerankers in threads of their own that share one limit."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from dataclasses import replace

from swift_client import AsyncSwiftReranker, Event, RateLimit
from tests.servers import FaultServer, Received, Response, chat, chat_stream, cut, error, html, reset, slow

SOCKET_VIOLATIONS = ("frozen", "over_cap", "over_sockets", "lost", "miscounted_calls", "slots_leaked")


def sockets(seconds: float, *, at_once: int, seed: int = 0, threads: int = 3) -> dict[str, float]:
    """Soak over real HTTP in real time: rerankers in threads of their own, one limit; return what was counted."""
    shared, lock, chances = RateLimit(at_once), threading.Lock(), random.Random(seed)
    count = {"questions": 0, "requests": 0, "busy": 0, "most_at_once": 0}
    sent_texts: set[str] = set()
    arrived: set[str] = set()

    def serve(received: Received) -> Response:
        with lock:
            chance, count["busy"] = chances.random(), count["busy"] + 1
            count["most_at_once"] = max(count["most_at_once"], count["busy"])
        time.sleep(0.02)
        with lock:  # before the reply goes out: its slot may be taken again before this function is left
            count["busy"] -= 1
        if chance < 0.15:
            return error(429, "slow down", headers={"retry-after-ms": str(int(1000 * chance))})
        if chance < 0.2:
            return replace(html(429, "Too Many Requests"), headers={"retry-after": "0.1"})
        if chance < 0.3:
            return reset()
        texts = [f"The answer is {uuid.uuid4()}" for _ in range(received.json["n"])]
        answer = (chat_stream if received.json.get("stream") else chat)(texts, k=2)
        if chance < 0.35:
            return cut(answer, reset=True)
        sent_texts.update(texts)
        return slow(answer, chunk=400, pause=0.02) if chance < 0.45 and not answer.chunks else answer

    def tell(event: Event) -> None:
        with lock:
            count["requests"] += event.kind == "request"

    async def ask(url: str) -> None:
        async with AsyncSwiftReranker(
            "openai-compatible", "m", base_url=url, limit=shared, max_retries=8, on_event=tell
        ) as reranker:
            while time.monotonic() < ends:
                deadlines = [60.0 if index % 3 == 0 else None for index in range(at_once)]
                selections = await asyncio.gather(
                    *(reranker.best_of("q", n=4, deadline=deadline) for deadline in deadlines)
                )
                with lock:
                    count["questions"] += len(selections)
                    arrived.update(candidate.completion.text for one in selections for candidate in one.candidates)

    with FaultServer() as server:
        server.serve(serve)
        ends = time.monotonic() + seconds
        asking = [threading.Thread(target=lambda: asyncio.run(ask(server.url)), daemon=True) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(seconds + 120)
        return {
            **{name: float(value) for name, value in count.items()},
            "frozen": float(any(thread.is_alive() for thread in asking)),
            "over_cap": float(count["most_at_once"] > at_once),
            "over_sockets": float(server.most_connections > at_once * threads),
            "lost": float(len(sent_texts - arrived)),
            "miscounted_calls": float(abs(len(server.requests) - count["requests"])),
            "slots_leaked": float(shared.for_this_process().n_active),
        }
