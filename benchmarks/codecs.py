"""Decoding speed of every codec beside openai_chat's, per token: the same completions in each wire format.

    python benchmarks/codecs.py [--json] [--rounds 7]

Four completions of 512 tokens with 20 alternatives each, drawn; once with distinct numbers, once rounded as OpenAI
rounds, so that most lists hold equal neighbours; in one piece and as a stream of one token an event. All contestants
run in turn in every round; a bar is the median of the rounds' ratios of processor time, its interval the lowest and
highest round. Formats that carry one completion a reply decode four replies. Every bar is an upper bound.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.adapters import CODECS
from tests.codecs.logical import Case, LogicalCompletion, LogicalToken
from tests.codecs.writers import WRITERS

N, TOKENS, K = 4, 512, 20


def draw_case(*, rounded: bool) -> Case:
    """Draw the completions, the same in every run."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = sorted({f"{' ' * (draw.random() < 0.6)}{''.join(draw.choice(letters, 1 + draw.poisson(5)))}".encode()
                    for _ in range(4000)})  # fmt: skip
    completions = []
    for _ in range(N):
        tokens = []
        for _ in range(TOKENS):
            gaps = np.concatenate([[0.0], draw.exponential(6, 1), draw.exponential(0.45, K - 2)])
            scores = -np.cumsum(np.round(gaps * 8) / 8 if rounded else gaps)
            numbers = (scores - np.log(np.exp(scores).sum() * 1.0001)).astype(np.float32).astype(float).tolist()
            alternatives = [words[word] for word in draw.choice(len(words), K, replace=False)]
            top = tuple(zip(alternatives, numbers, strict=False))
            tokens.append(LogicalToken(*top[min(int(draw.exponential(0.5)), len(top) - 1)], top))
        completions.append(LogicalCompletion(b"".join(token.raw for token in tokens).decode(), tuple(tokens)))
    return Case("drawn", tuple(completions))


def race(case: Case, rounds: int) -> dict[str, list[float]]:
    """Return each contestant's microseconds per token in each round."""
    jobs = {}
    for writer in WRITERS:
        if "logprobs" in writer.features:
            parts = [case] if "several" in writer.features else case.split()
            parse = importlib.import_module(CODECS[writer.codec]).parse
            jobs[writer.codec] = parse, [writer.write_body(part) for part in parts]
            jobs[f"{writer.codec}_stream"] = parse, [writer.write_stream(part, 1) for part in parts]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, (parse, replies) in jobs.items():
            gc.collect()
            start = time.process_time()
            for reply in replies:
                parse(reply, top_logprobs=K)
            if number:  # the first round warms up
                times[name].append((time.process_time() - start) * 1e6 / (N * TOKENS))
    return times


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    bars: dict[str, dict[str, Any]] = {}
    table: dict[str, dict[str, float]] = {}
    for variant in ("distinct", "rounded"):
        times = race(draw_case(rounded=variant == "rounded"), options.rounds)
        table[variant] = {name: round(statistics.median(values), 2) for name, values in times.items()}
        for name, values in times.items():
            base = "openai_chat_stream" if name.endswith("_stream") else "openai_chat"
            if name != base:
                ratios = [one / two for one, two in zip(values, times[base], strict=True)]
                bars[f"{name}_over_chat_{variant}"] = {
                    "value": round(statistics.median(ratios), 2),
                    "target": 1.5,
                    "unit": "x",
                    "interval": [round(min(ratios), 2), round(max(ratios), 2)],
                }
    if options.json:
        print(json.dumps({"bars": bars, "microseconds_a_token": table}, indent=2))
        return
    for name, bar in bars.items():
        low, high = bar["interval"]
        verdict = "ok" if bar["value"] <= bar["target"] else "MISSED"
        print(f"{name:44} {bar['value']:>5.2f} x  bar {bar['target']} {verdict:6} ({low} to {high})")
    for variant, medians in table.items():
        print(f"\n{variant}")
        print("\n".join(f"{value:9.2f} us a token  {name}" for name, value in medians.items()))


if __name__ == "__main__":
    main()
