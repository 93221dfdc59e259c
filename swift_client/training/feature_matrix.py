"""Features of all labelled completions, built once, on disk: token rows in float16, what is one a completion in RAM.

A question enters ``train`` twice, as it is and thinned: a random part of its completions, read to a random number of
alternatives. So a head trained on 8 completions with lists of 20 also learns what 3 with lists of 5 look like.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.errors import ConfigurationError
from swift_client.features import FEATURES, TokenTable, column_names, response_columns, token_columns
from swift_client.features.segments import F64, I64, segment_offsets
from swift_client.models import Standardizer
from swift_client.types import F16, F32

MIN_SCALE = 1e-4
"""Deviation below which a column counts as constant: float16 rounding must not become a signal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Moments:
    """Moments of the tokens of Q questions."""

    token_counts: I64
    """(Q,) how many."""
    mean: F64
    """(Q, d)."""
    squared_deviations: F64
    """(Q, d) sums of squared distances from the question's mean."""

    @classmethod
    def from_rows(cls, rows: F32) -> Moments:
        """Return the moments of one question's tokens (S, d)."""
        mean = rows.mean(axis=0, dtype=np.float64)
        distance = rows - mean
        squares = np.square(distance, out=distance).sum(axis=0)
        return cls(token_counts=np.array([len(rows)]), mean=mean[None], squared_deviations=squares[None])

    @classmethod
    def concatenate(cls, parts: Sequence[Moments]) -> Moments:
        """Return the questions of all parts."""
        return cls(
            token_counts=np.concatenate([part.token_counts for part in parts]),
            mean=np.concatenate([part.mean for part in parts]),
            squared_deviations=np.concatenate([part.squared_deviations for part in parts]),
        )

    def select(self, mask: NDArray[np.bool_]) -> Moments:
        """Return the questions that are ``kept`` (Q,)."""
        return Moments(
            token_counts=self.token_counts[mask], mean=self.mean[mask], squared_deviations=self.squared_deviations[mask]
        )

    def standardizer(self) -> Standardizer:
        """Return mean and deviation over all tokens: squares within questions, and between their means."""
        share = self.token_counts / self.token_counts.sum()
        mean = share @ self.mean
        scale = np.sqrt(self.squared_deviations.sum(axis=0) / self.token_counts.sum() + share @ (self.mean - mean) ** 2)
        return Standardizer(mean=mean, scale=np.where(scale > MIN_SCALE, scale, 1.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMatrix:
    """N labelled completions of Q questions, S tokens in all; the completions of a question stand side by side."""

    values: F16
    """(≥ S, d) token features, on disk: rows of the completions that were built together, selected or not."""
    first_rows: I64
    """(N,) row of each completion's first token."""
    lengths: I64
    """(N,) tokens of each completion, at least one."""
    terms: F32
    """(N, m) response terms."""
    labels: F64
    """(N,) 1 right, 0 wrong."""
    question: I64
    """(N,) number of the question, from 0; a thinned question has a number of its own."""
    moments: Moments
    """Of the tokens of each question."""

    @cached_property
    def token_standardizer(self) -> Standardizer:
        """Mean and deviation of the d columns over the S tokens."""
        return self.moments.standardizer()

    def select(self, mask: NDArray[np.bool_]) -> FeatureMatrix:
        """Return the questions that are ``kept`` (Q,), numbered anew; the token features are shared."""
        here = mask[self.question]
        return FeatureMatrix(
            values=self.values,
            first_rows=self.first_rows[here],
            lengths=self.lengths[here],
            terms=self.terms[here],
            labels=self.labels[here],
            question=(np.cumsum(mask) - 1)[self.question[here]],
            moments=self.moments.select(mask),
        )

    @property
    def question_offsets(self) -> I64:
        """(Q+1,) question q owns the completions ``starts[q]:starts[q + 1]``."""
        return np.searchsorted(self.question, np.arange(self.question[-1] + 2)).astype(np.int64)


class FeatureMatrixBuilder:
    """Takes questions one by one, so that their completions need not be in memory together.

    Each token's row begins with the first ``states`` numbers of its captured hidden states.

    A context manager: its file is closed at the end, and lives on without a name in the Matrix that maps it.
    """

    def __init__(self, features: Sequence[str], terms: Sequence[str], *, width: int, state_columns: int = 0) -> None:
        self._features, self._terms, self._width, self._state_columns = (
            tuple(features),
            tuple(terms),
            width,
            state_columns,
        )
        self._columns = state_columns + len(column_names(FEATURES, features, width=width))
        with _translate_disk_errors():
            self._file = tempfile.TemporaryFile(prefix="swift-client-", suffix=".features")  # noqa: SIM115
        self._lengths: list[I64] = []
        self._term_rows: list[F32] = []
        self._labels: list[F64] = []
        self._completion_counts: list[int] = []
        self._moments: list[Moments] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take has been told
            self._file.close()

    def add(self, group: Group, answer_groups: Sequence[int | None], *, k: int) -> bool:
        """Add a question's labelled, whole completions that have tokens; return whether there were any.

        ``answers`` (N,) are equal for equal answers. Raises ConfigurationError for a logprob that is NaN and for a
        full disk, or hidden states that are not there or of another size.
        """
        kept = trainable_indices(group)
        if not len(kept):
            return False
        table = TokenTable(group.completions, width=self._width, k=k, groups=answer_groups)
        try:
            terms = response_columns(table, self._terms).values[kept]
            alone = TokenTable([group.completions[at] for at in kept], width=self._width, k=k)
            features = token_columns(alone, self._features)
        except ValueError as error:
            raise ConfigurationError(
                f"Question {group.question_id}: {error}", hint="Leave this question out, or sample it again."
            ) from error
        rows = features.values
        if self._state_columns:
            rows = np.concatenate([self._gather_states(group, kept, np.diff(features.offsets)), rows], axis=1)
        with _translate_disk_errors():
            # torch rounds to float16 as numpy does, fifty times as fast.
            self._file.write(torch.from_numpy(rows).half().numpy().data)
        self._lengths.append(np.diff(features.offsets))
        self._term_rows.append(terms)
        self._labels.append(group.labels[kept])
        self._completion_counts.append(len(kept))
        self._moments.append(Moments.from_rows(rows))
        return True

    def _gather_states(self, group: Group, positions: I64, lengths: I64) -> F32:
        """Return the hidden states of the tokens of the ``kept`` completions, end to end."""
        found = [group.completions[at].hidden_states for at in positions]
        for states, length in zip(found, lengths, strict=True):
            if states is None or states.shape != (length, self._state_columns):
                shape = "no hidden states" if states is None else f"hidden states {states.shape}"
                raise ConfigurationError(
                    f"Question {group.question_id}: a completion of {length} tokens has {shape}, not "
                    f"{self._state_columns} a token.",
                    hint="Capture all samples with the same model and the same layers.",
                )
        return np.concatenate([states for states in found if states is not None]).astype(np.float32)

    def build(self) -> FeatureMatrix:
        """Return all that was added, at least one question."""
        with _translate_disk_errors():
            self._file.flush()
        lengths = np.concatenate(self._lengths)
        offsets = segment_offsets(lengths)
        return FeatureMatrix(
            # torch wants a writable array; copy-on-write gives it one and leaves the file alone.
            values=np.memmap(self._file, np.float16, "c", shape=(int(offsets[-1]), self._columns)),
            first_rows=offsets[:-1],
            lengths=lengths,
            terms=np.concatenate(self._term_rows),
            labels=np.concatenate(self._labels),
            question=np.repeat(np.arange(len(self._completion_counts)), self._completion_counts),
            moments=Moments.concatenate(self._moments),
        )


@contextlib.contextmanager
def _translate_disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The features do not fit on the disk: {error.strerror}.", hint="Set TMPDIR to a folder with more room."
        ) from error


def subsample(
    group: Group, answer_groups: Sequence[int | None], rng: np.random.Generator, *, k_min: int, k_max: int
) -> tuple[Group, list[int | None], int]:
    """Return a random part of the question, at least two completions, its answers, and a random k."""
    size = int(rng.integers(min(2, len(group.completions)), len(group.completions) + 1))
    kept = sorted(rng.choice(len(group.completions), size, replace=False).tolist())
    part = Group(
        question_id=group.question_id,
        completions=tuple(group.completions[at] for at in kept),
        labels=group.labels[kept],
        family=group.family,
    )
    return part, [answer_groups[at] for at in kept], int(rng.integers(k_min, k_max + 1))
