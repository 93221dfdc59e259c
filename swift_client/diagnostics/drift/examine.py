"""Drift in a file of stored questions: the guard's test over its questions in order, and an account of its alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from swift_client.dataset.sample_columns.locations import FilePath
from swift_client.diagnostics.drift.change_point import locate_change
from swift_client.diagnostics.drift.reasons import find_reasons
from swift_client.diagnostics.drift.report import QUANTILES, ModelDrift, Movement, Trace, create_place
from swift_client.diagnostics.drift.series import F64, Series, read_series
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring.profile import MIN_QUESTIONS, available, build_profile, cells_of, reference_level
from swift_client.monitoring.sequential import SequentialTest, normal_scores, with_outer_halves
from swift_client.monitoring.statistics import SHARES, STATISTICS

QUESTIONS_PER_FALSE_ALARM = 10_000.0
"""Default: a file without a change raises at most one alarm in so many questions."""
_FILE_SIZES = (1, 2, 4, 8, 16, 32)  # completions per question that are tried without a head
_REFERENCE_SHARE, _MIN_REFERENCE, _MAX_REFERENCE = 1 / 3, 50, 400  # of a file's questions, without a head
_MAX_MOVEMENTS = 10  # of one statistic
_TRACE_POINTS = 160
Progress = Callable[[str, int], None]


def examine_drift(
    path: FilePath,
    head: AnyHead | None = None,
    *,
    reference: int | None = None,
    questions_per_false_alarm: float = QUESTIONS_PER_FALSE_ALARM,
    progress: Progress = lambda stage, done: None,
) -> tuple[ModelDrift, ...]:
    """Look for drift in the questions of a file, model by model.

    Args:
        path: a samples file of ``best_of`` or ``collect``, or Parquet.
        head: its profile is the reference for questions to its model; other models are left out. None: the earliest
            questions of each model are.
        reference: number of these earliest questions; default: a third, from 50 to 400.
        questions_per_false_alarm: without a change, at most one alarm comes in so many questions, on average, all
            statistics together.
        progress: called with a stage and a count.

    Raises:
        ConfigurationError: the file cannot be read, has too few questions, none of the head's model, or the head has no
            profile.
    """
    profile = None if head is None else _profile_of(head)
    series = read_series(path, head, sizes=_FILE_SIZES if profile is None else profile.sizes, progress=progress)
    if head is not None:
        series = [item for item in series if (item.provider, item.model) == (head.provider, head.model)]
        if not series:
            raise ConfigurationError(
                f"{path} has no questions to {head.provider}/{head.model}.", hint="Give the head of the file's model."
            )
    results = [
        _examine(item, profile, reference, questions_per_false_alarm) for item in series if _is_enough(item, profile)
    ]
    if not results:
        count = max(map(len, series), default=0)
        needed = 1 if profile else _MIN_REFERENCE + MIN_QUESTIONS
        raise ConfigurationError(
            f"Too few questions to look for drift: {path} has {count} of one model, and {needed} are needed.",
            hint="Give --head: its training's questions are then the reference." if profile is None else "",
        )
    return tuple(results)


def _profile_of(head: AnyHead) -> DriftProfile:
    if head.drift_profile is None:
        raise ConfigurationError(
            f"The {head.name} has no profile of its training's questions.",
            hint="Train it again, or leave it out: the file's earliest questions are then the reference.",
        )
    return head.drift_profile


def _is_enough(series: Series, profile: DriftProfile | None) -> bool:
    return len(series) >= (1 if profile else _MIN_REFERENCE + MIN_QUESTIONS)


def _examine(
    series: Series, profile: DriftProfile | None, reference: int | None, questions_per_false_alarm: float
) -> ModelDrift:
    size = series.usable_size()
    values = series.values(size)
    first = 0
    if profile is None:
        default = round(min(max(_REFERENCE_SHARE * len(series), _MIN_REFERENCE), _MAX_REFERENCE))
        first = min(max(reference or default, MIN_QUESTIONS), len(series) - 1)
        own_profile = build_profile({size: values[:first]})
    else:
        own_profile = profile
    index = own_profile.size_index(size) or 0
    columns = available(own_profile, index)
    names = [own_profile.statistics[column] for column in columns]
    if not columns:
        raise ConfigurationError(
            f"No statistic of {series.provider}/{series.model} can be compared: the reference has none.",
            hint="Give more questions as reference=, or another file.",
        )
    order = list(STATISTICS)
    tested = values[:, [order.index(name) for name in names]]
    alarms = _run_test(
        SequentialTest(
            own_profile.edges[index, columns],
            own_profile.counts[index, columns],
            questions_per_false_alarm=questions_per_false_alarm,
        ),
        tested[first:],
    )
    movements: list[Movement] = []
    for number, name in enumerate(names):
        scores = _normal_scores(own_profile, index, columns[number], tested[first:, number])
        movements += _movements(name, alarms[number], scores, tested[:, number], first, own_profile, size, series.times)
    movements.sort(key=lambda movement: (movement.start.question, order.index(movement.statistic)))
    moved = list(dict.fromkeys(movement.statistic for movement in movements))
    missing = [STATISTICS[name].label for name in order if name not in names]
    return ModelDrift(
        provider=series.provider,
        model=series.model,
        questions=len(series),
        first=create_place(0, series.times),
        last=create_place(len(series) - 1, series.times),
        size=size,
        reference="file" if profile is None else "head",
        reference_questions=own_profile.questions,
        tested=len(series) - first,
        compared=tuple(names),
        movements=tuple(movements),
        reasons=find_reasons(series, movements),
        notes=(f"Not compared, since the reference lacks them: {', '.join(missing)}.",) if missing else (),
        traces={name: _trace(name, tested[:, names.index(name)]) for name in moved},
    )


def _run_test(test: SequentialTest, values: F64) -> list[list[tuple[int, float]]]:
    """Run the test over the questions (T, S); return (question, questions per false alarm) of each one's alarms."""
    alarms: list[list[tuple[int, float]]] = [[] for _ in range(values.shape[1])]
    for question in range(len(values)):
        for number in test.update(values[question : question + 1]):
            alarms[number].append((question, 0.0))
        if test.is_alarmed.any():
            # An alarm at the evidence e would come at most once in e / S questions without a change.
            strengths = test.evidence / len(alarms)
            for number in np.flatnonzero(test.is_alarmed).tolist():
                place, strength = alarms[number][-1]
                alarms[number][-1] = (place, max(strength, float(strengths[number])))
    return alarms


def _normal_scores(profile: DriftProfile, index: int, column: int, values: F64) -> F64:
    """Return the normal scores (T,) of values by their mid-rank in the reference; NaN for NaN."""
    edges, counts = profile.edges[index, column], profile.counts[index, column].astype(np.float64)
    scores = normal_scores(with_outer_halves(edges[None], counts[None]), least=1e-4)[0]
    return np.where(np.isnan(values), np.nan, scores[np.minimum(cells_of(edges, values), len(scores) - 1)])


def _movements(
    name: str,
    alarms: Sequence[tuple[int, float]],
    scores: F64,
    values: F64,
    first: int,
    profile: DriftProfile,
    size: int,
    times: list[float],
) -> list[Movement]:
    """Return one movement per alarm that is not explained by the one before."""
    movements: list[Movement] = []
    done = 0  # questions before it belong to earlier movements
    for alarm, strength in alarms[:_MAX_MOVEMENTS]:
        if alarm < done:
            continue
        change = locate_change(scores[done:], alarm - done)
        if change is None:
            continue
        start, low, high = (first + done + place for place in (change.start, change.low, change.high))
        end = None if change.end is None else first + done + change.end
        reference = tuple(profile.quantile(name, share, n=size) or 0.0 for share in QUANTILES)
        movements.append(
            Movement(
                statistic=name,
                label=STATISTICS[name].label,
                description=STATISTICS[name].description,
                alarm=create_place(first + alarm, times),
                start=create_place(start, times),
                earliest=create_place(low, times),
                latest=create_place(high, times),
                end=None if end is None else create_place(end, times),
                reference=reference,
                before=reference_level(profile, name, n=size) or 0.0,
                after=_level(name, values[start:end]),
                questions_per_false_alarm=strength,
            )
        )
        if end is None:
            break
        done = end - first
    return movements


def _level(name: str, values: F64) -> float:
    """Return the median of values, or the mean of a share; NaN if all are missing."""
    present = values[~np.isnan(values)]
    if not len(present):
        return float("nan")
    return float(present.mean() if name in SHARES else np.median(present))


def _trace(name: str, values: F64) -> Trace:
    """Return running levels over a window of a twentieth of the questions, at least 15."""
    half = max(15, len(values) // 20) // 2
    places = np.unique(np.linspace(0, len(values) - 1, _TRACE_POINTS).round().astype(int))
    levels = [_level(name, values[max(0, place - half) : place + half + 1]) for place in places]
    return Trace(questions=(places + 1).astype(np.float64), levels=np.array(levels))
