"""Stored questions as series in time: the statistics of each question's answers, and the settings of its requests."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.dataset.sample_columns.locations import FilePath, is_parquet
from swift_client.dataset.sample_files import open_sample_file
from swift_client.models import AnyHead
from swift_client.monitoring.statistics import STATISTICS, question_statistics
from swift_client.reranker import rank
from swift_client.store import SelectionStore, StoredSelection
from swift_client.types import Completion, Message

F64 = NDArray[np.float64]

# Settings of a request that differ from call to call and change no distribution.
_UNCOUNTED = frozenset({"head", "seed", "provider", "model"})
_MIN_SHARE = 0.9  # of the questions that must have a number of completions


@dataclass(eq=False, kw_only=True)
class Series:
    """The questions of one model in the order in which they were answered.

    Attributes:
        provider: name of the provider.
        model: name of the model.
        rows: by a number of completions, T rows (S,) float64 of the statistics of so many completions of each question,
            as ``STATISTICS`` orders them; NaN where one is not available, and for a question with fewer completions.
        times: T Unix times in seconds; NaN in files of ``collect``, which do not have them.
        prompt_lengths: T numbers of characters of the prompts.
        settings: T JSON texts, one per combination of settings.
    """

    provider: str
    model: str | None
    rows: dict[int, list[F64]]
    times: list[float] = field(default_factory=list)
    prompt_lengths: list[float] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    def values(self, size: int) -> F64:
        """Return the statistics (T, S) float64 of the first ``size`` completions of each question."""
        return np.array(self.rows[size], np.float64).reshape(len(self), len(STATISTICS))

    def usable_size(self) -> int:
        """Return the largest number of completions that nearly all questions have."""
        shares = {size: np.isfinite(self.values(size)).any(axis=1).mean() for size in self.rows}
        return max((size for size, share in shares.items() if share >= _MIN_SHARE), default=min(shares))


@dataclass(frozen=True, kw_only=True)
class _Observation:
    """One question that was answered, before its statistics are computed."""

    source: tuple[str, str | None]
    messages: Sequence[Message]
    completions: Sequence[Completion]
    settings: Mapping[str, Any]
    selection: StoredSelection | None = None


def read_series(
    path: FilePath,
    head: AnyHead | None = None,
    *,
    sizes: Sequence[int],
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> list[Series]:
    """Return the series of each model of a file, the longest first.

    Choices of ``best_of`` are read in the order of their time. One whose answers all were in the file already is no new
    evidence and is left out. A file without choices is read in the order of its questions.

    Args:
        path: a samples file, or Parquet.
        head: scores the answers to questions to its own model; None: the scores that were stored with choices.
        sizes: numbers of completions per question whose statistics are computed.
        progress: called with a stage and a count.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    series: dict[tuple[str, str | None], Series] = {}
    for done, observation in enumerate(_observations(path)):
        if done % 100 == 0:
            progress("questions", done)
        source = observation.source
        if source not in series:
            series[source] = Series(provider=source[0], model=source[1], rows={size: [] for size in sizes})
        own_head = head if head is not None and (head.provider, head.model) == source else None
        target = series[source]
        for size, row in _statistics(observation, own_head, sizes).items():
            target.rows[size].append(row)
        target.times.append(observation.selection.time if observation.selection else np.nan)
        target.prompt_lengths.append(float(sum(len(str(item.get("content") or "")) for item in observation.messages)))
        target.settings.append(_settings_label(observation))
    return sorted(series.values(), key=len, reverse=True)


def _observations(path: FilePath) -> Iterator[_Observation]:
    if is_parquet(path):
        file = open_sample_file(path)
        ((provider, model), *other_sources) = sorted(file.sources) or [("unknown", "unknown")]
        source = (provider, model if not other_sources else None)
        for question, samples in file.groups():
            completions = [sample.completion for sample in samples]
            yield _Observation(
                source=source, messages=question.messages, completions=completions, settings={"sampling": file.sampling}
            )
        return
    with SelectionStore(path) as store:
        has_choices = False
        for observation in _choices(store):
            has_choices = True
            yield observation
        if not has_choices:
            for question, samples in store.questions_with_samples():
                yield _Observation(
                    source=store.source_of(question.id),
                    messages=question.messages,
                    completions=[sample.completion for sample in samples],
                    settings=store.settings_of(question.id),
                )


def _choices(store: SelectionStore) -> Iterator[_Observation]:
    """Yield the stored choices in the order of their time, without those whose answers were all in earlier ones."""
    seen: dict[str, set[int]] = {}
    for selection in store.iterate_selections():
        numbers = {number for number in selection.numbers if number is not None}
        earlier = seen.setdefault(selection.question_id, set())
        question = store.question(selection.question_id)
        if question is None or not numbers - earlier:
            continue
        earlier |= numbers
        samples = {sample.index: sample.completion for sample in store.samples(selection.question_id)}
        completions = [samples.get(number) for number in selection.numbers if number is not None]
        yield _Observation(
            source=store.source_of(selection.question_id),
            messages=question.messages,
            completions=[completion for completion in completions if completion is not None],
            settings=store.settings_of(selection.question_id),
            selection=selection,
        )


def _statistics(observation: _Observation, head: AnyHead | None, sizes: Sequence[int]) -> dict[int, F64]:
    """Return the statistics (S,) of one question's answers by the number of completions; NaN if there are fewer."""
    completions, stored = observation.completions, observation.selection
    accepted = None if stored is None else stored.accepted
    scores, groups = _scores_and_groups(observation, head)
    # A stopping rule lets more completions of hard questions through, so that only the first ones can be compared.
    count = len(completions) if stored is None or stored.facts.get("stopped") is None else min(len(completions), 1)
    return {
        size: question_statistics(
            completions[:size],
            scores=None if scores is None else scores[:size],
            answers=groups[:size],
            accepted=accepted,
        )
        if size <= count
        else np.full(len(STATISTICS), np.nan)
        for size in sizes
    }


def _scores_and_groups(observation: _Observation, head: AnyHead | None) -> tuple[F64 | None, list[int | None]]:
    """Return the head's scores (N,), NaN for none, None without a head; and equal numbers for equal answers (N,)."""
    completions, stored = observation.completions, observation.selection
    if not completions:
        return None, []
    if head is None and stored is not None and (own := _stored_candidates(stored, len(completions))) is not None:
        return own
    answer = "auto" if head is None else head.training.get("answer", "auto")
    # A function of the user is not in the head's file, so that answers cannot be read as it did.
    is_readable = isinstance(answer, str | None) and answer != "custom"
    selection = rank(
        list(completions),
        head=head,
        answer=answer if is_readable else "auto",
        prompt=list(observation.messages) or None,
    )
    groups = [candidate.group if is_readable else None for candidate in selection.candidates]
    if head is None:
        return None, groups
    values = [candidate.score for candidate in selection.candidates]
    return np.array([np.nan if value is None else value for value in values], np.float64), groups


def _stored_candidates(selection: StoredSelection, count: int) -> tuple[F64 | None, list[int | None]] | None:
    """Return the scores of a head and the groups that are stored with a choice; None if they do not fit."""
    candidates = selection.facts.get("candidates")
    if not isinstance(candidates, list) or len(candidates) != count:
        return None
    if not all(isinstance(candidate, Mapping) for candidate in candidates):
        return None
    groups = [group if isinstance(group := candidate.get("group"), int) else None for candidate in candidates]
    if not str(selection.facts.get("scorer", "")).startswith("head "):
        return None, groups
    scores = [candidate.get("score") for candidate in candidates]
    return np.array([value if _is_number(value) else np.nan for value in scores], np.float64), groups


def _is_number(value: object) -> bool:
    """Return True for a finite number as scores are stored; a file may have any JSON in their place."""
    return isinstance(value, float) and math.isfinite(value)


def _settings_label(observation: _Observation) -> str:
    settings = {name: value for name, value in observation.settings.items() if name not in _UNCOUNTED}
    sampling = settings.get("sampling")
    if isinstance(sampling, Mapping):
        settings["sampling"] = {name: value for name, value in sampling.items() if name not in _UNCOUNTED}
    if observation.selection is not None:
        settings["scorer"] = observation.selection.facts.get("scorer")
    return json.dumps(settings, sort_keys=True, default=str)
