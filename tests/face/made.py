"""Fixed completions, a custom provider and a head, made by formula without a random generator."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from swift_client import Completion
from swift_client.models import (
    Acceptance,
    GatedLinearHead,
    HeadArtifact,
    HiddenHead,
    PlattCalibration,
    ResponseWeights,
    Standardizer,
)

K = 20
QUESTIONS = ("What is 2 + 2?", "What is 3 + 3? Größer als 5?")
WORDS = ("Two", " and", " two", " is", " ", "4", ".", " The", " answer", " is", " ")


def completion(number: int, index: int = 0, *, answer: str | None = None, k: int = K) -> Completion:
    """Make a completion of 12 tokens with lists of k; a higher number is less certain."""
    tokens = (*WORDS, answer or ("5" if number % 3 == 2 else "4"))
    rows = np.empty((len(tokens), k))
    for position in range(len(tokens)):
        logits = [-(1.6 - 0.9 * math.sin(0.7 * number + position) ** 2) * rank for rank in range(k + 3)]
        rows[position] = np.array(logits[:k]) - math.log(math.fsum(map(math.exp, logits)))
    chosen_ranks = np.array([1 if (index * 7 + number) % 5 == 0 and k > 1 else 0 for index in range(len(tokens))])
    top = rows.astype(np.float32)
    ids = ((np.arange(k)[None, :] * 7919 + np.arange(len(tokens))[:, None] * 104729 + 17) % 2**32).astype(np.uint32)
    return Completion(
        text="".join(tokens),
        index=index,
        tokens=tokens,
        logprobs=top[np.arange(len(tokens)), chosen_ranks],
        top_logprobs=top,
        censored=np.arange(len(tokens)) % 9 == 8,
        top_ids=ids,
    )


def completions(count: int = 4, first: int = 0) -> list[Completion]:
    """Make several completions; every third has another answer."""
    return [completion(first + index, index) for index in range(count)]


class Fixed:
    """A custom provider that returns the fixed completions of a question and counts its calls."""

    name = "fixed"

    def __init__(self) -> None:
        self.calls = 0
        self._used: Counter[str] = Counter()

    def complete(self, messages: list[dict[str, Any]], n: int, **options: Any) -> list[Completion]:
        self.calls += 1
        prompt = messages[-1]["content"]
        first = 10 * QUESTIONS.index(prompt) + self._used[prompt]
        self._used[prompt] += n
        return completions(n, first=first)


def head(provider: str = "fixed", model: str = "m") -> HeadArtifact:
    """Make a head on logprobs with every part that its file can hold."""
    features, terms = ("logprob", "entropy", "rank_surprise"), ("log_length", "min_logprob")
    width = 2 + K
    return HeadArtifact(
        features=features,
        width=K,
        standardizer=Standardizer(mean=np.linspace(-0.5, 0.5, width), scale=np.linspace(0.5, 1.5, width)),
        head=GatedLinearHead(
            gate_weight=np.linspace(0.3, -0.3, width),
            gate_bias=0.25,
            reward_weight=np.linspace(0.4, -0.2, width),
            reward_bias=-0.125,
        ),
        response_terms=terms,
        response=ResponseWeights(mean=[2.5, -1.0], scale=[0.5, 0.75], weight=[0.1, 0.6]),
        calibration=PlattCalibration(a=1.5, b=0.2),
        provider=provider,
        model=model,
        k_min=5,
        k_max=K,
        training={"verdict": "better than majority", "answer": "number", "seed": 0},
        licence="CC0",
        acceptances=(
            Acceptance(
                threshold=1.25, risk=0.1, confidence=0.9, n=4, stopping="beta:threshold=0.9", select="vote",
                answer="number", questions=40, accepted=20, errors=1,
            ),
        ),
    )  # fmt: skip


def hidden_head() -> HiddenHead:
    """Make a head on hidden states with one on logprobs beside it."""
    return HiddenHead(
        layers=(1, 2),
        width=3,
        head=GatedLinearHead(
            gate_weight=np.linspace(-1, 1, 6), gate_bias=0.5, reward_weight=np.linspace(1, -1, 6), reward_bias=0.0
        ),
        moment="read",
        logprob_head=HeadArtifact(
            features=("logprob",),
            width=K,
            standardizer=Standardizer(mean=[-0.5], scale=[0.5]),
            head=GatedLinearHead(gate_weight=[0.5], gate_bias=0.0, reward_weight=[1.0], reward_bias=0.0),
            provider="huggingface",
            model="tiny",
            k_min=0,
            k_max=K,
        ),
        provider="huggingface",
        model="tiny",
        training={"verdict": "better than majority"},
    )


def states(number: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Make the hidden states of a completion, (12, 6)."""
    return (np.arange(72).reshape(12, 6) / 16 + number).astype(np.float16)
