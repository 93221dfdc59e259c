"""Features of all labelled completions, built once, on disk: token rows in float16, what is one a completion in RAM.

A question enters ``train`` twice, as it is and thinned: a random part of its completions, read to a random number of
alternatives. So a head trained on 8 completions with lists of 20 also learns what 3 with lists of 5 look like.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from swift_client.errors import ConfigurationError
from swift_client.features import FEATURES, TokenTable, column_names, response_columns, token_columns
from swift_client.models import Standardizer
from swift_client.ragged import F64, I64, offsets_of
from swift_client.training.groups import Group
from swift_client.types import F16, F32

SMALLEST_SCALE = 1e-4
"""Deviation below which a column counts as constant: float16 rounding must not become a signal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Matrix:
    """N labelled completions of Q questions, S tokens in all; the completions of a question stand side by side."""

    values: F16
    """(S, d) token features; on disk."""
    offsets: I64
    """(N+1,) completion i owns the rows ``offsets[i]:offsets[i + 1]``, at least one."""
    terms: F32
    """(N, m) response terms."""
    labels: F64
    """(N,) 1 right, 0 wrong."""
    question: I64
    """(N,) number of the question, from 0; a thinned question has a number of its own."""
    tokens: Standardizer
    """Mean and deviation of the d columns over the S tokens."""

    @property
    def starts(self) -> I64:
        """(Q+1,) question q owns the completions ``starts[q]:starts[q + 1]``."""
        return np.searchsorted(self.question, np.arange(self.question[-1] + 2)).astype(np.int64)


class MatrixBuilder:
    """Takes questions one by one, so that their completions need not be in memory together.

    A context manager: its file is closed at the end, and lives on without a name in the Matrix that maps it.
    """

    def __init__(self, features: Sequence[str], terms: Sequence[str], *, width: int) -> None:
        self._features, self._terms, self._width = tuple(features), tuple(terms), width
        self._columns = len(column_names(FEATURES, features, width=width))
        with _room_on_disk():
            self._file = tempfile.TemporaryFile(prefix="swift-client-", suffix=".features")  # noqa: SIM115
        self._lengths: list[I64] = []
        self._term_rows: list[F32] = []
        self._labels: list[F64] = []
        self._counts: list[int] = []
        self._moments = (0, np.zeros(self._columns), np.zeros(self._columns))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take has been told
            self._file.close()

    def add(self, group: Group, answers: Sequence[int | None], *, k: int) -> None:
        """Add a question's labelled, whole completions that have tokens. ``answers`` (N,) are equal for equal answers.

        Raises ConfigurationError for a logprob that is NaN and for a full disk.
        """
        kept = trainable(group)
        if not len(kept):
            return
        table = TokenTable(group.completions, width=self._width, k=k, groups=answers)
        try:
            terms = response_columns(table, self._terms).values[kept]
            alone = TokenTable([group.completions[at] for at in kept], width=self._width, k=k)
            features = token_columns(alone, self._features)
        except ValueError as error:
            raise ConfigurationError(
                f"Question {group.question_id}: {error}", hint="Leave this question out, or sample it again."
            ) from error
        with _room_on_disk():
            # torch rounds to float16 as numpy does, fifty times as fast.
            self._file.write(torch.from_numpy(features.values).half().numpy().data)
        self._lengths.append(np.diff(features.offsets))
        self._term_rows.append(terms)
        self._labels.append(group.labels[kept])
        self._counts.append(len(kept))
        self._moments = _joined(self._moments, features.values)

    @property
    def questions(self) -> int:
        """How many questions brought at least one completion."""
        return len(self._counts)

    def build(self) -> Matrix:
        """Return all that was added, at least one question."""
        with _room_on_disk():
            self._file.flush()
        offsets = offsets_of(np.concatenate(self._lengths))
        count, mean, squares = self._moments
        scale = np.sqrt(squares / count)
        return Matrix(
            # torch wants a writable array; copy-on-write gives it one and leaves the file alone.
            values=np.memmap(self._file, np.float16, "c", shape=(int(offsets[-1]), self._columns)),
            offsets=offsets,
            terms=np.concatenate(self._term_rows),
            labels=np.concatenate(self._labels),
            question=np.repeat(np.arange(len(self._counts)), self._counts),
            tokens=Standardizer(mean=mean, scale=np.where(scale > SMALLEST_SCALE, scale, 1.0)),
        )


@contextlib.contextmanager
def _room_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The features do not fit on the disk: {error.strerror}.", hint="Set TMPDIR to a folder with more room."
        ) from error


def trainable(group: Group) -> I64:
    """Return the positions of the completions that can be learned from: whole, labelled, with tokens."""
    usable = [c.complete and len(c.tokens) > 0 for c in group.completions]
    return np.flatnonzero(np.array(usable, np.bool_) & ~np.isnan(group.labels))


def thinned(
    group: Group, answers: Sequence[int | None], rng: np.random.Generator, *, k_min: int, k_max: int
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
    return part, [answers[at] for at in kept], int(rng.integers(k_min, k_max + 1))


Moments = tuple[int, F64, F64]
"""Rows, mean (d,), sum of squared distances from it (d,)."""


def _joined(moments: Moments, rows: F32) -> Moments:
    """Add rows (S, d): Chan, Golub and LeVeque's update, which does not cancel as sums of squares do."""
    count, mean, squares = moments
    total = count + len(rows)
    here = rows.mean(axis=0, dtype=np.float64)
    shift = here - mean
    distance = rows - here
    within = np.square(distance, out=distance).sum(axis=0)
    return total, mean + shift * (len(rows) / total), squares + within + shift**2 * (count * len(rows) / total)
