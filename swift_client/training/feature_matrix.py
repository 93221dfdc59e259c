"""Features of all labelled completions, built once: token rows as float16 on disk, the rest in memory.

A question enters training twice, whole and subsampled: a random part of its completions, read to a random number of
alternatives. So a head trained on 8 completions with lists of 20 also learns what 3 with lists of 5 look like.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.errors import ConfigurationError
from swift_client.features import FEATURES, TokenTable, column_names, response_columns, token_columns
from swift_client.features.segments import F64, I64, segment_offsets
from swift_client.models import Standardizer
from swift_client.types import F16, F32, Bool

# Columns with a smaller standard deviation count as constant, so float16 rounding is not taken for a signal.
MIN_SCALE = 1e-4


class Moments(NamedTuple):
    """Moments of the tokens, and of the completions' means, of Q questions."""

    token_counts: I64  # (Q,) tokens of each question
    mean: F64  # (Q, d) means over each question's tokens
    squared_deviations: F64  # (Q, d) sums of squared deviations from the question's mean
    completion_counts: I64  # (Q,) completions of each question
    # (Q, d) sums over a question's completions: squared deviations of their means from the mean of their means
    completion_deviations: F64

    @classmethod
    def from_rows(cls, rows: F32, lengths: I64) -> Moments:
        """Return the moments of one question's tokens (S, d), whose completions have ``lengths`` (N,)."""
        completion_means = np.add.reduceat(rows, segment_offsets(lengths)[:-1], axis=0) / lengths[:, None]
        mean = rows.mean(axis=0, dtype=np.float64)
        deviation = rows - mean
        squares = np.square(deviation, out=deviation).sum(axis=0)
        return cls(
            token_counts=np.array([len(rows)]),
            mean=mean[None],
            squared_deviations=squares[None],
            completion_counts=np.array([len(lengths)]),
            completion_deviations=np.square(completion_means - completion_means.mean(axis=0)).sum(axis=0)[None],
        )

    def standardizer(self) -> Standardizer:
        """Return mean and standard deviation over all tokens: the variance within and between questions."""
        share = self.token_counts / self.token_counts.sum()
        mean = share @ self.mean
        scale = np.sqrt(self.squared_deviations.sum(axis=0) / self.token_counts.sum() + share @ (self.mean - mean) ** 2)
        return Standardizer(mean=mean, scale=np.where(scale > MIN_SCALE, scale, 1.0))

    def within_question_scale(self) -> F64:
        """Return the standard deviation (d,) of the completions' means within their questions, 1 for a constant."""
        scale = np.sqrt(self.completion_deviations.sum(axis=0) / self.completion_counts.sum())
        return np.where(scale > MIN_SCALE, scale, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMatrix:
    """N labelled completions of Q questions, S tokens in all. The completions of a question are contiguous."""

    # (≥ S, d) token features on disk, including rows of completions that were not selected.
    values: F16
    first_rows: I64  # (N,) row of each completion's first token
    lengths: I64  # (N,) tokens of each completion, at least one
    terms: F32  # (N, m) response terms
    labels: F64  # (N,) 1 right, 0 wrong
    answers: I64  # (N,) equal numbers for equal answers of a question, -1 for none
    question: I64  # (N,) number of the question, from 0; a subsampled question has its own number
    weights: F64  # (N,) weight of the completion's question
    # (N,) False if the labels rest on feedback on a choice, so they are complete only if that choice was right
    is_graded: Bool
    moments: Moments  # moments of each question's tokens
    # By verifier: (N,) judgement of each completion's answer, 0..1, NaN if unknown.
    judgements: Mapping[str, F64] = field(default_factory=dict)

    @cached_property
    def token_standardizer(self) -> Standardizer:
        """Mean and standard deviation of the d columns over the S tokens."""
        return self.moments.standardizer()

    def select(self, mask: NDArray[np.bool_]) -> FeatureMatrix:
        """Return the questions in ``mask`` (Q,), renumbered; the token features are shared."""
        rows = mask[self.question]
        return replace(
            self,
            first_rows=self.first_rows[rows],
            lengths=self.lengths[rows],
            terms=self.terms[rows],
            labels=self.labels[rows],
            answers=self.answers[rows],
            question=(np.cumsum(mask) - 1)[self.question[rows]],
            weights=self.weights[rows],
            is_graded=self.is_graded[rows],
            moments=Moments._make(column[mask] for column in self.moments),
            judgements={verifier: values[rows] for verifier, values in self.judgements.items()},
        )

    @property
    def question_offsets(self) -> I64:
        """(Q+1,) completions ``offsets[q]:offsets[q + 1]`` belong to question q."""
        return np.searchsorted(self.question, np.arange(self.question[-1] + 2)).astype(np.int64)


class FeatureMatrixBuilder:
    """Builder of a ``FeatureMatrix`` from one question at a time.

    With ``state_columns`` each token's row begins with its captured hidden states. A context manager: its temporary
    file is closed at the end, but stays readable through the matrix that maps it.
    """

    def __init__(self, features: Sequence[str], terms: Sequence[str], *, width: int, state_columns: int = 0) -> None:
        self._features, self._terms = tuple(features), tuple(terms)
        self._width, self._state_columns = width, state_columns
        self._columns = state_columns + len(column_names(FEATURES, features, width=width))
        with _translate_disk_errors():
            self._file = tempfile.TemporaryFile(prefix="swift-client-", suffix=".features")  # noqa: SIM115
        # Lengths, response terms, labels, answers and moments of each question.
        self._parts: list[tuple[I64, F32, F64, I64, Moments]] = []
        self._judgements: list[Mapping[str, F64]] = []  # of each question
        self._weights: list[float] = []  # of each question
        self._is_graded: list[bool] = []  # of each question

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was already reported by add() or build()
            self._file.close()

    def add(self, group: Group, answer_groups: Sequence[int | None], *, k: int) -> bool:
        """Add a question's trainable completions; return False if there are none.

        Args:
            group: the question.
            answer_groups: (N,) equal numbers for equal answers.
            k: alternatives per token to read.

        Raises:
            ConfigurationError: a logprob is NaN, the disk is full, or hidden states are missing or of another size.
        """
        indices = trainable_indices(group)
        if not len(indices):
            return False
        # Response terms compare a completion with all others, trainable or not; token features need no others.
        table = TokenTable(group.completions, width=self._width, k=k, groups=answer_groups)
        try:
            terms = response_columns(table, self._terms).values[indices]
            trainable = TokenTable([group.completions[index] for index in indices], width=self._width, k=k)
            features = token_columns(trainable, self._features)
        except ValueError as error:
            raise ConfigurationError(
                f"Question {group.question_id}: {error}", hint="Leave this question out, or sample it again."
            ) from error
        rows, lengths = np.ascontiguousarray(features.values), np.diff(features.offsets)
        if self._state_columns:
            rows = np.concatenate([self._gather_states(group, indices, lengths), rows], axis=1)
        with _translate_disk_errors():
            # torch rounds to float16 as numpy does, fifty times faster.
            self._file.write(torch.from_numpy(rows).half().numpy().data)
        numbers = np.array([-1 if number is None else number for number in answer_groups], np.int64)
        self._parts.append((lengths, terms, group.labels[indices], numbers[indices], Moments.from_rows(rows, lengths)))
        self._judgements.append({verifier: scores[indices] for verifier, scores in group.verifier_scores.items()})
        self._weights.append(group.weight)
        self._is_graded.append(group.feedback_on is None)
        return True

    def _gather_states(self, group: Group, indices: I64, lengths: I64) -> F32:
        """Return the hidden states of these completions' tokens, concatenated."""
        parts = [group.completions[index].hidden_states for index in indices]
        for states, length in zip(parts, lengths, strict=True):
            if states is None or states.shape != (length, self._state_columns):
                shape = "no hidden states" if states is None else f"hidden states {states.shape}"
                raise ConfigurationError(
                    f"Question {group.question_id}: a completion of {length} tokens has {shape}, not "
                    f"{self._state_columns} per token.",
                    hint="Capture all samples with the same model and the same layers.",
                )
        return np.concatenate([states for states in parts if states is not None]).astype(np.float32)

    def build(self) -> FeatureMatrix:
        """Return the matrix of all added questions; at least one is required."""
        with _translate_disk_errors():
            self._file.flush()
        lengths, terms, labels, answers, moments = zip(*self._parts, strict=True)
        offsets, sizes = segment_offsets(np.concatenate(lengths)), [len(part) for part in labels]
        return FeatureMatrix(
            # torch requires a writable array; copy-on-write provides one and leaves the file unchanged.
            values=np.memmap(self._file, np.float16, "c", shape=(int(offsets[-1]), self._columns)),
            first_rows=offsets[:-1],
            lengths=np.concatenate(lengths),
            terms=np.concatenate(terms),
            labels=np.concatenate(labels),
            answers=np.concatenate(answers),
            question=np.repeat(np.arange(len(labels)), sizes),
            weights=np.repeat(np.array(self._weights, np.float64), sizes),
            is_graded=np.repeat(np.array(self._is_graded, np.bool_), sizes),
            moments=Moments._make(map(np.concatenate, zip(*moments, strict=True))),
            judgements={
                verifier: np.concatenate(
                    [
                        of_question.get(verifier, np.full(len(part), np.nan))
                        for of_question, part in zip(self._judgements, labels, strict=True)
                    ]
                )
                for verifier in sorted(set().union(*self._judgements))
            },
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
    """Return a random part of the question (at least two completions), its answer groups, and a random k."""
    size = int(rng.integers(min(2, len(group.completions)), len(group.completions) + 1))
    indices = sorted(rng.choice(len(group.completions), size, replace=False).tolist())
    completions = tuple(group.completions[index] for index in indices)
    # Only completions with tokens are learned from, so means without tokens are not needed; judgements serve held-out
    # questions, which stay whole.
    part = replace(group, completions=completions, labels=group.labels[indices], mean_logprobs=None, verifier_scores={})
    return part, [answer_groups[index] for index in indices], int(rng.integers(k_min, k_max + 1))
