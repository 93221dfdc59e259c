"""How far a head carries: accuracy against the questions it learned from, against n, and across families of questions.

Every point is a head judged by :func:`evaluate` on questions that it was not fitted to, so majority, the most
confident answer and the oracle stand beside it, on the same questions and the same draws of their completions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.stored import FilePath
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback
from swift_client.evaluation.learning_curve.heads import CurveHeads
from swift_client.evaluation.result import Estimate, Evaluation, plain_values
from swift_client.models import AnyHead
from swift_client.models.resolve_head import load_any_head
from swift_client.training.recipes import Recipe

SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
NS = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("head_vote", "head", "majority", "mean_logprob", "first", "oracle")
"""Rows of ``evaluate`` that a curve keeps."""
TEST_TARGET = "test"
"""What a point is tested on where families stay together."""

CurveAxis = Literal["questions", "n", "family"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Heads trained on one set of questions, judged on another at one n; numbers are means over the heads.

    Intervals resample the questions that were judged on; those of several heads are means too, which is wider rather
    than narrower than the mean's own.
    """

    trained_on: str
    """Which questions, such as "all", "50 questions" or a family's name; a head's name where one was given."""
    tested_on: str
    """A family's name, or "test"."""
    size: int
    """Questions that a head was trained and validated on; 0 for a head that was given."""
    n: int
    tested: int
    """Questions that it was judged on, of which those with n completions count."""
    accuracy: Mapping[str, Estimate]
    """Share of questions whose pick is right, by the row's name in METHODS."""
    minus_majority: Mapping[str, Estimate]
    """The same less majority's, paired."""
    within_question_auroc: Estimate
    """The head's, over whole pools."""
    heads: int = 1
    """Seeds that were trained with."""
    helping: int
    """Heads that their own training found better than chance within a question; ``best_of`` counts without others."""
    spread: Mapping[str, float]
    """Standard deviation over the heads, of accuracy by row and of "within_question_auroc"; NaN for one head."""

    @classmethod
    def from_evaluation(
        cls, evaluation: Evaluation, n: int, *, trained_on: str, tested_on: str, size: int, beats_majority: bool
    ) -> Point:
        """Read one n of an evaluation."""
        rows = {name: evaluation.row(name) for name in METHODS}
        auroc = rows["head"].within_question_auroc
        return cls(
            trained_on=trained_on,
            tested_on=tested_on,
            size=size,
            n=n,
            tested=evaluation.questions,
            accuracy={name: row.accuracy[n] for name, row in rows.items()},
            minus_majority={name: row.minus_majority[n] for name, row in rows.items()},
            within_question_auroc=auroc or Estimate(np.nan, np.nan, np.nan),
            helping=int(beats_majority),
            spread=dict.fromkeys((*METHODS, "within_question_auroc"), np.nan),
        )

    @classmethod
    def mean(cls, points: Sequence[Point]) -> Point:
        """Join what differs in nothing but the seed of training."""
        if len(points) == 1:
            return points[0]
        one = points[0]
        said = {name: [point.accuracy[name] for point in points] for name in one.accuracy}
        aurocs = [point.within_question_auroc for point in points]
        return cls(
            trained_on=one.trained_on,
            tested_on=one.tested_on,
            size=one.size,
            n=one.n,
            tested=one.tested,
            accuracy={name: _mean_estimate(each) for name, each in said.items()},
            minus_majority={name: _mean_estimate([point.minus_majority[name] for point in points]) for name in said},
            within_question_auroc=_mean_estimate(aurocs),
            heads=len(points),
            helping=sum(point.helping for point in points),
            spread={
                name: float(np.std([each.value for each in found], ddof=1))
                for name, found in (said | {"within_question_auroc": aurocs}).items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The points in order, and what they are of."""

    over: CurveAxis
    points: tuple[Point, ...]
    provider: str
    model: str
    notes: tuple[str, ...] = ()
    """What did not go as asked or was left out, one sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        plain: dict[str, Any] = plain_values(asdict(self))
        return plain


class _TrainingSet(NamedTuple):
    """Questions that heads are trained on."""

    name: str
    size: int
    family: str | None = None


def compute_curve(
    samples: FilePath | Sequence[FilePath],
    over: CurveAxis,
    *,
    sizes: Sequence[int] | None = None,
    ns: Sequence[int] = NS,
    n: int = 8,
    test: FilePath | Sequence[FilePath] | None = None,
    head: FilePath | AnyHead | None = None,
    recipe: str | Recipe = "default",
    answer: answers.Spec = "auto",
    grade: GraderSpec = "auto",
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    seeds: int = 1,
    progress: ProgressCallback = lambda stage, done: None,
) -> Curve:
    """Draw one of three curves from samples files of one model.

    "questions": heads trained on ever more of the questions that are not for test, the smaller sets within the larger,
    each judged at ``n``. "n": one head judged at each of ``ns``. "family": a head for each family of questions, and one
    for all, judged at ``n`` on each family's test questions. A question's family is what its samples file says, or,
    of several files, the name of the file that says nothing.

    Args:
        samples: the files; the question's id says whether it is for training or test, as everywhere.
        over: what changes from point to point.
        sizes: numbers of questions, for "questions"; those beyond what there is are left out, and all there are added.
            Default: SIZES.
        ns: completions to choose from, for "n".
        n: the same for the other two.
        test: files of other questions to judge on, instead of the test questions of ``samples``.
        head: for "n", a head or its file; None trains one.
        recipe: how heads are trained.
        answer: how answers are compared.
        grade: how completions without a label are compared with their question's answer.
        subsets: draws of n completions a question.
        resamples: of the questions, for the 95 % intervals.
        seed: of training, subsets of questions and draws.
        seeds: heads a point, each with a seed, and a subset of questions, of its own; the draws stay the same.
        progress: told "heads" and how many were begun, and the stages of each.

    Raises:
        ConfigurationError: a wrong argument, files that cannot be read, too few questions to train or to judge on, or
            a family without test questions.
        MissingExtraError: training needs the extra "train".
    """
    if over not in ("questions", "n", "family"):
        raise ConfigurationError(f"There is no curve over {over!r}.", hint="Use questions, n or family.")
    if head is not None and over != "n":
        raise ConfigurationError("A head can be given for the curve over n only.", hint="The others train their own.")
    if min((*(sizes or ()), *ns, n, seeds), default=0) < 1 or not ns:
        raise ConfigurationError(
            f"sizes={sizes}, ns={ns}, n={n} and seeds={seeds} must all be 1 or more.",
            hint="Leave out what you have no wish for: there are defaults.",
        )
    given = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    heads = CurveHeads(samples, test, recipe=recipe, answer=answer, grade=grade, progress=progress)
    asked = tuple(ns) if over == "n" else (n,)
    targets: Sequence[str | None] = [None]
    learned = [_TrainingSet("all", len(heads.train_families))]
    if given is None:
        heads.check(asked)
    else:
        learned, seeds = [_TrainingSet(given.name, 0)], 1
    if over == "questions":
        learned = _nested_training_sets(heads, sizes)
    elif over == "family":
        families, targets = heads.list_families()
        counts = {family: sum(each == family for each in heads.train_families.values()) for family in families}
        learned = [*(_TrainingSet(family, counts[family], family) for family in families), *learned]
    found: dict[tuple[str, str, int], list[Point]] = {}
    said: dict[str, set[tuple[str, str]]] = {}
    for begun, (which, each) in enumerate([(which, each) for which in learned for each in range(seeds)], 1):
        progress("heads", begun)
        judged = _train_head(heads, which, seed + each) if given is None else given
        for target in targets:
            table = heads.evaluate_head(judged, asked, family=target, subsets=subsets, resamples=resamples, seed=seed)
            where = target or TEST_TARGET
            for at in table.ns:
                point = Point.from_evaluation(
                    table,
                    at,
                    trained_on=which.name,
                    tested_on=where,
                    size=which.size,
                    beats_majority=judged.beats_majority,
                )
                found.setdefault((which.name, where, at), []).append(point)
            for note in table.notes:
                said.setdefault(note, set()).add((which.name, where))
    return Curve(
        over=over,
        points=tuple(Point.mean(points) for points in found.values()),
        provider=heads.provider,
        model=heads.model,
        notes=(
            *heads.notes,
            *_merge_notes(said, [each.name for each in learned], [target or TEST_TARGET for target in targets]),
        ),
    )


def _nested_training_sets(heads: CurveHeads, sizes: Sequence[int] | None) -> list[_TrainingSet]:
    """Return the sets of questions, from small to all."""
    there = len(heads.train_families)
    if left := sorted({size for size in sizes or () if size > there}):
        listed = ", ".join(map(str, left))
        heads.notes.append(f"{listed} questions are left out: there are {there} to learn from.")
    wanted = sorted({size for size in (SIZES if sizes is None else sizes) if size < there} | {there})
    return [_TrainingSet(f"{size} questions", size) for size in wanted]


def _train_head(heads: CurveHeads, training_set: _TrainingSet, seed: int) -> AnyHead:
    ids = heads.shuffle_questions(seed)[: training_set.size]
    if training_set.family is not None:
        ids = [key for key, family in heads.train_families.items() if family == training_set.family]
    return heads.train_head(set(ids), training_set.name, seed)


def _merge_notes(
    occurrences: Mapping[str, set[tuple[str, str]]], training_names: Sequence[str], target_names: Sequence[str]
) -> list[str]:
    """Return each note once, with the heads and families that it is about where it is not about all."""
    notes = []
    for note, where in occurrences.items():
        heads = [name for name in training_names if name in {head for head, _ in where}]
        tested = [name for name in target_names if name in {target for _, target in where}]
        about = [f"trained on {', '.join(heads)}"] if len(heads) < len(training_names) else []
        about += [f"tested on {', '.join(tested)}"] if len(tested) < len(target_names) else []
        notes.append(f"Heads {' and '.join(about)}: {note}" if about else note)
    return notes


def _mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    value, low, high = np.mean([(each.value, each.low, each.high) for each in estimates], axis=0).tolist()
    return Estimate(value, low, high)
