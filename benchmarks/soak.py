"""Ten minutes of a provider at its worst, in compressed time: counts of freezes, overruns and losses.

    python benchmarks/soak.py [--json] [--minutes 10] [--seeds 3] [--seconds 5]

The real draw, limit, retry and budget run on an event loop whose clock jumps to the next thing that happens. A scripted
provider stands at the end of the line: bursts of 429 with and without Retry-After, minutes of them, resets, broken and
slow streams, short replies, and quiet times; it bills each question for all that it began to answer. Questions arrive
all the time, each with a budget, every third with a deadline, which makes its calls streams. Then the same in real time
over real sockets, from several threads that share one limit. A bar of 0 counts violations.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.soak_sockets import SOCKET_VIOLATIONS, sockets
from swift_client.adapters import PROVIDERS, Request, load_codec
from swift_client.errors import (
    BudgetExceededError,
    ConnectionFailedError,
    NoCompletionError,
    RateLimitError,
    ServerError,
)
from swift_client.sampling import (
    Budget,
    CallContext,
    Endpoint,
    RateLimiter,
    RequestBudget,
    Sampler,
    create_sample_request,
)
from tests.servers import chat_body, chat_stream
from tests.virtual_time import run_in_virtual_time

CAP, N, MAX_TOKENS, TOKENS, CALLS = 16, 8, 6, 400, 12
FROZEN = 150.0
"""Seconds without a single request while questions wait, above which the limiter counts as frozen: the longest wait
that it honours is 120."""

VIOLATIONS = ("frozen", "over_cap", "overruns", "underbilled", "lost", "miscounted_calls", "slots_leaked")


@dataclass
class Provider:
    """A scripted provider that answers or breaks off, and counts its calls."""

    seed: int
    calls: int = 0
    sent: set[str] = field(default_factory=set)
    """Texts of the completions sent in complete replies, all different."""
    refused: int = 0
    busy: int = 0
    most_busy: int = 0
    starts: list[float] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    billed: dict[str, int] = field(default_factory=dict)
    """Tokens per question, including those of incomplete replies."""

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def weather(self, now: float) -> str:
        """Return the kind of the minute: quiet, stormy, or closed for two minutes."""
        minute = int(now // 60)
        if minute % 7 in (3, 4):
            return "closed"
        return random.Random(f"{self.seed}:{minute}").choice(["quiet", "storm", "resets", "slow"])

    async def send(self, request: Request, *, parts: list[bytes] | None = None) -> bytes:
        """Answer one request."""
        parts = [] if parts is None else parts
        async with self.stream(request) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
        return b"".join(parts)

    @asynccontextmanager
    async def stream(
        self, request: Request, *, timeout: float | None = None, total_timeout: float | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Answer one request chunk by chunk."""
        self.calls += 1
        self.starts.append(asyncio.get_running_loop().time())
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            async with aclosing(self._answer(request, self.calls)) as chunks:
                yield chunks
        finally:
            self.busy -= 1

    async def _answer(self, request: Request, number: int) -> AsyncGenerator[bytes]:
        weather, chance = self.weather(asyncio.get_running_loop().time()), self._draw.random()
        await asyncio.sleep(self._draw.uniform(0.05, 0.5))
        if weather == "closed" or (weather == "storm" and chance < 0.7):
            self.refused += 1
            refusal = RateLimitError("slow down", provider="soak", status=429, retryable=True)
            refusal.retry_after = self._draw.choice([None, 0.5, 5.0, 20.0])
            raise refusal
        if weather == "storm" and chance < 0.8:
            self.refused += 1
            raise ServerError("overloaded", provider="soak", status=529, retryable=True)
        if weather == "resets" and chance < 0.5:
            raise ConnectionFailedError("reset", provider="soak", retryable=True)
        texts = [f"The answer is {number}.{position}" for position in range(max(1, request.n - (chance > 0.9)))]
        prompt = request.body["messages"][0]["content"]
        usage = chat_body(texts, k=None)["usage"]
        self.billed[prompt] = self.billed.get(prompt, 0) + usage["total_tokens"]
        streamed = bool(request.body.get("stream"))
        chunks = (chat_stream(texts, k=2).chunks or ()) if streamed else (json.dumps(chat_body(texts, k=2)).encode(),)
        cut_at = len(chunks) // 2 if weather == "resets" and chance < 0.6 else None
        for index, chunk in enumerate(chunks):
            if index == cut_at:
                raise ConnectionFailedError("broken off", provider="soak", retryable=True)
            if weather == "slow":
                await asyncio.sleep(self._draw.uniform(1, 30) / len(chunks))
            if index == len(chunks) - 1:
                self.sent.update(texts)
            yield chunk

    async def aclose(self) -> None:
        """Close nothing."""


async def soak(seed: int, minutes: float) -> dict[str, float]:
    """Run one seed; return what was counted."""
    loop = asyncio.get_running_loop()
    provider, arrivals = Provider(seed), random.Random(seed + 1)
    limit = RateLimiter(CAP, clock=loop.time)
    row = PROVIDERS["openai-compatible"]
    line = CallContext(
        provider=row,
        model="m",
        codec=load_codec(row),
        transport=provider,  # type: ignore[arg-type]  # what Line uses of it is there
        endpoint=Endpoint(row.capabilities, top_logprobs=2),
        rate_limiter=limit,
        max_retries=4,
        must_have_logprobs=False,
        on_event=None,
    )
    counts = {"questions": 0.0, "answered": 0.0, "failed": 0.0, "overruns": 0.0, "underbilled": 0.0, "counted": 0.0}
    most_held = 0
    arrived: set[str] = set()
    waits: list[float] = []

    async def question() -> None:
        nonlocal most_held
        counts["questions"] += 1
        name = f"question {counts['questions']:.0f}"
        deadline = arrivals.uniform(5, 60) if counts["questions"] % 3 == 0 else None
        sample_request = create_sample_request(name, N, deadline=deadline, sampling={"max_tokens": MAX_TOKENS})
        account = Budget(tokens=TOKENS, calls=CALLS).open()
        start = loop.time()
        try:
            sampling_result = await Sampler(
                line,
                sample_request,
                request_budget=RequestBudget(account, sample_request.messages, sample_request.sampling, None),
            ).run()
            counts["answered"] += bool(sampling_result.completions)
            arrived.update(completion.text for completion in sampling_result.completions)
        except (NoCompletionError, BudgetExceededError, RateLimitError, ConnectionFailedError, ServerError) as error:
            counts["failed"] += 1
            arrived.update(completion.text for completion in getattr(error, "completions", ()))
        spent = account.spent
        billed = provider.billed.get(name, 0)
        counts["overruns"] += max(spent.tokens, billed) > TOKENS or spent.calls > CALLS
        counts["underbilled"] += billed > spent.tokens
        counts["counted"] += spent.calls
        most_held = max(most_held, limit.n_active)
        waits.append(loop.time() - start)

    tasks: list[asyncio.Task[None]] = []
    while loop.time() < 60 * minutes:
        tasks.append(asyncio.create_task(question()))
        await asyncio.sleep(arrivals.expovariate(1 / 2.0))
    await asyncio.wait_for(asyncio.gather(*tasks), 3600)
    gaps = [later - earlier for earlier, later in zip(provider.starts, provider.starts[1:], strict=False)]
    counts |= {
        "requests": provider.calls,
        "sent": len(provider.sent),
        "arrived": len(arrived),
        "lost": len(provider.sent - arrived),
        "refused": provider.refused,
        "most_at_once": max(provider.most_busy, most_held),
        "over_cap": float(provider.most_busy > CAP),
        "longest_gap": max(gaps, default=0.0),
        "frozen": float(max(gaps, default=0.0) > FROZEN),
        "miscounted_calls": abs(counts["counted"] - provider.calls),
        "slots_leaked": limit.n_active,
        "longest_wait": max(waits),
        "slowest_tenth": heapq.nlargest(max(1, len(waits) // 10), waits)[-1],
    }
    return counts


def run(seed: int, minutes: float) -> dict[str, float]:
    """Soak in virtual time."""
    return run_in_virtual_time(soak(seed, minutes))


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--minutes", type=float, default=10.0, help="of virtual time, for each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="over real sockets")
    options = parser.parse_args()
    start = time.perf_counter()
    results = [run(seed, options.minutes) for seed in range(options.seeds)]
    real = sockets(options.seconds, at_once=CAP)
    values = {name: sum(run_counts[name] for run_counts in results) for name in VIOLATIONS}
    values |= {f"sockets_{name}": real[name] for name in SOCKET_VIOLATIONS}
    bars = {
        name: {"value": value, "target": 0, "unit": "violations", "interval": None} for name, value in values.items()
    }
    if options.json:
        seconds = time.perf_counter() - start
        print(json.dumps({"bars": bars, "seeds": results, "sockets": real, "seconds": seconds}, indent=2))
        return
    for name, value in values.items():
        print(f"{name:25} {value:6.0f}  bar 0  {'ok' if not value else 'MISSED'}")
    for title, result in [
        *((f"seed {seed}", run_counts) for seed, run_counts in enumerate(results)),
        ("sockets", real),
    ]:
        print(f"\n{title}: " + ", ".join(f"{name} {value:,.0f}" for name, value in result.items()))
    print(f"\n{options.seeds} × {options.minutes:g} minutes in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
