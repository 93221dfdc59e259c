"""Differences between llama.cpp, float32 and the sampler's bfloat16, on tokens that llama.cpp sampled.

python -m tools.smollm2.parity FOLDER
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swift_client.pocket.smollm2 import PocketServer
from tools.smollm2.draw import TEMPERATURE, Sampler
from tools.smollm2.forward import Branches
from tools.smollm2.questions import Question, generate


def ask(base_url: str, question: Question) -> list[list[dict[str, Any]]]:
    """Return the tokens of two completions of llama.cpp, with ids and logprobs."""
    body = {"messages": question.messages, "temperature": TEMPERATURE, "n": 2, "max_tokens": 11, "seed": 1}
    request = urllib.request.Request(  # noqa: S310 - the server that this script started
        f"{base_url}/chat/completions",
        json.dumps(body | {"logprobs": True, "top_logprobs": 1}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as reply:  # noqa: S310
        return [choice["logprobs"]["content"] for choice in json.load(reply)["choices"]]


@torch.inference_mode()
def score(sampler: Sampler, prompt: list[int], tokens: list[int]) -> list[float]:
    """Return the logprobs that the sampler's model gives to ``tokens`` after ``prompt``."""
    branches = Branches(sampler.model, prompt[:-1], 1, len(tokens))
    logprobs = []
    for before, token in zip([prompt[-1], *tokens], tokens, strict=False):
        logits = branches.append(torch.tensor([[before]]), torch.ones(1, 1, dtype=torch.bool))
        logprobs.append(float(logits.log_softmax(1)[0, token]))
    return logprobs


def main() -> None:
    """Print the differences in logprob."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="written by tools.smollm2.unpack")
    parser.add_argument("--questions", type=int, default=24)
    arguments = parser.parse_args()
    questions = generate(0)[: arguments.questions]
    with PocketServer() as server:
        completions = [(question, tokens) for question in questions for tokens in ask(server.base_url, question)]
    logprobs = {"llama.cpp": np.array([entry["logprob"] for _, tokens in completions for entry in tokens])}
    for name, narrow in (("float32", False), ("bfloat16", True)):
        sampler = Sampler(arguments.folder, n=1, max_tokens=1, seed=0, narrow=narrow)
        logprobs[name] = np.array(
            [
                logprob
                for question, tokens in completions
                for logprob in score(sampler, sampler.encode(question.messages), [entry["id"] for entry in tokens])
            ]
        )
    print(f"{len(logprobs['float32'])} tokens of {len(questions)} questions; difference in logprob:")
    for first, second in combinations(logprobs, 2):
        difference = np.abs(logprobs[first] - logprobs[second])
        print(
            f"{first:10} {second:10} mean {difference.mean():.3f}   median {np.median(difference):.3f}   "
            f"95 % {np.quantile(difference, 0.95):.2f}   most {difference.max():.2f}"
        )


if __name__ == "__main__":
    main()
