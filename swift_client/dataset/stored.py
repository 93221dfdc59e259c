"""Samples files as groups of labelled completions, read one question at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from swift_client import answers
from swift_client.dataset.graders import GraderSpec, grade_all, resolve_grader
from swift_client.dataset.question_samples import Group
from swift_client.dataset.sample_columns.locations import FilePath as FilePath
from swift_client.dataset.sample_files import SampleFile, open_sample_file
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead, HiddenHead
from swift_client.store import Sample, StateFile, StateLayout, StoredQuestion
from swift_client.types import Completion

FilePaths = FilePath | Sequence[FilePath]
States = Literal["layers", "vocabulary"]


class StoredGroups:
    """The questions of samples files of one model. Each iteration reads the files again.

    Args:
        paths: samples files, or Parquet files of ``sample_schema()``, folders of them, or URLs of either.
        grade: how completions without a stored label are compared with the question's answer.
        states: captured columns to attach to the completions, memory-mapped; None attaches nothing.
        layers: hidden states to attach; None attaches all.
        only: filter of the questions; completions of other questions are not read.

    Raises:
        ConfigurationError: files of several models, an empty file, an unknown grader, hidden states that were not
            captured or differ between files, or an error of SampleStore.
    """

    def __init__(
        self,
        paths: Sequence[FilePath],
        *,
        grade: GraderSpec = "auto",
        states: States | None = None,
        layers: Sequence[int] | None = None,
        only: Callable[[StoredQuestion], bool] = lambda question: True,
    ) -> None:
        if not callable(grade):
            resolve_grader(grade)
        self._paths, self._grade, self._only = tuple(paths), grade, only
        # Columns of the attached hidden states.
        self.layout = _read_layout(self._paths, states, layers) if states else None
        self._files = [open_sample_file(path) for path in self._paths]
        sources = {source for file in self._files for source in _read_sources(file)}
        if len(sources) != 1:
            names = ", ".join(f"{provider}/{model}" for provider, model in sorted(sources))
            raise ConfigurationError(
                f"The files contain samples of {len(sources)} models: {names or 'none'}.",
                hint="A head belongs to one model: use one file per model, and train a head for each.",
            )
        ((self.provider, self.model),) = sources

    def __iter__(self) -> Iterator[Group]:
        """Yield each question that has samples. The label of a completion that cannot be graded is NaN."""
        for path, file in zip(self._paths, self._files, strict=True):
            with ExitStack() as stack:
                states = stack.enter_context(StateFile(path)) if self.layout else None
                for question, samples in file.groups(self._only):
                    completions = tuple(self._with_states(sample, states) for sample in samples)
                    labels = np.array([np.nan if sample.label is None else sample.label for sample in samples])
                    # Stored labels come first; the grader fills the gaps.
                    if np.isnan(labels).any() and question.answer is not None:
                        graded = grade_all(completions, question.answer, self._grade).labels
                        labels = np.where(np.isnan(labels), graded, labels)
                    yield Group(
                        question_id=question.id,
                        completions=completions,
                        labels=labels,
                        family=question.family,
                        mean_logprobs=_gather_means(samples),
                        messages=question.messages,
                        verifier_scores=_gather_judgements(samples),
                    )

    def _with_states(self, sample: Sample, file: StateFile | None) -> Completion:
        if file is None or self.layout is None:
            return sample.completion
        states = file.states(sample.question_id, sample.index, self.layout)
        return replace(sample.completion, hidden_states=states)


@overload
def open_groups(
    samples: FilePaths | StoredGroups, *, answer: answers.Spec = ..., grade: GraderSpec | None = ..., **options: Any
) -> StoredGroups: ...
@overload
def open_groups(
    samples: FilePaths | Iterable[Group], *, answer: answers.Spec = ..., grade: GraderSpec | None = ..., **options: Any
) -> Iterable[Group]: ...
def open_groups(
    samples: FilePaths | Iterable[Group],
    *,
    answer: answers.Spec = "auto",
    grade: GraderSpec | None = None,
    **options: Any,
) -> Iterable[Group]:
    """Return the questions of one or several samples files, or groups as they were given.

    Args:
        samples: a path, several paths, or groups. An iterator becomes a list, since callers read groups repeatedly.
        answer: how answers are extracted; a name is also the default for ``grade``.
        grade: how completions without a stored label are compared with the question's answer.
        options: further arguments of ``StoredGroups``, for paths.

    Raises:
        ConfigurationError: as ``StoredGroups``, for paths.
    """
    if isinstance(samples, (str, os.PathLike)):
        samples = [samples]
    if isinstance(samples, StoredGroups):
        return samples
    items: Iterable[Any] = list(samples) if iter(samples) is samples else samples
    if not isinstance(items, Sequence) or not all(isinstance(item, (str, os.PathLike)) for item in items):
        return items
    grader = grade if grade is not None else answer if isinstance(answer, str) else "auto"
    return StoredGroups(items, grade=grader, **options)


def state_options(head: AnyHead | None) -> dict[str, Any]:
    """Return the arguments of ``StoredGroups`` for the captured states that a head reads."""
    if not isinstance(head, HiddenHead):
        return {}
    return {"states": "layers", "layers": head.layers} if head.layers else {"states": "vocabulary"}


def _gather_means(samples: Sequence[Sample]) -> NDArray[np.float64] | None:
    """Return the mean logprobs (N,) of completions without tokens; None if none is known."""
    means = [sample.mean_logprob for sample in samples]
    return np.array(means, np.float64) if any(mean is not None for mean in means) else None


def _gather_judgements(samples: Sequence[Sample]) -> dict[str, NDArray[np.float64]]:
    """Return the judgements (N,) of each verifier, NaN for samples that it did not judge."""
    verifiers = sorted({verifier for sample in samples for verifier in sample.verifier_scores})
    return {
        verifier: np.array([sample.verifier_scores.get(verifier, np.nan) for sample in samples], np.float64)
        for verifier in verifiers
    }


def _read_layout(paths: Sequence[FilePath], states: States, layers: Sequence[int] | None) -> StateLayout:
    layouts = []
    for path in paths:
        with StateFile(path) as file:
            captured = file.layout
        layouts.append(captured.select_layers(layers) if states == "layers" else captured.select_vocabulary())
    if any(layout != layouts[0] for layout in layouts):
        raise ConfigurationError(
            "The files' hidden states differ.", hint="Capture all of them with the same model and the same --layers."
        )
    return layouts[0]


def _read_sources(file: SampleFile) -> frozenset[tuple[str, str]]:
    if not (sources := file.sources):
        raise ConfigurationError(
            f"{file.name} contains no samples.",
            hint="Fill it with `swift-client collect` or `swift-client best-of --store`.",
        )
    return sources
