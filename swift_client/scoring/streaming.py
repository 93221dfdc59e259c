"""The gated score of a completion while it arrives: a late token costs what an early one costs.

A token's features read that token and at most LOOKBACK before it, and the score is a quotient of two sums. So a window
of tokens and two numbers are all that is kept, however long the answer grows.
"""

from __future__ import annotations

import math

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.features import TokenTable, token_columns
from swift_client.features.token import LOOKBACK
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.types import Completion


class StreamingScore:
    """R_t = Σ_{i≤t} g_i r_i / max(Σ_{i≤t} g_i, 1e-8) of one completion (arXiv 2505.12225), without response terms.

    At the last token it is what the head gives the whole completion before its response terms are added, which need
    the end: a standing to compare completions by while they arrive, and not their score.

    Args:
        head: a head on logprobs.
        k: ranks of alternatives that are read; default: the head's ``k_max``. Lists that are read to another depth give
            other numbers.

    Raises:
        ConfigurationError: the head counts agreement or the like, which no single completion has.
    """

    def __init__(self, head: HeadArtifact, *, k: int | None = None) -> None:
        if not isinstance(head, HeadArtifact):
            raise ConfigurationError(
                f"A running score needs a head on logprobs, not {type(head).__name__}.", hint="Train one, or leave it."
            )
        self._head = head
        self._k = head.k_max if k is None else k
        self._window: Completion | None = None
        self._gates = self._rewards = 0.0
        self.token_count = 0
        """How many tokens have been read."""

    @property
    def score(self) -> float:
        """R over the tokens so far; NaN before the first."""
        return self._rewards / max(self._gates, GATE_SUM_EPS) if self.token_count else math.nan

    def add(self, chunk: Completion) -> float:
        """Read the next tokens, of which ``piece`` holds these alone; return the score so far.

        Raises:
            ValueError: a logprob is NaN.
        """
        new = len(chunk.tokens)
        if not new:
            return self.score
        window = chunk if self._window is None else _concatenate(self._window, chunk)
        known = len(window.tokens) - new
        table = TokenTable([window], width=self._head.width, k=self._k, start_position=self.token_count - known)
        values = self._head.standardizer(token_columns(table, self._head.features).values[known:])
        gates = self._head.head.token_gates(values)
        self._gates += float(gates.sum())
        self._rewards += float((gates * self._head.head.token_rewards(values)).sum())
        self.token_count += new
        self._window = _last_tokens(window, LOOKBACK)
        return self.score


def _concatenate(first: Completion, second: Completion) -> Completion:
    width = max(first.top_logprobs.shape[1], second.top_logprobs.shape[1])
    ids = None
    if first.top_ids is not None and second.top_ids is not None:
        ids = np.concatenate(
            [np.pad(each.top_ids, _padding(width, each)) for each in (first, second) if each.top_ids is not None]
        )
    return Completion(
        text="",
        tokens=first.tokens + second.tokens,
        logprobs=np.concatenate([first.logprobs, second.logprobs]),
        top_logprobs=np.concatenate(
            [np.pad(each.top_logprobs, _padding(width, each), constant_values=-np.inf) for each in (first, second)]
        ),
        censored=np.concatenate([first.censored, second.censored]),
        top_ids=ids,
    )


def _padding(width: int, completion: Completion) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return what to pad so that the lists are ``width`` ranks wide."""
    return (0, 0), (0, width - completion.top_logprobs.shape[1])


def _last_tokens(completion: Completion, count: int) -> Completion:
    at = max(0, len(completion.tokens) - count)
    return Completion(
        text="",
        tokens=completion.tokens[at:],
        logprobs=completion.logprobs[at:],
        top_logprobs=completion.top_logprobs[at:],
        censored=completion.censored[at:],
        top_ids=None if completion.top_ids is None else completion.top_ids[at:],
    )
