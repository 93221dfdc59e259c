"""Ten thousand faults of servers, networks, stores and users' functions, against real clients over loopback.

    python benchmarks/faults.py [--json] [--faults 10000] [--seed 0] [--examples 10]

Sync and async clients, with our transport and with the openai client, call an endpoint in another process, which breaks
connections, refuses, damages replies and lies (fault_kinds.py, fault_bodies.py), while users' functions hang or fail,
stores cannot be written, and calls are cancelled (fault_hazards.py). A call must return a Selection or raise a
SwiftClientError, in time, without the key in any text, and with every completion that had arrived whole with status
200.
A bar of 0 counts violations.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fault_calls import Batch, Outcome, draw_batches, run_batch
from benchmarks.fault_checks import Findings, check
from benchmarks.fault_endpoint import EndpointProcess
from benchmarks.fault_hazards import ALONE
from benchmarks.fault_memory import measure_memory

VIOLATIONS = ("untyped_errors", "unsafe_errors", "keys_shown", "past_deadline", "paid_lost", "leaks")
_TIMED = ("past_deadline", "paid_lost")
"""Violations that other processes of the machine can cause too."""
_BATCH_SIZE = 12
MAX_MEMORY_RATIO = 16.0
"""Most memory of one call over ``max_reply_bytes``. Texts take three times their bytes; a reply of nothing but tiny
tokens or events becomes objects that are larger than their JSON."""


def open_sockets() -> int:
    """Return the number of sockets that this process holds; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return 0
    links = (os.readlink(path) for path in folder.iterdir() if path.is_symlink())
    return sum(link.startswith("socket:") for link in links)


@contextmanager
def _short_trust_store(folder: Path) -> Iterator[None]:
    """Let clients read one certificate instead of 140, which takes longer than a call here."""
    path = folder / "root.pem"
    path.write_text(
        Path(certifi.where()).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


class Measurement:
    """Counts of all faults and violations so far."""

    def __init__(self, seed: int, repeats: int, at_once: int, endpoint: EndpointProcess, folder: Path) -> None:
        self.findings = Findings()
        self.faults: Counter[str] = Counter()
        self.n_calls = 0
        self._repeats, self._endpoint, self._folder = repeats, endpoint, folder
        self._key = f"{random.Random(seed).getrandbits(160):040x}"
        self._threads = ThreadPoolExecutor(at_once)

    def run(self, batches: Sequence[Batch]) -> None:
        """Run batches and check every call; those that end late or lose a completion are run again, alone.

        Other processes can hold up a client or the endpoint for a second, in every place. A fault of ours comes again
        with the same replies, so only what is wrong in each of several runs counts.
        """
        together = [batch for batch in batches if batch.hazard not in ALONE]
        results = list(self._threads.map(self._run_batch, together))
        results += [self._run_batch(batch) for batch in batches if batch.hazard in ALONE]
        findings = self._check(results)
        for _ in range(self._repeats):
            doubtful = {call for name, call in findings.wrong_calls if name in _TIMED}
            again = [batch for batch in batches if doubtful & {call.number for call in batch.calls}]
            if not again:
                break
            again = [batch.repeated() for batch in batches if batch in again]
            findings.keep(self._check([self._run_batch(batch) for batch in again]), _TIMED)
        self.findings.merge(findings)

    def _run_batch(self, batch: Batch) -> tuple[list[Outcome], dict[str, int]]:
        return run_batch(batch, self._endpoint.port, self._folder, self._key)

    def _check(self, results: Sequence[tuple[list[Outcome], dict[str, int]]]) -> Findings:
        account = self._endpoint.account()
        self.faults.update(account["faults"])
        arrived = _by_call(account["arrived"])
        findings = Findings()
        for outcomes, own_faults in results:
            self.faults.update(own_faults)
            self.n_calls += len(outcomes)
            for outcome in outcomes:
                check(outcome, arrived, self._key, findings)
        findings.n_leaks = self.faults.pop("leaked_tasks", 0)
        return findings


def measure(target: int, seed: int, *, repeats: int, at_once: int) -> dict[str, Any]:
    """Inject at least ``target`` faults; return what was counted."""
    with tempfile.TemporaryDirectory() as name, _short_trust_store(Path(name)), EndpointProcess() as endpoint:
        before = open_sockets(), threading.active_count() + at_once
        measurement = Measurement(seed, repeats, at_once, endpoint, Path(name))
        batches = draw_batches(seed, size=_BATCH_SIZE)
        while sum(measurement.faults.values()) < target:
            measurement.run(list(itertools.islice(batches, 4 * at_once)))
        findings = measurement.findings
        findings.n_leaks += _leaks(before)
    counts = Counter(name for name, _ in findings.examples)
    return {
        "counts": {**{name: counts[name] for name in VIOLATIONS}, "leaks": findings.n_leaks},
        "faults": dict(sorted(measurement.faults.items())),
        "calls": measurement.n_calls,
        "lateness": max(findings.lateness, default=0.0),
        "examples": [text for texts in findings.examples.values() for text in texts],
    }


def _by_call(arrived: Iterable[tuple[str, float]]) -> dict[int, list[tuple[str, float]]]:
    groups: dict[int, list[tuple[str, float]]] = {}
    for reference, sent_at in arrived:
        groups.setdefault(int(reference.split("-")[1]), []).append((reference, sent_at))
    return groups


def _leaks(before: tuple[int, int]) -> int:
    """Return the sockets and threads that are still there after some seconds."""
    left = 0
    for _ in range(60):
        gc.collect()
        left = max(0, open_sockets() - before[0]) + max(0, threading.active_count() - before[1])
        if not left:
            break
        time.sleep(0.1)
    return left


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--faults", type=int, default=10_000, help="at least so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=2, help="of calls that end late or lose a completion")
    parser.add_argument("--at-once", type=int, default=2, help="clients, with twelve calls each")
    parser.add_argument("--no-memory", action="store_true", help="leave out the replies that are made to fill memory")
    parser.add_argument("--examples", type=int, default=10, help="violations to show")
    options = parser.parse_args()
    logging.disable()
    start = time.perf_counter()
    result = measure(options.faults, options.seed, repeats=options.repeats, at_once=options.at_once)
    seconds = time.perf_counter() - start
    memory = {} if options.no_memory else measure_memory()
    rows: list[tuple[str, float, float, str]] = [(name, result["counts"][name], 0, "violations") for name in VIOLATIONS]
    if memory:
        peak = max(ratio for ratio, _ in memory.values())
        rows.append(("peak_memory_ratio", round(peak, 2), MAX_MEMORY_RATIO, "of max_reply_bytes"))
    rows += [
        ("kinds", len(result["faults"]), 50, "kinds"),
        ("faults", sum(result["faults"].values()), 10_000, "faults"),
    ]
    bars = {
        name: {"value": value, "target": target, "unit": unit, "interval": None} for name, value, target, unit in rows
    }
    if options.json:
        examples = result["examples"][: options.examples]
        print(
            json.dumps({"bars": bars, **result, "examples": examples, "memory": memory, "seconds": seconds}, indent=2)
        )
        return
    for name, value, target, _ in rows:
        is_met = value >= target if name in ("kinds", "faults") else value <= target
        print(f"{name:18} {value:8,}  bar {target:6,}  {'ok' if is_met else 'MISSED'}")
    print(f"\n{result['calls']:,} calls in {seconds:.0f} s; the latest {result['lateness']:.2f} s after its deadline")
    for name, (ratio, outcome) in memory.items():
        print(f"{name:30} {ratio:6.2f} × max_reply_bytes  {outcome}")
    for example in result["examples"][: options.examples]:
        print(f"\n{example}")


if __name__ == "__main__":
    main()
