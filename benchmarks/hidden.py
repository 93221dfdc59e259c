"""The cost of hidden states: scoring while generating, against generating alone and against a second forward pass.

    python benchmarks/hidden.py overhead [--json] [--rounds 5]

The model is a Llama of 105 M parameters with random weights, built here and not downloaded; 8 completions of 96 tokens
after a prompt of 64, float32 on the processor. In every round generation with logprobs (top 20) alone and the same with
the head's projection of all 13 hidden states take their steps in turn; what a round added is the median difference of a
step, times the steps, and the one step more that reads the last token. Then the published way: a second forward pass
over prompt and answers with the head on its states. Times are the processor's, which neighbours on a shared machine
change least. A bar is the median of the rounds, its interval the lowest and highest. The packaged model's numbers stand
beside, without bars. ``completion_mb`` is what a projected completion of 1,000 tokens holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.adapters.local.decode import DecodeRow, SamplingParams, decode
from swift_client.adapters.local.hidden_states import ProjectionReader, StateReader
from swift_client.adapters.local.request import Projection
from swift_client.pocket.server import PACKAGED_MODEL
from tools.pocket.export import write_transformers
from tools.pocket.unpack import read_gguf

N, PROMPT, TOKENS, K = 8, 64, 96, 20


def random_llama() -> Any:
    """Build the model, the same in every run."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=2048,
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def random_head(states: int, width: int) -> Projection:
    """Draw a head on all hidden states."""
    draws = np.random.default_rng(0)
    weight = draws.normal(0, 0.02, (2, states * width)).astype(np.float32)
    return Projection(weight=weight, bias=np.zeros(2, np.float32), layers=tuple(range(states)), width=width)


def packaged() -> Any:
    """Return the packaged model as transformers loads it."""
    with tempfile.TemporaryDirectory() as folder:
        write_transformers(*read_gguf(PACKAGED_MODEL), Path(folder))
        return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def drawn_rows(model: Any) -> list[DecodeRow]:
    """Return ``N`` unstarted completions of one prompt that will all run to their last token."""
    prompt = tuple(np.random.default_rng(1).integers(0, model.config.vocab_size, PROMPT).tolist())
    return [DecodeRow(prompt=prompt, seed=seed, max_tokens=TOKENS, check_end=lambda _: None) for seed in range(N)]


class Lockstep:
    """Several generations that take steps in turn: a slow second of the machine affects all of them equally."""

    def __init__(self, count: int) -> None:
        self.seconds: list[list[float]] = [[] for _ in range(count)]
        self._turn, self._running = 0, set(range(count))
        self._changed = threading.Condition()

    def run(self, works: Sequence[Callable[[Callable[[], bool]], None]]) -> None:
        """Run each of ``works`` in a thread; each calls its argument before every step."""
        with ThreadPoolExecutor(len(works)) as threads:
            for result in [threads.submit(self._one, number, work) for number, work in enumerate(works)]:
                result.result()

    def _one(self, number: int, work: Callable[[Callable[[], bool]], None]) -> None:
        step_starts: list[float] = []

        def between() -> bool:
            self._end_step(number, step_starts)
            with self._changed:
                self._changed.wait_for(lambda: self._turn == number)
            step_starts.append(time.process_time())
            return False

        work(between)
        self._running.discard(number)
        self._end_step(number, step_starts)

    def _end_step(self, number: int, step_starts: list[float]) -> None:
        if step_starts:
            self.seconds[number].append(time.process_time() - step_starts[-1])
        with self._changed:
            if step_starts:
                later = sorted(self._running, key=lambda other: (other <= number, other))
                self._turn = later[0] if later else -1
            self._changed.notify_all()


@torch.inference_mode()
def second_pass(model: Any, rows: list[DecodeRow], head: Projection) -> torch.Tensor:
    """Read all texts again, keep all states and apply the head to them, as the published code does."""
    states = model(
        torch.tensor([[*row.prompt, *row.tokens] for row in rows]), output_hidden_states=True, use_cache=False
    ).hidden_states
    features = torch.cat([state[:, PROMPT:] for state in states], -1)
    return features @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)


def overhead(rounds: int) -> dict[str, Any]:
    """Measure the ways on both models; return the document. The bars are the large one's."""
    large, pocket = measure(random_llama(), rounds), measure(packaged(), rounds)
    return {
        "n": N,
        "tokens": TOKENS,
        "threads": torch.get_num_threads(),
        "bars": {
            "overhead": bar(large["overhead"], 0.05, "share of generation"),
            "second_pass_ratio": bar(large["second_pass_ratio"], 5.0, "second pass / added"),
            "completion_mb": bar([megabytes()], 1.0, "MB"),
        },
        "random_llama": large,
        "pocket": pocket,
    }


def measure(model: Any, rounds: int) -> dict[str, Any]:
    """Measure the three ways on one model, each round by itself."""
    states, width = model.config.num_hidden_layers + 1, model.config.hidden_size
    head = random_head(states, width)
    reader = ProjectionReader(head, n_states=states, hidden_size=width, device=model.device)
    shares, ratios, seconds, difference = [], [], [], 0.0
    for _ in range(rounds):
        plain, scored, race = drawn_rows(model), drawn_rows(model), Lockstep(2)
        race.run([partial(generate, model, plain, []), partial(generate, model, scored, [reader])])
        base_seconds, together = race.seconds
        # The step that both take, and the one in which the last token is read, which only the head needs.
        added = statistics.median(map(float.__sub__, together, base_seconds)) * len(base_seconds)
        added += statistics.median(together) * (len(together) - len(base_seconds))
        generation = statistics.median(base_seconds) * len(base_seconds)
        start = time.process_time()
        recomputed = second_pass(model, scored, head)
        second = time.process_time() - start
        captured_states = torch.stack([torch.stack(row.states[0][1:]) for row in scored])
        difference = max(difference, float((captured_states - recomputed).abs().max() / recomputed.abs().max()))
        shares.append(added / generation)
        ratios.append(second / max(added, generation / 1000))  # what was added may be below the clock's noise
        seconds.append({"generation": generation, "added": added, "second_pass": second})
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "states": states,
        "width": width,
        "overhead": shares,
        "second_pass_ratio": ratios,
        "seconds": seconds,
        "largest_relative_difference": difference,
    }


def generate(model: Any, rows: list[DecodeRow], readers: list[StateReader], between: Callable[[], bool]) -> None:
    """Fill the rows; ``between`` is called before every step."""
    decode(model, rows, sampling=SamplingParams(), k=K, readers=readers, is_cancelled=between)


def megabytes() -> float:
    """Return the arrays' size of a projected completion of 1,000 tokens with 20 alternatives, ids included."""
    tokens = 1000
    return tokens * (4 + 4 * K + 4 * K + 1 + 2 * 4) / 1e6


def bar(values: list[float], target: float, unit: str) -> dict[str, Any]:
    """Return a bar: median, lowest and highest."""
    return {
        "value": statistics.median(values),
        "target": target,
        "unit": unit,
        "interval": [min(values), max(values)],
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["overhead"], default="overhead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    result = overhead(options.rounds)
    if options.json:
        json.dump(result, sys.stdout)
        return
    for name, bar in result["bars"].items():
        low, high = bar["interval"]
        print(f"{name:18} {bar['value']:8.3f} ({low:.3f} to {high:.3f}) {bar['unit']}; target {bar['target']:g}")
    for name in ("overhead", "second_pass_ratio"):
        print(f"packaged model: {name} {statistics.median(result['pocket'][name]):.3f}")


if __name__ == "__main__":
    main()
