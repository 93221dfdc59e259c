"""Completions with numbers like a real model's: mostly sure, the chosen token mostly the first of its list."""

from __future__ import annotations

import numpy as np

from swift_client.types import Completion


def completion(seed: int, *, tokens: int = 400, k: int = 20, ids: bool = True, index: int = 0) -> Completion:
    """Generate a completion of ``tokens`` tokens with ``k`` alternatives each."""
    rng = np.random.default_rng(seed)
    surety = rng.gamma(1.2, 3.0, (tokens, 1))
    logits = np.sort(rng.gumbel(size=(tokens, k)) * surety, axis=1)[:, ::-1]
    probabilities = rng.uniform(0.98, 1.0, (tokens, 1)) * np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    top = np.maximum(np.log(probabilities), -60).astype(np.float32)
    rank = np.where(rng.random(tokens) < 0.85, 0, rng.integers(0, k, tokens))
    words = np.minimum(rng.zipf(1.2, (tokens, k)), 4000)
    names = tuple(f" word{word}" for word in words[:, 0])
    identities = (words * 2654435761 % 2**32).astype(np.uint32)
    return Completion(
        text=f"{''.join(names)} The answer is {seed % 3}",
        index=index,
        tokens=names,
        logprobs=top[np.arange(tokens), rank],
        top_logprobs=top,
        censored=rng.random(tokens) < 0.01,
        top_ids=identities if ids else None,
    )
