"""The service beside the library and beside its_hub's gateway, on one upstream that answers in 50 ms.

    python benchmarks/serve.py [--json] [--rounds 5] [--seconds 10] [--requests 20000] [--no-peer]

The upstream gives 8 completions of 30 tokens with 20 alternatives each (450 kB). Measured are the latency that the
service adds to ``AsyncSwiftReranker.best_of`` under random arrivals at half of the service's saturation, the throughput
with 32 waiting clients, its_hub's gateway (``its_hub[iaas]``, in an environment of its own, voting over 8 without
logprobs), ``--requests`` requests with injected upstream faults, and 500 clients that hang up at once. Library,
service and peer take turns within a round; intervals are the lowest and the highest round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peer_environments import PeerUnavailableError, default_cache
from benchmarks.serving.faults import FaultResult, send_with_faults
from benchmarks.serving.load import HttpClient, closed_loop, open_loop
from benchmarks.serving.processes import (
    PROMPT,
    Library,
    run_peer_gateway,
    run_service,
    run_upstream,
    upstream_counts,
)

CLIENTS = 32
N_HANG_UPS = 500


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie, in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def question(model: str, **fields: Any) -> bytes:
    """Return the body of a request."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}
    return json.dumps(body, separators=(",", ":")).encode()


def bar(values: Sequence[float], target: float, unit: str) -> dict[str, Any]:
    """Return a bar: the median of the rounds, and the lowest and highest round."""
    return {
        "value": round(statistics.median(values), 3),
        "target": target,
        "unit": unit,
        "interval": [round(min(values), 3), round(max(values), 3)],
    }


async def measure_speed(
    service: HttpClient, voting: HttpClient, library: Library, peer: HttpClient | None, *, rounds: int, seconds: float
) -> dict[str, Any]:
    """Return the bars of latency and throughput.

    Args:
        service: asks for logprobs, as the library does.
        voting: the same service by a model without logprobs, which does what the peer does.
        library: the base of the comparison.
        peer: its_hub's gateway.
        rounds: number of rounds.
        seconds: length of one run.
    """
    ratios, peer_ratios, scored_ratios, rates = [], [], [], []
    for _ in range(rounds):
        ours = await closed_loop(service, clients=CLIENTS, seconds=seconds)
        rates.append(ours)
        ratios.append(ours / await asyncio.to_thread(library.run, clients=CLIENTS, seconds=seconds))
        if peer is not None:
            theirs = await closed_loop(peer, clients=CLIENTS, seconds=seconds)
            peer_ratios.append(await closed_loop(voting, clients=CLIENTS, seconds=seconds) / theirs)
            scored_ratios.append(ours / theirs)
    rate = statistics.median(rates) / 2
    added: dict[float, list[float]] = {0.5: [], 0.99: []}
    for seed in range(rounds):
        base = await asyncio.to_thread(library.run, rate=rate, seconds=seconds, seed=seed)
        ours_open = await open_loop(service, rate=rate, seconds=seconds, seed=seed)
        for share, values in added.items():
            values.append(quantile(ours_open, share) - quantile(base, share))
    bars = {
        "added_ms_p50": bar(added[0.5], 2.0, "ms"),
        "added_ms_p99": bar(added[0.99], 15.0, "ms"),
        "closed_loop_ratio": bar(ratios, 0.8, "service / library"),
        "requests_per_s": bar(rates, 0.0, "1/s, 32 clients"),
    }
    if peer_ratios:
        bars["requests_per_s_ratio"] = bar(peer_ratios, 3.0, "service / its_hub, both voting without logprobs")
        bars["requests_per_s_ratio_scored"] = bar(scored_ratios, 0.0, "service with logprobs / its_hub without")
    return bars


async def measure_hang_ups(port: int, upstream: int) -> list[float]:
    """Let 500 clients hang up at once; return the seconds until the upstream saw each of them."""
    client = HttpClient(port, question("best", user="slow"))
    before = len(upstream_counts(upstream)["broken_off"])
    waiting = [asyncio.create_task(client.break_off(6.0)) for _ in range(N_HANG_UPS)]
    hung_up = max(await asyncio.gather(*waiting))
    await asyncio.sleep(3)
    times = upstream_counts(upstream)["broken_off"][before:]
    return [max(0.0, seen - hung_up) for seen in times] + [float("inf")] * (N_HANG_UPS - len(times))


def fault_bars(result: FaultResult) -> dict[str, Any]:
    """Return the bars of the requests with faults."""
    values = {
        "malformed": (result.malformed, 0, "replies"),
        "unforced_5xx": (result.unforced, 0, "replies"),
        "paid_lost": (result.lost, 0, "completions"),
        "memory_growth_mb": (round(result.memory_mb[1] - result.memory_mb[0], 1), 10, "MB"),
        "descriptors_left": (result.descriptors[1] - result.descriptors[0], 0, "descriptors"),
    }
    return {
        name: {"value": value, "target": target, "unit": unit, "interval": None}
        for name, (value, target, unit) in values.items()
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one run in a round")
    parser.add_argument("--requests", type=int, default=20_000, help="requests with injected faults; 0: none")
    parser.add_argument("--no-peer", action="store_true", help="without its_hub's gateway")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bars: dict[str, Any] = {}
    details: dict[str, Any] = {}

    with tempfile.TemporaryDirectory() as name, run_upstream() as upstream:
        folder = Path(name)
        url = f"http://127.0.0.1:{upstream}/v1"
        concurrency = f"max_concurrency = {2 * N_HANG_UPS}"
        voting_model = f'[models.voting]\nprovider = "openai-compatible"\nmodel = "m"\nbase_url = "{url}"\nn = 8\n'
        voting_model += f"require_logprobs = false\n{concurrency}"
        with run_service(url, folder, server=concurrency, settings=f"{concurrency}\n{voting_model}") as service:
            client, voting = (HttpClient(service.port, question(name)) for name in ("best", "voting"))
            with Library(upstream, 8) as library:

                def run_rounds(peer: HttpClient | None) -> dict[str, Any]:
                    return asyncio.run(
                        measure_speed(client, voting, library, peer, rounds=options.rounds, seconds=options.seconds)
                    )

                if options.no_peer:
                    bars |= run_rounds(None)
                else:
                    try:
                        with run_peer_gateway(upstream, folder, default_cache()) as port:
                            bars |= run_rounds(HttpClient(port, question("m")))
                    except PeerUnavailableError as error:
                        details["peer"] = str(error)
                        bars |= run_rounds(None)
            times = asyncio.run(measure_hang_ups(service.port, upstream))
            bars["hang_up_ms"] = {
                "value": round(1000 * max(times), 1), "target": 100, "unit": f"ms, last of {N_HANG_UPS}",
                "interval": [round(1000 * min(times), 1), round(1000 * max(times), 1)],
            }  # fmt: skip
    if options.requests:
        with tempfile.TemporaryDirectory() as name:
            result = send_with_faults(options.requests, Path(name), seed=options.seed)
        bars |= fault_bars(result)
        details["faults"] = {
            "requests": result.n_requests, "seconds": round(result.seconds, 1), "statuses": dict(result.statuses),
            "injected": sum(result.faults.values()), "kinds": len(result.faults), "examples": result.examples,
        }  # fmt: skip
    if options.json:
        print(json.dumps({"bars": bars, **details}, indent=2))
        return
    print(f"{'bar':24} {'value':>10} {'target':>8}  interval")
    for name, entry in bars.items():
        interval = "" if entry["interval"] is None else f"[{entry['interval'][0]:g}, {entry['interval'][1]:g}]"
        print(f"{name:24} {entry['value']:>10g} {entry['target']:>8g}  {interval:20} {entry['unit']}")
    for name, value in details.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
