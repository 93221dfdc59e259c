"""Result types of evaluations, simulations and learning curves; every number has its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np

from swift_client.evaluation.scratch.resampling import resample_rows
from swift_client.features.segments import F64
from swift_client.training.metrics import Reliability


class _Result:
    """Base of the results, which can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: keys become strings, NaN None."""
        plain: dict[str, Any] = plain_values(self)
        return plain


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, by paired bootstrap over questions; NaN if it is undefined."""

    value: float
    low: float
    high: float


def resampled_sums(columns: F64, *, resamples: int, seed: int) -> F64:
    """Return the columns' sums over questions drawn with replacement, (R, C), for finite columns (Q, C).

    All columns share the drawn questions, so differences between them are paired.
    """
    return sums_with_resamples(columns, resamples=resamples, seed=seed)[1:]


def sums_with_resamples(columns: F64, *, resamples: int, seed: int) -> F64:
    """Return the columns' sums over all questions, followed by those over resampled ones, (1 + R, C)."""

    def fill(rows: slice, out: F64) -> None:
        out[:] = columns[rows]

    return resample_rows(fill, columns.shape, resamples=resamples, seed=seed)


def weighted_means(columns: F64, weights: F64, *, resamples: int, seed: int) -> list[Estimate]:
    """Return the weighted mean of each column (Q, C) without NaN, with its interval over resampled questions.

    Each question brings its weight (Q,) into the resamples that draw it.
    """
    table = np.concatenate([np.nan_to_num(columns), ~np.isnan(columns)], axis=1) * weights[:, None]
    sums = sums_with_resamples(table, resamples=resamples, seed=seed)
    width = columns.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return [estimate(column) for column in (sums[:, :width] / sums[:, width:]).T]


def estimate(values: F64) -> Estimate:
    """Return the first value with the 95 % interval of the others, which are its resamples; NaN is left out."""
    value, resampled = float(values[0]), values[1:]
    finite = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(finite):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True, eq=False, kw_only=True)
class Row(_Result):
    """One method of choosing among n completions. Keys of the mappings are n.

    Attributes:
        name: Key, such as "head_vote".
        label: Name for people, such as "This head, vote".
        kind: Chooses by score, sums over answers, or is right if any of n is.
        needs_labels: Trained on labelled questions.
        accuracy: Share of questions whose choice is right, 0..1.
        minus_majority: Accuracy less that of majority on the same subsets, -1..1.
        minus_label_free: Accuracy less that of ``Evaluation.label_free`` on the same subsets, -1..1.
        gain: ``minus_label_free``, mean over ``Evaluation.gain_ns``: the number that a head is judged by.
        gain_over_majority: ``minus_majority``, mean over the same n.
        gap_closed: (accuracy - first) / (oracle - first); None if any of n is right no more often than the
            first.
        within_question_auroc: Over all completions of each question; None if the method has no score per
            completion.
        pooled_auroc: Over all completions of all questions.
        brier: At the largest n; None if the method has no probability.
        ece: Expected calibration error in 15 bins of equal mass, at the largest n.
        brier_at: Per n: probabilities of a head that counts agreement depend on the number of completions.
    """

    name: str
    label: str
    kind: Literal["single", "vote", "oracle"]
    needs_labels: bool
    accuracy: Mapping[int, Estimate]
    minus_majority: Mapping[int, Estimate]
    minus_label_free: Mapping[int, Estimate] = field(default_factory=dict)
    gain: Estimate | None = None
    gain_over_majority: Estimate | None = None
    gap_closed: Mapping[int, float | None] = field(default_factory=dict)
    within_question_auroc: Estimate | None = None
    pooled_auroc: float | None = None
    brier: float | None = None
    ece: float | None = None
    brier_at: Mapping[int, float] = field(default_factory=dict)
    ece_at: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadDifference(_Result):
    """The paired difference between the votes of two heads on the same draws of the same questions.

    Attributes:
        questions: Number of questions, which neither head was trained on.
        accuracy: Share of questions that the first head chooses right, by n, 0..1.
        other_accuracy: The same for the second head.
        at: The second less the first, by n, -1..1.
        mean: The mean of these differences.
    """

    questions: int
    accuracy: Mapping[int, Estimate]
    other_accuracy: Mapping[int, Estimate]
    at: Mapping[int, Estimate]
    mean: Estimate


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(_Result):
    """Results of all methods on the same questions and the same subsets of their completions.

    Attributes:
        families: Number of questions per family; "unknown" for those without.
        split: Evaluated part of the questions: "train", "validation", "test" or "all".
        subsets: Maximum number of subsets per question and n; all subsets if there are fewer.
        tokens: Mean completion tokens per question at each n.
        reliability: Of the head's probabilities at the largest n.
        head: Facts of the head: name, k_min, k_max, verdict, its training; empty without one.
        label_free: The row that a head has to beat: the rule without labels that was right most often on validation
            questions; the default without a head if there are none.
        gain_ns: The n that a head is judged at, 2, 4 and 8, as far as they were evaluated.
        judge_calls: Mean verdicts per question at each n, by the identity of the verifier; empty without stored
            judgements.
        shadow: The difference of the shadow head's vote to the head's; None without one.
        notes: Deviations and omissions, one sentence each.
    """

    rows: tuple[Row, ...]
    ns: tuple[int, ...]
    questions: int
    completions: int
    families: Mapping[str, int]
    split: str
    subsets: int
    seed: int
    tokens: Mapping[int, float]
    reliability: Reliability | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    model: str | None = None
    label_free: str = "default"
    gain_ns: tuple[int, ...] = ()
    judge_calls: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    shadow: HeadDifference | None = None
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> Row:
        """Return the row of this name. Raises KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; rows by name, n as strings, None for NaN."""
        plain = super().to_dict()
        del plain["rows"], plain["reliability"]  # both come last
        bins = None
        if self.reliability is not None:
            parts = (self.reliability.predicted, self.reliability.observed, self.reliability.counts)
            bins = dict(zip(("said", "came_true", "count"), (part.tolist() for part in parts), strict=True))
        return {**plain, "reliability": bins, "rows": {row.name: row.to_dict() for row in self.rows}}


ChoiceMethod = Literal["majority", "vote", "posterior", "best"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Replayed:
    """Result of one stopping rule with one way to choose among the completions that it drew.

    Attributes:
        name: Rule, as ``stopping_rule`` parses it; "fixed:4" draws four, "deepconf_low" and "_high" abort
            completions, "abort_deepconf" and "abort_head" close streams as ``best_of`` does.
        choice: "majority", counts with ties to the first; "vote", as ``best_of`` votes; "posterior", the
            answer with the greatest posterior odds; "best", the best score.
        published: The rule's authors choose this way.
        swept: The rule has another value of its main parameter than the default.
        minus_majority: Difference to majority over all n, paired.
        minus_vote: Difference to the vote of ``best_of`` over all n, paired.
        completions: Mean completions per question, including aborted ones.
        token_share: Completion tokens divided by those of all n.
    """

    name: str
    choice: ChoiceMethod
    published: bool
    source: str
    swept: bool = False
    accuracy: Estimate
    minus_majority: Estimate
    minus_vote: Estimate
    completions: Estimate
    token_share: Estimate


@dataclass(frozen=True, eq=False, kw_only=True)
class Simulation(_Result):
    """Results of all rules on the same questions, in the same orders of their completions.

    Attributes:
        waves: Completions drawn before each call of a rule; the last number repeats.
        completions: Replayed completions.
        majority: Accuracy of majority over all n.
        tokens: Mean completion tokens of all n, per question.
        prompt_tokens: Mean prompt tokens per call; None if unknown. A rule with one call per completion pays
            them ``completions`` times.
    """

    rows: tuple[Replayed, ...]
    n: int
    orders: int
    waves: tuple[int, ...]
    questions: int
    completions: int
    majority: Estimate
    tokens: float
    prompt_tokens: float | None
    split: str
    seed: int
    head: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()

    def row(self, name: str, choice: ChoiceMethod | None = None) -> Replayed:
        """Return the row of this rule, the first or that of a choice. Raises KeyError if there is none."""
        for row in self.rows:
            if row.name == name and choice in (None, row.choice):
                return row
        raise KeyError(name if choice is None else f"{name}, {choice}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the rows last; None for NaN."""
        plain = super().to_dict()
        rows = plain.pop("rows")
        return {**plain, "rows": rows}


CurveAxis = Literal["questions", "n", "family"]
# Rows of an evaluation that a learning curve keeps.
CURVE_METHODS = ("head_vote", "head", "majority", "mean_logprob", "first", "oracle")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Heads trained on one set of questions, evaluated on another at one n; numbers are means over the heads.

    Intervals resample the test questions. Those of several heads are means too, which is wider than the mean's own
    interval, never narrower.
    """

    # Training questions, such as "all", "50 questions" or a family's name; the name of a given head.
    trained_on: str
    tested_on: str  # a family's name, or "test"
    size: int  # questions for training and validation; 0 for a given head
    n: int
    tested: int  # test questions, of which those with n completions count
    # Share of questions whose choice is right, by the row's name in CURVE_METHODS.
    accuracy: Mapping[str, Estimate]
    minus_majority: Mapping[str, Estimate]  # the same less that of majority, paired
    within_question_auroc: Estimate  # of the head, over all completions
    heads: int = 1  # number of heads, one per seed
    # Number of heads that their training found better than chance within a question; ``best_of`` ignores others.
    helping: int
    # Standard deviation over the heads, of accuracy by row and of "within_question_auroc"; NaN for one head.
    spread: Mapping[str, float]

    @classmethod
    def from_evaluation(
        cls, evaluation: Evaluation, n: int, *, trained_on: str, tested_on: str, size: int, beats_majority: bool
    ) -> Point:
        """Create the point of one n of an evaluation."""
        rows = {name: evaluation.row(name) for name in CURVE_METHODS}
        return cls(
            trained_on=trained_on,
            tested_on=tested_on,
            size=size,
            n=n,
            tested=evaluation.questions,
            accuracy={name: row.accuracy[n] for name, row in rows.items()},
            minus_majority={name: row.minus_majority[n] for name, row in rows.items()},
            within_question_auroc=rows["head"].within_question_auroc or Estimate(np.nan, np.nan, np.nan),
            helping=int(beats_majority),
            spread=dict.fromkeys((*CURVE_METHODS, "within_question_auroc"), np.nan),
        )

    @staticmethod
    def mean(points: Sequence[Point]) -> Point:
        """Merge points that differ only in the seed of training."""
        if len(points) == 1:
            return points[0]
        first = points[0]
        accuracies = {name: [point.accuracy[name] for point in points] for name in first.accuracy}
        differences = {name: [point.minus_majority[name] for point in points] for name in first.accuracy}
        aurocs = [point.within_question_auroc for point in points]
        return replace(
            first,
            accuracy={name: _mean_estimate(estimates) for name, estimates in accuracies.items()},
            minus_majority={name: _mean_estimate(estimates) for name, estimates in differences.items()},
            within_question_auroc=_mean_estimate(aurocs),
            heads=len(points),
            helping=sum(point.helping for point in points),
            spread={
                name: float(np.std([estimate.value for estimate in estimates], ddof=1))
                for name, estimates in (accuracies | {"within_question_auroc": aurocs}).items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class Curve(_Result):
    """A learning curve: its points in order."""

    over: CurveAxis
    points: tuple[Point, ...]
    provider: str
    model: str
    notes: tuple[str, ...] = ()  # deviations and omissions, one sentence each


def _mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    value, low, high = np.mean([(part.value, part.low, part.high) for part in estimates], axis=0).tolist()
    return Estimate(value, low, high)


def plain_values(value: Any) -> Any:
    """Return JSON values: dataclasses as objects, keys as strings, tuples as lists, None for NaN and infinity."""
    if is_dataclass(value):
        return {field.name: plain_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
