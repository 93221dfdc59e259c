"""Scores of N completions, and how deep the completions are read so that their numbers compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swift_client.answers import Answers
from swift_client.features import listed_ranks
from swift_client.structured.schema import ParsedAnswer
from swift_client.types import F32, Bool, Completion


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Scores of N completions, in their order."""

    values: F32
    """(N,) float32; higher is better; NaN where there is no signal."""
    probabilities: F32 | None = None
    """(N,) float32, 0..1: calibrated probability of being right, NaN as in ``values``; None without calibration."""
    name: str
    """The scorer's or the head's name."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that the numbers do not show by themselves."""
    out_of_distribution: bool = False
    """Whether the completions are unlike those that the head was trained on, so that its scores may mean nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredCompletions:
    """N completions of one question with their answers and scores: all that a choice rests on."""

    completions: tuple[Completion, ...]
    """(N,) numbered 0..N-1, without logprobs that cannot be true."""
    answers: Answers
    parsed_answers: tuple[ParsedAnswer | None, ...]
    """(N,) their objects, if answers have to fit a schema; else empty."""
    scores: Scores
    vote_weights: F32 | None
    """(N,) 0..1 weights of votes; None: each vote counts 1."""
    signal: str
    """The signal behind the scores, as ``Selection.signal``."""
    notes: tuple[str, ...] = ()
    """Sentences about the completions, which come before the notes of ``scores``."""
    rescoring_notes: tuple[str, ...] = ()
    """Sentences about external scorers and judges that gave no scores; they come last."""

    def with_rescoring_note(self, note: str) -> ScoredCompletions:
        """Return the same scores with one more note."""
        return replace(self, rescoring_notes=(*self.rescoring_notes, note))


class CommonTopK(NamedTuple):
    """How deep N completions can be read so that their numbers compare."""

    readable_mask: Bool
    """(N,) those with tokens and enough alternatives."""
    k: int
    """Ranks that all of these list."""
    notes: tuple[str, ...]


def common_top_k(completions: Sequence[Completion], min_ranks: int, *, max_ranks: int) -> CommonTopK:
    """Find the completions with ``needs`` ranks and read them to the shortest list, or to ``most`` ranks."""
    ranks = np.array([listed_ranks(completion) for completion in completions], np.int64)
    readable = np.array([len(completion.tokens) > 0 for completion in completions], np.bool_) & (ranks >= min_ranks)
    lengths = np.minimum(ranks[readable], max_ranks).tolist()
    k, longest = min(lengths, default=0), max(lengths, default=0)
    notes = []
    if len(lengths) < len(completions):
        want = f"lists of {min_ranks} or more alternatives" if min_ranks else "logprobs"
        without = len(completions) - len(lengths)
        notes.append(f"{without} of {len(completions)} completions have no score, for want of {want}.")
    if longest > k:
        notes.append(f"Lists are up to {longest} alternatives long; all were read to the shortest, {k}.")
    return CommonTopK(readable, k, tuple(notes))
