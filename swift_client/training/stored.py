"""Samples files as the questions that training reads: one question at a time, as often as asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore
from swift_client.training.graders import GraderSpec, grade_all, grader
from swift_client.training.groups import Group


class StoredGroups:
    """The questions of one or several samples files of one model; each pass reads them from the disk again.

    Args:
        paths: the files.
        grade: how completions that have no stored label are compared with the question's answer.

    Raises:
        ConfigurationError: files of several models, an empty file, an unknown grader, or what SampleStore raises.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], *, grade: GraderSpec = "auto") -> None:
        if not callable(grade):
            grader(grade)
        self._paths, self._grade = tuple(paths), grade
        sources = {source for path in self._paths for source in _sources(path)}
        if len(sources) != 1:
            listed = ", ".join(f"{provider}/{model}" for provider, model in sorted(sources))
            raise ConfigurationError(
                f"The files hold samples of {len(sources)} models: {listed or 'none'}.",
                hint="A head belongs to one model: train one for each, and give each model a file of its own.",
            )
        ((self.provider, self.model),) = sources

    def __iter__(self) -> Iterator[Group]:
        """Yield each question that has samples; a completion that cannot be judged has the label NaN."""
        for path in self._paths:
            with SampleStore(path) as store:
                for question, samples in store.groups():
                    completions = tuple(sample.completion for sample in samples)
                    labels = np.array([np.nan if sample.label is None else sample.label for sample in samples])
                    if np.isnan(labels).any() and question.answer is not None:
                        graded = grade_all(completions, question.answer, self._grade).labels
                        labels = np.where(np.isnan(labels), graded, labels)
                    yield Group(question_id=question.id, completions=completions, labels=labels, family=question.family)


def _sources(path: str | os.PathLike[str]) -> set[tuple[str, str]]:
    with SampleStore(path) as store:
        sources = set(store.sources().values())
    if not sources:
        raise ConfigurationError(
            f"{os.fspath(path)} holds no samples.",
            hint="Fill it with `swift-client collect`, or with `swift-client best-of --store`.",
        )
    return {(provider, model or "unknown") for provider, model in sources}
