"""Prove that the GGUF under llama.cpp and the torch model are one: ``python -m tools.pocket.parity``.

Four proofs on generated questions: equal token ids; equal greedy tokens; equal logprobs in float16 (bar 2e-2); equal
logprobs in float32 with the KV cache in float32 and flash attention off (bar 1e-3). The torch model is the one that was
trained, read back from the same file; that transformers' Llama agrees with it is a test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from swift_client.pocket.questions import questions, worked_examples
from swift_client.pocket.server import PACKAGED_MODEL, PocketServer
from tools.pocket.loopback import post
from tools.pocket.model import PocketModel
from tools.pocket.requantize import to_float32
from tools.pocket.tokenizer import prompt_text, solution_text
from tools.pocket.unpack import read_gguf

HALF_BAR, EXACT_BAR = 2e-2, 1e-3


@dataclass(frozen=True)
class Parity:
    """Counts of compared completions and tokens, how many differed, and the largest |Δ logprob| of any listed token."""

    questions: int
    tokens: int
    logprobs: int
    different_tokens: int
    largest_difference: float


@torch.no_grad()
def compare_logprobs(
    gguf: Path, model: PocketModel, prompts: Sequence[str], *, exact: bool, limit: int = 300
) -> Parity:
    """Answer ``prompts`` greedily on the server; compare every listed logprob with the torch model's."""
    tokens = n_alternatives = different = 0
    largest = 0.0
    with PocketServer(gguf, slots=4, exact=exact) as server:
        for prompt in prompts:
            body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "logprobs": True}
            reply = post(server.base_url, "/chat/completions", body | {"top_logprobs": 20, "max_tokens": limit})
            entries = reply["choices"][0]["logprobs"]["content"]
            token_reply = post(
                server.base_url.removesuffix("/v1"),
                "/tokenize",
                {"content": prompt_text(prompt), "parse_special": True},
            )
            token_ids = [entry["id"] for entry in entries]
            ids = torch.tensor([token_reply["tokens"] + token_ids])
            logprobs = model(ids)[0, len(token_reply["tokens"]) - 1 : -1].float().log_softmax(-1)
            different += int((logprobs.argmax(-1) != torch.tensor(token_ids)).sum())
            pairs = [
                (row, alternative["id"], alternative["logprob"])
                for row, entry in enumerate(entries)
                for alternative in [entry, *entry["top_logprobs"]]
            ]
            rows, columns, values = (np.array(column) for column in zip(*pairs, strict=True))
            largest = max(largest, float(np.abs(logprobs.numpy()[rows, columns] - values).max()))
            tokens += len(token_ids)
            n_alternatives += len(pairs)
    return Parity(len(prompts), tokens, n_alternatives, different, largest)


def differing_texts(gguf: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Return those of ``texts`` that the server splits into other ids than ``tokenizer``."""
    with PocketServer(gguf, slots=1) as server:
        address = server.base_url.removesuffix("/v1")
        server_tokens = [
            post(address, "/tokenize", {"content": text, "parse_special": True})["tokens"] for text in texts
        ]
    return [text for text, ids in zip(texts, server_tokens, strict=True) if ids != tokenizer.encode(text).ids]


def compare_tokens(gguf: Path, tokenizer: Tokenizer, n: int) -> tuple[int, int]:
    """Split ``n`` generated questions with their solutions; return (texts, texts with other ids)."""
    examples = worked_examples(n, seed=11, split="test")
    texts = [prompt_text(question.prompt) + solution_text(solution) for question, solution in examples]
    return n, len(differing_texts(gguf, tokenizer, texts))


def prove(gguf: Path, *, texts: int, n_questions: int) -> dict[str, Any]:
    """Run all proofs on ``gguf`` and return the findings, with ``passed``."""
    prompts = [question.prompt for question in questions(n_questions, seed=12)]
    model, tokenizer = read_gguf(gguf)
    compared, other = compare_tokens(gguf, tokenizer, texts)
    half = compare_logprobs(gguf, model, prompts, exact=True)
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / "float32.gguf"
        to_float32(gguf, wide)
        exact = compare_logprobs(wide, model, prompts, exact=True)
    passed = not other and half.largest_difference <= HALF_BAR and exact.largest_difference <= EXACT_BAR
    return {
        "tokenizer": {"texts": compared, "different": other},
        "half": vars(half) | {"bar": HALF_BAR},
        "float32": vars(exact) | {"bar": EXACT_BAR},
        "passed": passed and not exact.different_tokens,
    }


def main() -> None:
    """Read the command line and prove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL)
    parser.add_argument("--texts", type=int, default=3_000)
    parser.add_argument("--questions", type=int, default=60)
    options = parser.parse_args()
    result = prove(options.model, texts=options.texts, n_questions=options.questions)
    print(json.dumps(result, indent=1))
    raise SystemExit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
