"""Samples in parts of bounded size, each of which becomes a row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from swift_client.store import Sample, StoredQuestion
from swift_client.types import Completion

ROW_GROUP_SIZE = 1024  # samples after which a row group ends with its question
ROW_GROUP_TOKENS = 250_000  # tokens after which it ends; 30 MB with 20 alternatives and their ids
_NUMBERS_PER_TOKEN = 20  # of a hidden state, that take the memory of a token

Rows = list[tuple[StoredQuestion, Sample]]


def cut_rows(rows: Iterable[tuple[StoredQuestion, Sample]]) -> Iterator[Rows]:
    """Yield the rows of one row group after the other; a question is never divided.

    Args:
        rows: samples with their questions, those of one question one after the other.
    """
    part: Rows = []
    n_tokens = 0
    for _, own_rows in groupby(rows, key=lambda row: row[0].id):
        start = len(part)
        part += own_rows
        n_tokens += sum(_count_tokens(sample.completion) for _, sample in part[start:])
        if len(part) >= ROW_GROUP_SIZE or n_tokens >= ROW_GROUP_TOKENS:
            yield part
            part, n_tokens = [], 0
    if part:
        yield part


def _count_tokens(completion: Completion | None) -> int:
    """Return the number of tokens, with those of the thinking, and as many as take the memory of hidden states."""
    if completion is None:
        return 0
    states = 0 if completion.hidden_states is None else completion.hidden_states.size // _NUMBERS_PER_TOKEN
    return len(completion.tokens) + states + _count_tokens(completion.thinking)
