"""From a reply's bytes to score-ready arrays: time beside other decoders, extra memory, longest step.

    python benchmarks/decode.py [--json] [--rounds 7]

The reply is drawn, not recorded: n=16 completions of 512 tokens with 20 alternatives each, shaped like gpt-4o's (token
lengths, gaps between ranks). Four variants: indented as OpenAI sends replies (53 MB) or compact (15 MB), with distinct
numbers or rounded as OpenAI rounds, so that most lists hold equal neighbours. All contestants run in turn in every
round; a bar is the median of the rounds' ratios, its interval the lowest and highest round. Every bar is an upper bound
but openai_over_ours, which is a lower one. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import simdjson
from openai.types.chat import ChatCompletion

from swift_client import rank
from swift_client.adapters.codecs.openai_chat import parse, parse_steps

N, TOKENS, K = 16, 512, 20
Milliseconds = dict[str, list[float]]


# Of each variant: whether it is indented, whether it is rounded, the bars of openai over ours and ours over simdjson.
VARIANTS = {
    "indented": (True, False, 30, 5),
    "indented_rounded": (True, True, 30, 5),
    "distinct": (False, False, 25, 4),
    "rounded": (False, True, 25, 6),
}


def draw_reply(*, rounded: bool, indented: bool = False) -> bytes:
    """Draw the reply's bytes, the same in every run."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = {
        (" " if draw.random() < 0.6 else "") + "".join(draw.choice(letters, 1 + draw.poisson(5))) for _ in range(4000)
    }
    words |= {"é", " naïve", "空", "青い", " 🎈", "\n\n", '"', "\\"}
    entries = [{"token": word, "logprob": 0.0, "bytes": list(word.encode())} for word in sorted(words)]
    choices = []
    for index in range(N):
        content = []
        for _ in range(TOKENS):
            gaps = np.concatenate([[0.0], draw.exponential(6, 1), draw.exponential(0.45, K - 2)])
            scores = -np.cumsum(np.round(gaps * 8) / 8 if rounded else gaps)
            numbers = (scores - np.log(np.exp(scores).sum() * 1.0001)).astype(np.float32).astype(float)
            picked = draw.choice(len(entries), K, replace=False)
            top = [{**entries[word], "logprob": number} for word, number in zip(picked, numbers.tolist(), strict=True)]
            content.append({**top[min(int(draw.exponential(0.5)), K - 1)], "top_logprobs": top})
        message = {"role": "assistant", "content": "".join(token["token"] for token in content), "refusal": None}
        logprobs = {"content": content, "refusal": None}
        choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": "stop"})
    usage = {"prompt_tokens": 18, "completion_tokens": N * TOKENS, "total_tokens": 18 + N * TOKENS}
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "drawn", "choices": choices}
    if indented:
        return json.dumps({**reply, "usage": usage}, indent=2, ensure_ascii=False).encode() + b"\n"
    return json.dumps({**reply, "usage": usage}, separators=(",", ":"), ensure_ascii=False).encode()


def arrays_of_objects(reply: ChatCompletion) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make the arrays that we make from the openai client's objects, without our checks of the numbers."""
    arrays = []
    for choice in reply.choices:
        content = choice.logprobs.content
        top = [[alternative.logprob for alternative in token.top_logprobs] for token in content]
        arrays.append((np.array([token.logprob for token in content], np.float32), np.array(top, np.float32)))
    return arrays


def arrays_of_dicts(reply: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make the same arrays from plain dicts."""
    arrays = []
    for choice in reply["choices"]:
        content = choice["logprobs"]["content"]
        top = [[alternative["logprob"] for alternative in token["top_logprobs"]] for token in content]
        arrays.append((np.array([token["logprob"] for token in content], np.float32), np.array(top, np.float32)))
    return arrays


def contestants(data: bytes) -> dict[str, Callable[[], Any]]:
    """Everything that reads the bytes; "openai" is what its client does: json.loads, then unchecked objects."""
    parser = simdjson.Parser()
    return {
        "ours": lambda: parse(data),
        "ours, to a Selection": lambda: rank(data),
        "simdjson, parse only": lambda: parser.parse(data),
        "openai objects + arrays": lambda: arrays_of_objects(ChatCompletion.construct(**json.loads(data))),
        "openai validated + arrays": lambda: arrays_of_objects(ChatCompletion.model_validate_json(data)),
        "orjson + arrays": lambda: arrays_of_dicts(orjson.loads(data)),
        "json + arrays": lambda: arrays_of_dicts(json.loads(data)),
    }


def race(data: bytes, rounds: int) -> Milliseconds:
    """Run all contestants in turn, ``rounds`` times after a warm-up."""
    runners = contestants(data)
    for name in ("ours", "ours, to a Selection", "simdjson, parse only"):
        runners[name]()
    times: Milliseconds = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            gc.collect()
            start = time.perf_counter()
            runner()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def longest_steps(data: bytes, rounds: int) -> list[float]:
    """Milliseconds of processor time of the longest step of each of ``rounds`` decodings."""
    longest = []
    for _ in range(rounds):
        worst, steps, more = 0.0, parse_steps(data), True
        while more:
            start = time.thread_time()  # another process may stall any step
            more = next(steps, steps) is not steps
            worst = max(worst, (time.thread_time() - start) * 1e3)
        longest.append(worst)
    return longest


def extra_memory(data: bytes) -> list[float]:
    """MB that decoding adds at its peak, in a process that holds only the bytes: (Linux) resident, and traced."""
    command = [sys.executable, __file__, "--memory"]
    measurements: list[float] = json.loads(subprocess.run(command, input=data, capture_output=True, check=True).stdout)
    return measurements


def measure_memory(data: bytes) -> list[float]:
    """Measure in this process."""
    parse(b'{"choices":[]}')  # loads what loads on first use
    peaks = []
    if sys.platform == "linux":
        before = resident("VmRSS")
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")  # resets the peak, see proc(5)
        parse(data)
        peaks.append(resident("VmHWM") - before)
    tracemalloc.start()
    parse(data)
    return [*peaks, tracemalloc.get_traced_memory()[1] / 1e6]


def resident(field: str) -> float:
    """Return a size from /proc/self/status in MB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def bar(values: list[float], target: float, unit: str) -> dict[str, Any]:
    """Return the median of the rounds beside its bar."""
    interval = [round(min(values), 2), round(max(values), 2)]
    return {"value": round(statistics.median(values), 2), "target": target, "unit": unit, "interval": interval}


def ratio(times: Milliseconds, one: str, two: str) -> list[float]:
    """Return each round's ratio of two contestants."""
    return [a / b for a, b in zip(times[one], times[two], strict=True)]


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(measure_memory(sys.stdin.buffer.read())))
        return
    bars: dict[str, dict[str, Any]] = {}
    table: dict[str, dict[str, float]] = {}
    sizes = {}
    for variant, (indented, rounded, openais, simdjsons) in VARIANTS.items():
        data = draw_reply(rounded=rounded, indented=indented)
        times = race(data, options.rounds)
        memory = [megabytes / (len(data) / 1e6) for megabytes in extra_memory(data)]
        sizes[variant] = len(data) / 1e6
        table[variant] = {name: statistics.median(values) for name, values in times.items()}
        bars |= {
            f"openai_over_ours_{variant}": bar(ratio(times, "openai objects + arrays", "ours"), openais, "x"),
            f"ours_over_simdjson_{variant}": bar(ratio(times, "ours", "simdjson, parse only"), simdjsons, "x"),
            f"selection_over_ours_{variant}": bar(ratio(times, "ours, to a Selection", "ours"), 1.5, "x"),
            f"longest_step_ms_{variant}": bar(longest_steps(data, options.rounds), 50, "ms"),
            f"extra_memory_over_body_{variant}": bar(memory, 1, "x") | {"value": round(max(memory), 2)},
        }
    if options.json:
        print(json.dumps({"bars": bars, "milliseconds": table, "megabytes": sizes}, indent=2))
        return
    for name, row in bars.items():
        value, target, (low, high) = row["value"], row["target"], row["interval"]
        met = value >= target if name.startswith("openai_over_ours") else value <= target
        print(
            f"{name:40} {value:>7.2f} {row['unit']:3} bar {target:<4} {'ok' if met else 'MISSED':6} ({low} to {high})"
        )
    for variant, medians in table.items():
        print(f"\n{variant}, {sizes[variant]:.1f} MB")
        print("\n".join(f"{milliseconds:9.1f} ms  {name}" for name, milliseconds in medians.items()))


if __name__ == "__main__":
    main()
