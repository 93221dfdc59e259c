"""Graded questions whose truth is known: a wrong answer hesitates on some of its tokens, a hard question throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.dataset.question_samples import Group
from swift_client.types import Completion

WORDS = ("so", " we", " add", " the", " two", " sums", ".")


def graded_groups(
    questions: int, *, n: int = 6, k: int = 8, signal: float = 2.0, seed: int = 0, right: float = 0.55
) -> list[Group]:
    """Make questions with n completions of 6 to 14 tokens and lists of k; ``signal`` 0 makes numbers say nothing."""
    rng = np.random.default_rng(seed)
    groups = []
    for number in range(questions):
        chance = np.clip(rng.normal(right, 0.2), 0.05, 0.95)
        labels = (rng.random(n) < chance).astype(np.float64)
        hard = rng.normal(0, 0.5)
        completions = [
            completion(rng, index, correct=bool(label), k=k, hesitation=hard + signal * (1 - label))
            for index, label in enumerate(labels)
        ]
        groups.append(Group(question_id=f"q{seed}-{number}", completions=tuple(completions), labels=labels))
    return groups


def completion(rng: np.random.Generator, index: int, *, correct: bool, k: int, hesitation: float) -> Completion:
    length = int(rng.integers(6, 15))
    logits = rng.normal(size=(length, k + 6))
    logits[:, 0] += 4.0
    shaken = rng.random(length) < 0.3
    logits[shaken, 0] -= max(0.0, 1.0 + hesitation)
    table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen_ranks = np.array([rng.choice(k + 6, p=np.exp(row) / np.exp(row).sum()) for row in table])
    top = -np.sort(-table, axis=1)[:, :k]
    answer = "4" if correct else str(rng.integers(5, 8))
    tokens = tuple(WORDS[i] for i in rng.integers(len(WORDS), size=length))
    return Completion(
        text=f"{''.join(tokens)} The answer is {answer}",
        index=index,
        tokens=tokens,
        logprobs=table[np.arange(length), chosen_ranks].astype(np.float32),
        top_logprobs=top.astype(np.float32),
        censored=np.zeros(length, np.bool_),
    )


def all_completions(groups: Sequence[Group]) -> list[Completion]:
    return [completion for group in groups for completion in group.completions]
