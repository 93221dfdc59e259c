"""Scores of N completions, and the common list length at which their scores compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from swift_client.answers import Answers
from swift_client.features import listed_ranks
from swift_client.features.segments import F64
from swift_client.structured.schema import ParsedAnswer
from swift_client.types import F32, Bool, Completion, Failure, Usage

# From the M different texts of a question to their similarities (M, M), 0..1: entry (i, j) is that of text i to text j.
UserSimilarity = Callable[[list[str]], ArrayLike]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Scores of N completions, in their order.

    Attributes:
        values: (N,) float32; higher is better, NaN for no signal.
        probabilities: (N,) float32, 0..1: calibrated probability of being correct, NaN as in ``values``; None
            without calibration.
        name: Name of the scorer or head.
        notes: One sentence per thing that the numbers do not show.
        out_of_distribution: Whether the completions are unlike the head's training data, so that its scores
            may be meaningless.
    """

    values: F32
    probabilities: F32 | None = None
    name: str
    notes: tuple[str, ...] = ()
    out_of_distribution: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredCompletions:
    """N completions of one question with their answers and scores: the input of a choice."""

    completions: tuple[Completion, ...]  # (N,) numbered 0..N-1, without invalid logprobs
    answers: Answers
    # (N,) their objects if there is a response schema; else empty.
    parsed_answers: tuple[ParsedAnswer | None, ...]
    scores: Scores
    # (N,) positive weights of votes, or of texts where no answer is read; None: each counts 1.
    vote_weights: F64 | None
    signal: str  # the signal of the scores, as ``swift_client.Selection.signal``
    no_logprobs_reason: str | None = None  # why the texts alone decide, if the completions show it
    vote_note: str | None = None  # note on the weights, if a vote is held
    beta: float = 1.0  # exponent of the weights, by which an answer's probability follows from its votes
    notes: tuple[str, ...] = ()  # notes on the completions; they precede the notes of ``scores``
    # Notes on external scorers and judges that returned no scores; they come last.
    rescoring_notes: tuple[str, ...] = ()
    # The similarity of a consensus, as ``similarity=``; None: the default one.
    similarity: str | UserSimilarity | None = None
    # (M, M) similarities of the M different texts, if they cannot be computed from ``similarity`` alone.
    similarity_matrix: F64 | None = None
    # What the comparison of texts cost: tokens and calls, US dollars (None: unknown), and calls that failed.
    similarity_usage: Usage = field(default_factory=Usage)
    similarity_cost: float | None = 0.0
    similarity_failures: tuple[Failure, ...] = ()

    def with_rescoring_note(self, note: str) -> ScoredCompletions:
        """Return the same scores with one more note."""
        return replace(self, rescoring_notes=(*self.rescoring_notes, note))


class CommonTopK(NamedTuple):
    """The list length k to which N completions are read, so that their scores compare."""

    readable_mask: Bool  # (N,) whether a completion has tokens and enough alternatives
    k: int  # ranks that all readable completions list
    notes: tuple[str, ...]


def common_top_k(completions: Sequence[Completion], min_ranks: int, *, max_ranks: int) -> CommonTopK:
    """Return the completions with at least ``min_ranks`` ranks, and the length of their shortest list, at most
    ``max_ranks``.
    """
    ranks = np.array([listed_ranks(completion) for completion in completions], np.int64)
    readable = np.array([len(completion.tokens) > 0 for completion in completions], np.bool_) & (ranks >= min_ranks)
    lengths = np.minimum(ranks[readable], max_ranks).tolist()
    k, longest = min(lengths, default=0), max(lengths, default=0)
    notes = []
    if len(lengths) < len(completions):
        missing = f"lists of {min_ranks} or more alternatives" if min_ranks else "logprobs"
        n_unreadable = len(completions) - len(lengths)
        notes.append(f"{n_unreadable} of {len(completions)} completions have no score, because they have no {missing}.")
    if longest > k:
        notes.append(f"Lists are up to {longest} alternatives long; all were cut to the shortest, {k}.")
    return CommonTopK(readable, k, tuple(notes))
