"""The gated score of a completion while it streams in, at constant cost per token.

A token's features read that token and at most LOOKBACK tokens before it, and the score is a quotient of two sums.
Only a window of tokens and two numbers are therefore kept, however long the answer grows.
"""

from __future__ import annotations

import math

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.features import TokenTable, token_columns
from swift_client.features.token import LOOKBACK
from swift_client.logprobs.clean import resize_columns
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.types import Completion


class StreamingScore:
    """The running score R_t = Σ_{i≤t} g_i r_i / max(Σ_{i≤t} g_i, 1e-8) of one completion (arXiv 2505.12225).

    It compares completions while they stream. At the last token it equals the head's score of the whole completion
    without response terms, which need the end.

    Args:
        head: a head on logprobs.
        k: ranks of alternatives to read; default: the head's ``k_max``. Another k gives other scores.

    Raises:
        ConfigurationError: ``head`` is not a head on logprobs.
    """

    def __init__(self, head: HeadArtifact, *, k: int | None = None) -> None:
        if not isinstance(head, HeadArtifact):
            raise ConfigurationError(
                f"A running score needs a head on logprobs, not {type(head).__name__}.", hint="Train one, or omit it."
            )
        self._head = head
        self._k = head.k_max if k is None else k
        self._window: Completion | None = None
        self._gates = self._rewards = 0.0
        self.token_count = 0  # number of tokens read

    @property
    def score(self) -> float:
        """R over the tokens so far; NaN before the first."""
        return self._rewards / max(self._gates, GATE_SUM_EPS) if self.token_count else math.nan

    def add(self, chunk: Completion) -> float:
        """Add the next tokens and return the score so far.

        Args:
            chunk: the new tokens only.

        Raises:
            ValueError: a logprob is NaN.
        """
        n_new = len(chunk.tokens)
        if not n_new:
            return self.score
        # The features of the new tokens also read the window of tokens before them.
        window = chunk if self._window is None else _concatenate(self._window, chunk)
        n_previous = len(window.tokens) - n_new
        table = TokenTable([window], width=self._head.width, k=self._k, start_position=self.token_count - n_previous)
        values = self._head.standardizer(token_columns(table, self._head.features).values[n_previous:])
        gates = self._head.head.token_gates(values)
        self._gates += float(gates.sum())
        self._rewards += float((gates * self._head.head.token_rewards(values)).sum())
        self.token_count += n_new
        self._window = _last_tokens(window, LOOKBACK)
        return self.score


def _concatenate(first: Completion, second: Completion) -> Completion:
    width = max(first.top_logprobs.shape[1], second.top_logprobs.shape[1])
    parts = (first, second)
    return Completion(
        text="",
        tokens=first.tokens + second.tokens,
        logprobs=np.concatenate([part.logprobs for part in parts]),
        top_logprobs=np.concatenate([resize_columns(part.top_logprobs, width, -np.inf) for part in parts]),
        censored=np.concatenate([part.censored for part in parts]),
        top_ids=None
        if first.top_ids is None or second.top_ids is None
        else np.concatenate([resize_columns(first.top_ids, width, 0), resize_columns(second.top_ids, width, 0)]),
    )


def _last_tokens(completion: Completion, count: int) -> Completion:
    start = max(0, len(completion.tokens) - count)
    return Completion(
        text="",
        tokens=completion.tokens[start:],
        logprobs=completion.logprobs[start:],
        top_logprobs=completion.top_logprobs[start:],
        censored=completion.censored[start:],
        top_ids=None if completion.top_ids is None else completion.top_ids[start:],
    )
