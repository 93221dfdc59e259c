"""Questions as padded batches of token ids, drawn from a seed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from swift_client.pocket.questions import Question, worked_examples
from tools.pocket.stages import Stage
from tools.pocket.tokenizer import prompt_text, solution_text, train_tokenizer

TOKENIZER_QUESTIONS = 12_000


@dataclass(frozen=True)
class Batch:
    """``ids`` (B, T) int64, padded with 0 on the right; ``targets`` (B, T) next ids, -1 where nothing is learnt."""

    ids: Tensor
    targets: Tensor


def learn_tokenizer(seed: int, vocabulary: int) -> Tokenizer:
    """Learn the tokenizer from training questions and their solutions."""
    texts = (text for q, solution in worked_examples(TOKENIZER_QUESTIONS, seed=seed) for text in (q.prompt, solution))
    return train_tokenizer(texts, vocabulary)


def encoded(
    tokenizer: Tokenizer, source: Iterable[tuple[Question, str]], skipped: Container[str] = ()
) -> Iterator[tuple[list[int], int]]:
    """Yield (token ids of the whole text, how many of them are not learnt) for every question and its solution.

    Nothing of the prompt is learnt, except for families in ``skipped``: all of it after its first token.
    """
    source = iter(source)
    while chunk := list(islice(source, 1_000)):
        prompts = tokenizer.encode_batch_fast([prompt_text(question.prompt) for question, _ in chunk])
        solutions = tokenizer.encode_batch_fast([solution_text(solution) for _, solution in chunk])
        for (question, _), prompt, solution in zip(chunk, prompts, solutions, strict=True):
            yield prompt.ids + solution.ids, 1 if question.family in skipped else len(prompt.ids)


def curriculum(stage: Stage) -> Iterator[tuple[Question, str]]:
    """Yield training questions for ever: ``stage.first`` levels first, one more after every ``stage.ramp`` questions.

    Short questions teach copying and single steps within minutes; long ones alone leave the loss on a plateau.
    """
    for top in count(stage.first):
        levels = {family: range(1, min(top, highest) + 1) for family, highest in stage.levels.items()}
        yield from worked_examples(stage.ramp, seed=1_000 * stage.seed + top, families=stage.turns, levels=levels)


def batches(rows: Iterator[tuple[list[int], int]], tokens: int, *, seed: int, window: int = 2_048) -> Iterator[Batch]:
    """Group rows of like length into batches of at most ``tokens`` padded tokens; every row is its own context.

    Rows are sorted inside windows, and a window's batches are shuffled, so that padding and bias both stay small.
    """
    rng = Random(seed)
    while chunk := sorted(islice(rows, window), key=lambda row: len(row[0])):
        groups: list[list[tuple[list[int], int]]] = [[]]
        for row in chunk:
            if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from map(_batch, groups)


def _batch(rows: list[tuple[list[int], int]]) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    batch = torch.zeros(len(rows), length, dtype=torch.int64)
    targets = torch.full((len(rows), length - 1), -1, dtype=torch.int64)
    for i, (ids, prompt) in enumerate(rows):
        batch[i, : len(ids)] = torch.tensor(ids)
        targets[i, prompt - 1 : len(ids) - 1] = batch[i, prompt : len(ids)]
    return Batch(batch[:, :-1].contiguous(), targets)
