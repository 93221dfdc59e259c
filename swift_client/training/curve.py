"""How far a head carries: accuracy against the questions it learned from, against n, and across families of questions.

Every point is one head judged by :func:`evaluate` on questions that it was not fitted to, so majority, the most
confident answer and the oracle stand beside it, on the same questions and the same draws of their completions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from swift_client import answers
from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead
from swift_client.scorers import load_any_head
from swift_client.training.evaluate import answer_of, evaluate
from swift_client.training.evaluation import Estimate, Evaluation, plain_values
from swift_client.training.files import File
from swift_client.training.graders import GraderSpec
from swift_client.training.groups import Group
from swift_client.training.recipes import Recipe, recipe_of
from swift_client.training.splits import Split, fraction
from swift_client.training.stored import StoredGroups, states_of

SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
NS = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("head_vote", "head", "majority", "mean_logprob", "first", "oracle")
"""Rows of ``evaluate`` that a curve keeps."""

Over = Literal["questions", "n", "family"]
Progress = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One head on one set of questions, at one n."""

    trained_on: str
    """Which questions, such as "all" or a family's name."""
    tested_on: str
    size: int
    """Questions that the head was trained and validated on; 0 for a head that was given."""
    n: int
    tested: int
    """Questions that it was judged on."""
    accuracy: Mapping[str, Estimate]
    """Share of questions whose pick is right, by the row's name in METHODS."""
    minus_majority: Mapping[str, Estimate]
    """The same less majority's, paired."""
    within_question_auroc: Estimate
    """The head's, over whole pools."""
    verdict: str
    """What the head's own training says of it."""

    @classmethod
    def of(cls, table: Evaluation, n: int, *, trained_on: str, tested_on: str, size: int) -> Point:
        """Read one n of an evaluation."""
        rows = {name: table.row(name) for name in METHODS}
        auroc = rows["head"].within_question_auroc
        return cls(
            trained_on=trained_on,
            tested_on=tested_on,
            size=size,
            n=n,
            tested=table.questions,
            accuracy={name: row.accuracy[n] for name, row in rows.items()},
            minus_majority={name: row.minus_majority[n] for name, row in rows.items()},
            within_question_auroc=auroc or Estimate(float("nan"), float("nan"), float("nan")),
            verdict=str(table.head.get("verdict", "unknown")),
        )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The points in order, and what they are of."""

    over: Over
    points: tuple[Point, ...]
    provider: str
    model: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        plain: dict[str, Any] = plain_values(asdict(self))
        return plain


class _Some:
    """Those of a file's questions that ``wanted`` says, read anew in each pass."""

    def __init__(self, groups: StoredGroups, wanted: Callable[[Group], bool]) -> None:
        self._groups, self._wanted = groups, wanted

    def __iter__(self) -> Iterator[Group]:
        return (group for group in self._groups if self._wanted(group))


def curve(
    samples: File | Sequence[File],
    over: Over,
    *,
    sizes: Sequence[int] = SIZES,
    ns: Sequence[int] = NS,
    n: int = 8,
    test: File | Sequence[File] | None = None,
    head: File | AnyHead | None = None,
    recipe: str | Recipe = "default",
    answer: answers.Spec = "auto",
    grade: GraderSpec = "auto",
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = lambda stage, done: None,
) -> Curve:
    """Draw one of three curves from samples files of one model.

    "questions": heads trained on ever more of the questions that are not for test, the smaller sets within the larger,
    each judged at ``n``. "n": one head judged at each of ``ns``. "family": a head for each family of questions, and one
    for all, judged at ``n`` on each family's test questions.

    Args:
        samples: the files; the question's id says whether it is for training or test, as everywhere.
        over: what changes from point to point.
        sizes: numbers of questions, for "questions"; those beyond what there is are left out, and all there are added.
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
        progress: told "heads" and how many were judged.

    Raises:
        ConfigurationError: files that cannot be read, or too few questions to train or to judge on.
        MissingExtraError: training needs the extra "train".
    """
    if over not in ("questions", "n", "family"):
        raise ConfigurationError(f"There is no curve over {over!r}.", hint="Use questions, n or family.")
    work = _Work(samples, test, recipe=recipe, answer=answer, grade=grade, seed=seed)
    judged: dict[str, Any] = {"subsets": subsets, "resamples": resamples, "seed": seed}
    points: list[Point] = []
    if over == "n":
        artifact = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
        name, size = ("all", len(work.known)) if artifact is None else (artifact.name, 0)
        table = work.judge(artifact or work.fitted(set(work.known)), ns, **judged)
        points = [Point.of(table, at, trained_on=name, tested_on="test", size=size) for at in table.ns]
        return work.curve(over, points, table.notes)
    if over == "questions":
        wanted = sorted({size for size in sizes if 0 < size < len(work.known)} | {len(work.known)})
        sets = [(f"{size} questions", set(work.known[:size]), ["test"]) for size in wanted]
    else:
        families = work.families()
        sets = [(family, {key for key in work.known if work.family[key] == family}, families) for family in families]
        sets.append(("all", set(work.known), families))
    notes: list[str] = []
    for name, ids, targets in sets:
        artifact = work.fitted(ids)
        for target in targets:
            table = work.judge(artifact, [n], family=target if over == "family" else None, **judged)
            points.append(Point.of(table, n, trained_on=name, tested_on=target, size=len(ids)))
            notes += [note for note in table.notes if note not in notes]
        progress("heads", len({point.trained_on for point in points}))
    return work.curve(over, points, notes)


class _Work:
    """The questions of the files, by what they are for."""

    def __init__(
        self,
        samples: File | Sequence[File],
        test: File | Sequence[File] | None,
        *,
        recipe: str | Recipe,
        answer: answers.Spec,
        grade: GraderSpec,
        seed: int,
    ) -> None:
        self._recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
        self._answer, self._grade, self._seed, self._split = answer, grade, seed, Split()
        self._paths, self._test = _paths(samples), None if test is None else _paths(test)
        self._groups = StoredGroups(
            self._paths,
            grade=grade,
            states=self._recipe.states,
            layers=self._recipe.layers if self._recipe.states else None,
        )
        self.family: dict[str, str] = {}
        """Question → its family."""
        known = []
        for group in StoredGroups(self._paths, grade=grade):
            self.family[group.question_id] = group.family or "unknown"
            if self._test is not None or self._split.part(group.question_id) != "test":
                known.append(group.question_id)
        self.known = sorted(known, key=lambda key: fraction(f"curve:{seed}:{key}"))
        """Questions to train on, in an order that any smaller set is the beginning of."""

    def families(self) -> list[str]:
        """Return the families' names; ConfigurationError where there is one only."""
        found = sorted(set(self.family.values()))
        if len(found) < 2:
            raise ConfigurationError(
                f"All questions are of one family, {found[0]!r}." if found else "There are no questions.",
                hint='Give questions a "family" in the file that `swift-client collect` reads.',
            )
        return found

    def fitted(self, ids: set[str]) -> AnyHead:
        """Train a head on these questions alone."""
        from swift_client.training.fit import fit  # torch is imported where training begins

        test = 0.0 if self._test is not None else self._split.test
        try:
            return fit(
                _Some(self._groups, lambda group: group.question_id in ids),
                provider=self._groups.provider,
                model=self._groups.model,
                answer=self._answer,
                recipe=self._recipe,
                split=Split(test=test),
                seed=self._seed,
                layout=self._groups.layout,
            ).artifact
        except ConfigurationError as error:
            raise ConfigurationError(f"With {len(ids)} questions: {error.message}", hint=error.hint) from error

    def judge(self, head: AnyHead, ns: Sequence[int], *, family: str | None = None, **options: Any) -> Evaluation:
        """Evaluate a head on test questions, or those of one family."""
        paths = self._paths if self._test is None else self._test
        groups = StoredGroups(paths, grade=self._grade, **states_of(head))
        try:
            return evaluate(
                head,
                _Some(groups, lambda group: family in (None, group.family or "unknown")),
                split="test" if self._test is None else "all",
                ns=ns,
                answer=answer_of(head) if self._answer == "auto" else self._answer,
                trained=False,
                provider=groups.provider,
                model=groups.model,
                **options,
            )
        except ConfigurationError as error:
            of = "" if family is None else f"Family {family!r}: "
            raise ConfigurationError(f"{of}{error.message}", hint=error.hint) from error

    def curve(self, over: Over, points: Sequence[Point], notes: Sequence[str]) -> Curve:
        """Join the points."""
        kept = tuple(note for note in notes if "left out, and CISC" not in note)  # no curve has these rows
        return Curve(
            over=over, points=tuple(points), provider=self._groups.provider, model=self._groups.model, notes=kept
        )


def _paths(samples: File | Sequence[File]) -> Sequence[File]:
    return [samples] if isinstance(samples, (str, os.PathLike)) else samples
