"""The table of all tokens of N completions: flat arrays, each shared quantity computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from itertools import chain, pairwise

import numpy as np

from swift_client.features.segments import (
    F64,
    I64,
    full_window_means,
    rolling_reduce,
    segment_offsets,
    segment_positions,
    window_size,
)
from swift_client.types import F32, Bool, Completion

# Logprobs at or below this are sentinels: such an alternative counts as not listed.
SENTINEL_LOGPROB = -100.0


HAS_DIGIT, IS_SYMBOL, STARTS_WORD, CHARACTERS = 1, 2, 4, 8
"""Bits of ``describe_text()``; the number of characters is a multiple of the last one."""


@lru_cache(maxsize=2**16)  # a model has about 100,000 tokens, and most texts use few of them
def describe_text(text: str) -> int:
    """Return facts about a token: has a digit, no letters and digits, begins with a space; and its characters."""
    has_digit, is_symbol = any(map(str.isdigit, text)), not any(map(str.isalnum, text))
    starts_word, characters = text[:1].isspace(), len(text.strip())
    return HAS_DIGIT * has_digit + IS_SYMBOL * is_symbol + STARTS_WORD * starts_word + CHARACTERS * characters


def listed_ranks(completion: Completion) -> int:
    """Return the largest number of alternatives listed at one token; columns of -inf do not count."""
    return int(np.count_nonzero((completion.top_logprobs > SENTINEL_LOGPROB).any(axis=0)))


class TokenTable:
    """The S = ΣT tokens of N completions. Arrays over ranks have shape (k, S) and fall along axis 0.

    Sums run rank by rank, so that an unlisted rank adds an exact 0 and changes no bit. Arrays as large as the lists
    stay float32; sums are float64.

    Args:
        completions: N completions.
        width: number of rank columns that a head was built for.
        k: at most so many ranks are read; None: all ``width``.
        groups: (N,) equal numbers for equal answers of one question, None for no answer; default: answers are not
            compared.
        start_position: position of the first token, if the completions are later parts of longer ones.
    """

    def __init__(
        self,
        completions: Sequence[Completion],
        *,
        width: int,
        k: int | None = None,
        groups: Sequence[int | None] | None = None,
        start_position: int = 0,
    ) -> None:
        self.completions = completions
        self._start_position = start_position
        self.groups = groups
        self.width = width
        self.offsets: I64 = segment_offsets(len(completion.tokens) for completion in completions)
        self._max_ranks = width if k is None else min(k, width)
        # Of each feature, the last window and its values, by the way to combine them.
        self._rolling_values: dict[tuple[np.ufunc, Callable[[TokenTable], F64]], tuple[int, F64]] = {}

    @cached_property
    def thinking(self) -> TokenTable:
        """The table of the thinking before each completion; without tokens if none were listed."""
        empty = Completion(text="")
        thinking = [completion.thinking or empty for completion in self.completions]
        return TokenTable(thinking, width=self.width, k=self._max_ranks)

    def split(self, values: F64) -> list[F64]:
        """Split (S,) into one array per completion."""
        return [values[start:end] for start, end in pairwise(self.offsets)]

    @cached_property
    def lengths(self) -> I64:
        """(N,) tokens of each completion."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def position(self) -> I64:
        """(S,) 0-based position of each token in its completion."""
        return self._start_position + segment_positions(self.offsets)

    @cached_property
    def logprobs(self) -> F64:
        """(S,) logprob of the chosen token, -100..0."""
        joined = np.concatenate([np.zeros(0), *(completion.logprobs for completion in self.completions)])
        if np.isnan(joined).any():
            raise ValueError("A completion holds a logprob that is NaN; mark unknown logprobs as censored instead.")
        bounded: F64 = np.clip(joined, SENTINEL_LOGPROB, 0.0)
        return bounded

    @cached_property
    def sorted_logprobs(self) -> F64:
        """(S,) the chosen logprobs sorted within each completion."""
        return np.concatenate([np.zeros(0), *(np.sort(segment) for segment in self.split(self.logprobs))])

    def map_texts(self, function: Callable[[str], int]) -> I64:
        """Return ``function`` of each token's text, (S,)."""
        texts = chain.from_iterable(completion.tokens for completion in self.completions)
        return np.fromiter(map(function, texts), np.int64, count=int(self.offsets[-1]))

    @cached_property
    def text_facts(self) -> I64:
        """(S,) facts about each token's text, as ``describe_text()`` returns them."""
        return self.map_texts(describe_text)

    @cached_property
    def has_digit(self) -> F64:
        """(S,) 1 for a token with a digit, else 0."""
        return (self.text_facts & HAS_DIGIT).astype(np.float64)

    @cached_property
    def censored(self) -> Bool:
        """(S,) whether the provider hid the chosen token's logprob."""
        return np.concatenate([np.zeros(0, np.bool_), *(completion.censored for completion in self.completions)])

    @cached_property
    def _top_and_mask(self) -> tuple[F32, Bool]:
        depth = min(self._max_ranks, max((c.top_logprobs.shape[1] for c in self.completions), default=0))
        top = np.full((depth, int(self.offsets[-1])), -np.inf, np.float32)
        for completion, (start, end) in zip(self.completions, pairwise(self.offsets), strict=True):
            ranks = completion.top_logprobs[:, :depth].T
            top[: len(ranks), start:end] = ranks
        listed = top > SENTINEL_LOGPROB
        if not listed.all():
            top[~listed] = 0.0
        return np.minimum(top, 0.0, out=top), listed

    @property
    def top_logprobs(self) -> F32:
        """(k, S) logprobs of the listed alternatives, -100..0; 0 where ``is_listed`` is False."""
        return self._top_and_mask[0]

    @property
    def is_listed(self) -> Bool:
        """(k, S) whether an alternative is listed."""
        return self._top_and_mask[1]

    @cached_property
    def listed_count(self) -> I64:
        """(S,) number of listed alternatives."""
        count: I64 = self.is_listed.sum(axis=0, dtype=np.int64)
        return count

    @cached_property
    def min_listed(self) -> int:
        """The smallest number of alternatives that a token lists; 0 without tokens."""
        return int(self.listed_count.min(initial=len(self.is_listed))) if len(self.logprobs) else 0

    def rank_logprob(self, rank: int) -> F64:
        """Return the logprobs of one 0-based rank, (S,); 0 where it is not listed."""
        is_read = rank < len(self.top_logprobs)
        return self.top_logprobs[rank].astype(np.float64) if is_read else np.zeros(len(self.logprobs))

    def sum_ranks(self, values: F32) -> F64:
        """Sum (k, S) over the ranks, in rank order, (S,)."""
        total = np.zeros(len(self.logprobs))
        for row in values.astype(np.float64):  # three times as fast as to add float32 to float64
            total += row
        return total

    def rolling(self, combine: np.ufunc, feature: Callable[[TokenTable], F64], window: int) -> F64:
        """Combine ``feature`` of each token and up to ``window`` - 1 before it in its completion, (S,).

        ``window`` must be a power of two. A window starts from the next smaller one that was computed before.
        """
        size, values = self._rolling_values.get((combine, feature), (1, None))
        if values is None or size > window:
            size, values = 1, feature(self)
        result = rolling_reduce(combine, values, self.position, window, size=size)
        self._rolling_values[combine, feature] = (window, result)
        return result

    @cached_property
    def probability(self) -> F32:
        """(k, S) probabilities of the listed alternatives; 0 where none is listed."""
        probability = np.exp(self.top_logprobs)
        return np.multiply(probability, self.is_listed, out=probability)

    @cached_property
    def surprise(self) -> F32:
        """(k, S) -p log p of each rank in nats; its limit 0 where none is listed."""
        return -self.probability * self.top_logprobs

    @cached_property
    def listed_mass(self) -> F64:
        """(S,) total probability of the listed alternatives; 1 if none is listed, so that it can divide."""
        return np.where(self.listed_count > 0, self.sum_ranks(self.probability), 1.0)

    @cached_property
    def tail_mass(self) -> F64:
        """(S,) probability mass outside the list, Q = max(0, 1 - Σp)."""
        return np.maximum(0.0, 1.0 - self.listed_mass)

    @cached_property
    def partial_entropy(self) -> F64:
        """(S,) H_K = -Σ p log p over the listed ranks."""
        return self.sum_ranks(self.surprise)

    @cached_property
    def entropy(self) -> F64:
        """(S,) H_K - Q log Q."""
        return self.partial_entropy - self.tail_mass * np.log(np.where(self.tail_mass > 0, self.tail_mass, 1.0))

    @cached_property
    def confidence(self) -> F64:
        """(S,) minus the mean listed logprob; 0 if none is listed."""
        return -self.sum_ranks(self.top_logprobs) / np.maximum(self.listed_count, 1)

    @cached_property
    def rising_confidences(self) -> list[F64]:
        """Mean ``confidence`` of all windows of each completion, in rising order; none without tokens."""
        return [np.sort(full_window_means(part, window_size(len(part)))) for part in self.split(self.confidence)]

    @cached_property
    def decision_entropy(self) -> F64:
        """(S,) entropy of the choice between the chosen token and its best alternative; 0 without two of them."""
        best_was_chosen = (self.logprobs == self.rank_logprob(0)) & ~self.censored
        alternative = np.where(best_was_chosen, self.rank_logprob(1), self.rank_logprob(0))
        # With log odds d ≤ 0 between the two, H = log(1 + e^d) - d · sigmoid(d), whichever of them was chosen.
        log_odds = -np.abs(alternative - self.logprobs)
        odds = np.exp(log_odds)
        return np.where(self.listed_count >= 2, np.log1p(odds) - log_odds * odds / (1.0 + odds), 0.0)
