"""Learning curves: accuracy against training questions, against n, and across families of questions.

Each point is a head evaluated by ``evaluate()`` on questions that it was not fitted to, beside majority, the most
confident answer and the oracle, on the same questions and the same draws of their completions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.dataset.splits import Split, hash_fraction
from swift_client.dataset.stored import FilePath, StoredGroups, state_options
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.evaluation.evaluate import ProgressCallback, evaluate, get_answer_spec, get_split
from swift_client.evaluation.result import Curve, CurveAxis, Evaluation, Point
from swift_client.models import AnyHead
from swift_client.models.resolve_head import load_any_head
from swift_client.store import StoredQuestion
from swift_client.training.recipes import Recipe, recipe_of

SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
NS = (1, 2, 4, 8, 16, 32, 64)
TEST_TARGET = "test"  # ``tested_on`` of a point, unless families are tested separately

# Returns whether to read a question, given its id and family.
_QuestionFilter = Callable[[str, str], bool]


class _TrainingSet(NamedTuple):
    name: str
    size: int
    family: str | None = None


def compute_curve(
    samples: FilePath | Sequence[FilePath],
    over: CurveAxis,
    *,
    sizes: Sequence[int] | None = None,
    ns: Sequence[int] = NS,
    n: int = 16,
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
    """Compute one of three curves from samples files of one model.

    "questions": train heads on growing, nested subsets of the training questions and evaluate each at ``n``. "n":
    evaluate one head at each of ``ns``. "family": train a head on each family of questions, and one on all, and
    evaluate them at ``n`` on each family's test questions. The family of a question is stored in its samples file; of
    several files, each file without families counts as one family, named after the file.

    Args:
        samples: the files; a question's id decides whether it is for training or test, as everywhere.
        over: the axis of the curve.
        sizes: numbers of training questions, for "questions"; those above the existing number are left out, and all
            existing questions are added. Default: SIZES.
        ns: numbers of completions to choose from, for "n".
        n: the number for the other two.
        test: files of other test questions, instead of the test questions of ``samples``.
        head: for "n", a head or its file; None trains one.
        recipe: training recipe.
        answer: how answers are compared.
        grade: how completions without a label are compared with their question's answer.
        subsets: draws of n completions per question.
        resamples: of the questions, for the 95 % intervals.
        seed: of training, of the subsets of questions and of the draws.
        seeds: heads per point, each with its own seed and subset of questions; the draws stay the same.
        progress: called with "heads" and the number begun, and with the stages of each.

    Raises:
        ConfigurationError: a wrong argument, unreadable files, too few questions for training or test, or a family
            without test questions.
        MissingExtraError: training needs the extra "train".
    """
    if over not in ("questions", "n", "family"):
        raise ConfigurationError(f"There is no curve over {over!r}.", hint="Use questions, n or family.")
    if head is not None and over != "n":
        raise ConfigurationError("A head can be given for the curve over n only.", hint="The others train their own.")
    if min((*(sizes or ()), *ns, n, seeds), default=0) < 1 or not ns:
        raise ConfigurationError(
            f"sizes={sizes}, ns={ns}, n={n} and seeds={seeds} must all be 1 or more.",
            hint="All of them have defaults, and may be left out.",
        )
    given_head = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    heads = _CurveHeads(samples, test, recipe=recipe, answer=answer, grade=grade, progress=progress)
    curve_ns = tuple(ns) if over == "n" else (n,)
    if given_head is None:
        heads.check(curve_ns)

    # List what heads are trained on, and which families they are tested on; None for all.
    test_families: Sequence[str | None] = [None]
    training_sets = [_TrainingSet("all", len(heads.train_families))]
    if given_head is not None:
        training_sets, seeds = [_TrainingSet(given_head.name, 0)], 1
    elif over == "questions":
        training_sets = _nested_training_sets(heads, sizes)
    elif over == "family":
        families, test_families = heads.list_families()
        sizes_by_family = [list(heads.train_families.values()).count(family) for family in families]
        by_family = [_TrainingSet(*item) for item in zip(families, sizes_by_family, families, strict=True)]
        training_sets = [*by_family, *training_sets]

    # Train and evaluate; points that differ only in the seed are merged.
    points: dict[tuple[str, str, int], list[Point]] = {}
    note_sources: dict[str, set[tuple[str, str]]] = {}
    plan = [(training_set, offset) for training_set in training_sets for offset in range(seeds)]
    for number, (training_set, offset) in enumerate(plan, 1):
        progress("heads", number)
        trained_head = heads.train_head(training_set, seed + offset) if given_head is None else given_head
        for family in test_families:
            table = heads.evaluate_head(
                trained_head, curve_ns, family=family, subsets=subsets, resamples=resamples, seed=seed
            )
            target = family or TEST_TARGET
            for table_n in table.ns:
                point = Point.from_evaluation(
                    table,
                    table_n,
                    trained_on=training_set.name,
                    tested_on=target,
                    size=training_set.size,
                    beats_majority=trained_head.beats_majority,
                )
                points.setdefault((training_set.name, target, table_n), []).append(point)
            for note in table.notes:
                note_sources.setdefault(note, set()).add((training_set.name, target))
    training_names = [training_set.name for training_set in training_sets]
    notes = _merge_notes(note_sources, training_names, [family or TEST_TARGET for family in test_families])
    return Curve(
        over=over,
        points=tuple(map(Point.mean, points.values())),
        provider=heads.provider,
        model=heads.model,
        notes=(*heads.notes, *notes),
    )


def _nested_training_sets(heads: _CurveHeads, sizes: Sequence[int] | None) -> list[_TrainingSet]:
    """Return the training sets, from small to all."""
    n_questions = len(heads.train_families)
    if omitted := sorted({size for size in sizes or () if size > n_questions}):
        sizes_text = ", ".join(map(str, omitted))
        heads.notes.append(f"{sizes_text} questions are left out: there are {n_questions} training questions.")
    usable = sorted({size for size in (SIZES if sizes is None else sizes) if size < n_questions} | {n_questions})
    return [_TrainingSet(f"{size} questions", size) for size in usable]


def _merge_notes(
    sources: Mapping[str, set[tuple[str, str]]], training_names: Sequence[str], target_names: Sequence[str]
) -> list[str]:
    """Return each note once, with its heads and families unless it is about all of them."""
    notes = []
    for note, pairs in sources.items():
        trained_on = [name for name in training_names if name in {training_name for training_name, _ in pairs}]
        tested_on = [name for name in target_names if name in {target for _, target in pairs}]
        scope = [f"trained on {', '.join(trained_on)}"] if len(trained_on) < len(training_names) else []
        scope += [f"tested on {', '.join(tested_on)}"] if len(tested_on) < len(target_names) else []
        notes.append(f"Heads {' and '.join(scope)}: {note}" if scope else note)
    return notes


class _CurveHeads:
    """Training on questions of ``samples``, evaluation on their test part or on all questions of ``test``.

    A question of both is for evaluation only. Raises ConfigurationError for unreadable files.
    """

    def __init__(
        self,
        samples: FilePath | Sequence[FilePath],
        test: FilePath | Sequence[FilePath] | None,
        *,
        recipe: str | Recipe,
        answer: answers.Spec,
        grade: GraderSpec,
        progress: ProgressCallback,
    ) -> None:
        self._recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
        self._answer, self._grade, self._progress = answer, grade, progress
        self._paths, self._test_paths = _path_list(samples), None if test is None else _path_list(test)
        self._split = Split() if test is None else Split(test=0.0)
        layers = self._recipe.layers if self._recipe.states else None
        self._state_options: dict[str, Any] = {"states": self._recipe.states, "layers": layers}
        # Opening all files at once refuses files of several models, and states that were not captured.
        files = StoredGroups([*self._paths, *(self._test_paths or ())], grade=grade, **self._state_options)
        self.provider, self.model, self._layout = files.provider, files.model, files.layout
        self.notes: list[str] = []
        self.train_families: dict[str, str] = {}  # family of each training question, by id
        self.test_families: dict[str, str] = {}  # family of each test question, by id
        self._max_completions = n_overlapping = 0
        # Read test files first: their questions are kept out of training.
        for group in _FilteredGroups(self._test_paths or (), self._grade):
            self._add_test_question(group)
        for done, group in enumerate(_FilteredGroups(self._paths, self._grade), 1):
            self._progress("questions", done)
            if self._split.part(group.question_id) == "test":
                self._add_test_question(group)
            elif group.question_id in self.test_families:
                n_overlapping += 1
            elif len(trainable_indices(group)):
                self.train_families[group.question_id] = str(group.family)
        if n_overlapping:
            self.notes.append(f"{n_overlapping} questions are in the test files too: no head was trained on them.")

    def _add_test_question(self, group: Group) -> None:
        self.test_families[group.question_id] = str(group.family)
        self._max_completions = max(self._max_completions, len(group.completions))

    def check(self, ns: Sequence[int]) -> None:
        """Raise ConfigurationError for anything that would fail after heads are trained."""
        if not self.train_families:
            raise ConfigurationError(
                "There is no question to learn from.", hint="Grade the samples, and check that not all are for test."
            )
        if not self.test_families:
            raise ConfigurationError(
                f"None of {len(self.train_families)} questions is for test.",
                hint="Collect more questions, or give files of test questions with test=.",
            )
        if min(ns) > self._max_completions:
            raise ConfigurationError(
                f"No question has {min(ns)} completions; the most are {self._max_completions}.",
                hint="Ask for fewer with n=.",
            )

    def list_families(self) -> tuple[list[str], list[str]]:
        """Return the families to train on and to test on. Raises ConfigurationError if there is only one."""
        trained, tested = sorted(set(self.train_families.values())), sorted(set(self.test_families.values()))
        if len({*trained, *tested}) < 2:
            raise ConfigurationError(
                f"All questions are of one family, {trained[0]!r}." if trained else "There are no questions.",
                hint='Give questions a "family" in the file that `swift-client collect` reads, '
                "or give one file per family.",
            )
        if missing := [name for name in trained if name not in tested]:
            raise ConfigurationError(
                f"No test question is of the family {missing[0]!r}.",
                hint="Collect more of its questions, or give files of test questions with test=.",
            )
        return trained, tested

    def train_head(self, training_set: _TrainingSet, seed: int) -> AnyHead:
        """Train a head on the questions of one training set; raises MissingExtraError without the extra "train"."""
        try:
            from swift_client.training.fit import fit  # imports torch
        except ImportError as error:
            raise MissingExtraError.needs("train", "Drawing curves") from error
        if training_set.family is not None:
            ids = {key for key, family in self.train_families.items() if family == training_set.family}
        else:  # in a random order, of which smaller sets are prefixes of larger ones
            shuffled = sorted(self.train_families, key=lambda key: hash_fraction(f"curve:{seed}:{key}"))
            ids = set(shuffled[: training_set.size])
        try:
            return fit(
                _FilteredGroups(self._paths, self._grade, lambda key, _: key in ids, **self._state_options),
                provider=self.provider,
                model=self.model,
                answer=self._answer,
                recipe=self._recipe,
                split=self._split,
                seed=seed,
                layout=self._layout,
                progress=self._progress,
            ).artifact
        except ConfigurationError as error:
            raise ConfigurationError(f"Trained on {training_set.name}: {error.message}", hint=error.hint) from error

    def evaluate_head(self, head: AnyHead, ns: Sequence[int], *, family: str | None, **options: Any) -> Evaluation:
        """Evaluate a head on the test questions, or those of one family."""
        head.check(provider=self.provider, model=self.model, k=head.k_max)
        paths = self._paths if self._test_paths is None else self._test_paths
        same_split = get_split(head)[0] == self._split  # a given head may have other test questions

        def is_test_question(key: str, question_family: str) -> bool:
            return family in (None, question_family) and (key in self.test_families or not same_split)

        try:
            return evaluate(
                head,
                _FilteredGroups(paths, self._grade, is_test_question, **state_options(head)),
                split="test" if self._test_paths is None else "all",
                ns=ns,
                answer=get_answer_spec(head) if self._answer == "auto" else self._answer,
                trained=False,
                progress=self._progress,
                **options,
            )
        except ConfigurationError as error:
            prefix = "" if family is None else f"Family {family!r}: "
            raise ConfigurationError(f"{prefix}{error.message}", hint=error.hint) from error


class _FilteredGroups:
    """Questions of the files that pass a filter of id and family; each pass reads the files again.

    With several files, a question without a family gets its file's name as family.
    """

    def __init__(
        self,
        paths: Sequence[FilePath],
        grade: GraderSpec,
        question_filter: _QuestionFilter = lambda key, family: True,
        **states: Any,
    ) -> None:
        self._files = []
        for path in paths:
            name = Path(path).stem if len(paths) > 1 else "unknown"

            def only(question: StoredQuestion, name: str = name) -> bool:
                return question_filter(question.id, question.family or name)

            self._files.append((name, StoredGroups([path], grade=grade, only=only, **states)))

    def __iter__(self) -> Iterator[Group]:
        for name, groups in self._files:
            for group in groups:
                yield group if group.family else replace(group, family=name)


def _path_list(samples: FilePath | Sequence[FilePath]) -> Sequence[FilePath]:
    return [samples] if isinstance(samples, (str, os.PathLike)) else samples
