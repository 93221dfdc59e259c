"""The result of looking for drift in stored questions. Numbers of questions count from 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from swift_client.diagnostics.drift.series import F64

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of the reference that a movement states."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A question in a series.

    Attributes:
        question: its number, from 1.
        time: Unix time of its choice in seconds; None if the file does not have it.
    """

    question: int
    time: float | None


@dataclass(frozen=True, kw_only=True)
class Movement:
    """One statistic that left its reference for a while or for good.

    Attributes:
        statistic: name, a row of ``swift_client.monitoring.STATISTICS``.
        label: name for people.
        description: meaning and unit.
        alarm: the question at which the test was sure.
        start: the likeliest first question of the change.
        earliest: first question of the 95 % confidence set of ``start``.
        latest: its last question.
        end: the question at which the statistic was back; None if it still differs.
        reference: quantiles of the reference, as QUANTILES lists them; None for a statistic without any.
        before: median in the reference; the mean of a statistic in SHARES.
        after: the same over the questions of the change.
        questions_per_false_alarm: without a change, evidence as strong as this comes at most once in so many questions.
    """

    statistic: str
    label: str
    description: str
    alarm: Place
    start: Place
    earliest: Place
    latest: Place
    end: Place | None
    reference: tuple[float, ...]
    before: float
    after: float
    questions_per_false_alarm: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """Movements of several statistics that may have begun at the same question.

    Attributes:
        start: the likeliest first question, by the movement whose alarm came first.
        earliest: first question of its 95 % confidence set.
        latest: its last question.
        labels: names of the statistics for people.
        is_over: whether all of them are back.
    """

    start: Place
    earliest: Place
    latest: Place
    labels: tuple[str, ...]
    is_over: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace:
    """The course of one statistic that moved, for a picture.

    Attributes:
        questions: (P,) numbers of questions, rising.
        levels: (P,) running medians of the statistic around them; means of one in SHARES.
    """

    questions: F64
    levels: F64


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelDrift:
    """Movements in the questions of one model.

    Attributes:
        provider: name of the provider.
        model: name of the model.
        questions: number of questions, those of the reference included if they are of this file.
        first: the first question.
        last: the last question.
        size: number of completions of each question that were compared.
        reference: the origin of the reference: "head" or "file".
        reference_questions: number of its questions.
        tested: number of questions that were compared with it.
        compared: statistics that were compared.
        movements: what moved, the first change first.
        reasons: sentences on changes of the requests or the questions at the same time, which may be the reason.
        notes: sentences on what could not be compared.
        traces: by statistic, for the picture.
    """

    provider: str
    model: str | None
    questions: int
    first: Place
    last: Place
    size: int
    reference: str
    reference_questions: int
    tested: int
    compared: tuple[str, ...]
    movements: tuple[Movement, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    traces: dict[str, Trace]

    @property
    def name(self) -> str:
        """Provider and model."""
        return f"{self.provider}/{self.model}" if self.model else self.provider

    @property
    def changes(self) -> tuple[Change, ...]:
        """The movements by the time of their start, in order: those with overlapping confidence sets are one change."""
        groups: list[list[Movement]] = []
        for movement in sorted(self.movements, key=lambda item: item.earliest.question):
            overlaps = groups and movement.earliest.question <= min(item.latest.question for item in groups[-1])
            if overlaps:
                groups[-1].append(movement)
            else:
                groups.append([movement])
        return tuple(map(_join, groups))

    @property
    def is_drifted(self) -> bool:
        """True if a statistic still differs from the reference at the last question."""
        return any(movement.end is None for movement in self.movements)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values, without the traces."""
        facts = {
            name: getattr(self, name)
            for name in ("provider", "model", "questions", "size", "reference", "reference_questions", "tested")
        }
        return {
            **facts,
            "first": _place(self.first),
            "last": _place(self.last),
            "compared": list(self.compared),
            "drifted": self.is_drifted,
            "changes": [_change(change) for change in self.changes],
            "movements": [_movement(movement) for movement in self.movements],
            "reasons": list(self.reasons),
            "notes": list(self.notes),
        }


def _join(movements: list[Movement]) -> Change:
    # Not the one with the smallest confidence set: that would be chosen for being too sure.
    best = min(movements, key=lambda item: item.alarm.question)
    return Change(
        start=best.start,
        earliest=best.earliest,
        latest=best.latest,
        labels=tuple(movement.label for movement in movements),
        is_over=all(movement.end is not None for movement in movements),
    )


def _change(change: Change) -> dict[str, Any]:
    places = {name: _place(getattr(change, name)) for name in ("start", "earliest", "latest")}
    return {**places, "labels": list(change.labels), "over": change.is_over}


def _movement(movement: Movement) -> dict[str, Any]:
    places = {name: _place(getattr(movement, name)) for name in ("alarm", "start", "earliest", "latest", "end")}
    return {
        "statistic": movement.statistic,
        "label": movement.label,
        **places,
        "reference": {f"{100 * share:g}": value for share, value in zip(QUANTILES, movement.reference, strict=True)},
        "before": movement.before,
        "after": movement.after,
        "questions_per_false_alarm": movement.questions_per_false_alarm,
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    return None if place is None else {"question": place.question, "time": place.time}


def create_place(position: int, times: list[float]) -> Place:
    """Return the place of a position that counts from 0."""
    seconds = times[position]
    return Place(question=position + 1, time=seconds if math.isfinite(seconds) else None)
