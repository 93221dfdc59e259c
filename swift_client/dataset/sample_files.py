"""Files of samples by their content: samples files, and Parquet files, folders and URLs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from swift_client.dataset.sample_columns import ParquetSamples
from swift_client.dataset.sample_columns.locations import FilePath, is_parquet
from swift_client.store import Sample, SampleStore, StoredQuestion
from swift_client.types import Usage

_Only = Callable[[StoredQuestion], bool]


class SampleFile(Protocol):
    """Samples that can be read question by question, any number of times."""

    @property
    def name(self) -> str:
        """The path or URL, without user, password and query."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Fields that were sent to the provider for all samples, as far as the file says."""

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all replies, as far as the file says."""

    @property
    def sources(self) -> frozenset[tuple[str, str]]:
        """The pairs of provider and model of the samples."""

    def questions(self) -> Iterator[StoredQuestion]:
        """Yield the questions, without reading their samples."""

    def groups(self, only: _Only = ...) -> Iterator[tuple[StoredQuestion, list[Sample]]]:
        """Yield the questions that have samples and for which ``only`` is true, each with its samples."""


def open_sample_file(path: FilePath) -> SampleFile:
    """Return the samples of a samples file, a Parquet file, a folder of them, or a URL of either.

    Raises:
        ConfigurationError: there is no such file, or it is neither; here or when it is read.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if not is_parquet(path):
        return _StoredSamples(path)
    return ParquetSamples(path)


class _StoredSamples:
    """The samples of a samples file, which is opened for each call."""

    def __init__(self, path: FilePath) -> None:
        self.name = os.fspath(path)

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Fields that were sent to the provider for all samples of ``collect``."""
        with SampleStore(self.name) as store:
            return {} if store.meta is None else store.meta.sampling

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all replies."""
        with SampleStore(self.name) as store:
            return store.totals().usage

    @property
    def sources(self) -> frozenset[tuple[str, str]]:
        """The pairs of provider and model of the samples."""
        with SampleStore(self.name) as store:
            return frozenset((provider, model or "unknown") for provider, model in store.models())

    def questions(self) -> Iterator[StoredQuestion]:
        """Yield the questions in the order in which they were added."""
        with SampleStore(self.name) as store:
            yield from store.iterate_questions()

    def groups(self, only: _Only = lambda question: True) -> Iterator[tuple[StoredQuestion, list[Sample]]]:
        """Yield the questions that have samples and for which ``only`` is true, each with its samples."""
        with SampleStore(self.name) as store:
            yield from store.questions_with_samples(only)
