"""The heads that a curve is made of: each trained on some of the questions, and judged on others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.dataset.splits import Split, hash_fraction
from swift_client.dataset.stored import FilePath, StoredGroups, state_options
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback, evaluate, get_answer_spec, get_split
from swift_client.evaluation.result import Evaluation
from swift_client.models import AnyHead
from swift_client.store import StoredQuestion
from swift_client.training.recipes import Recipe, recipe_of

_QuestionFilter = Callable[[str, str], bool]
"""Tells by a question's id and family whether it is wanted."""


class CurveHeads:
    """Trains on questions of ``samples`` and judges on their test part, or on all questions of ``test``.

    A question that both name is for judging alone. Raises ConfigurationError for files that cannot be read.
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
        # Made here for what it refuses: files of several models, or states that were not captured.
        everywhere = [*self._paths, *(self._test_paths or ())]
        files = StoredGroups(everywhere, grade=grade, states=self._recipe.states, layers=layers)
        self.provider, self.model, self._layout = files.provider, files.model, files.layout
        self._state_options = {"states": self._recipe.states, "layers": layers}
        self.notes: list[str] = []
        self.train_families: dict[str, str] = {}
        """Family of each question that a head may learn from."""
        self.test_families: dict[str, str] = {}
        """Family of each question that heads are judged on."""
        self._max_completions = 0
        self._assign_questions()

    def _assign_questions(self) -> None:
        both = 0
        for group in _FilteredGroups(self._test_paths or (), self._grade):
            self._add_test_question(group)
        for done, group in enumerate(_FilteredGroups(self._paths, self._grade), 1):
            self._progress("questions", done)
            if self._split.part(group.question_id) == "test":
                self._add_test_question(group)
            elif group.question_id in self.test_families:
                both += 1
            elif len(trainable_indices(group)):
                self.train_families[group.question_id] = str(group.family)
        if both:
            self.notes.append(f"{both} questions are in the test files too: no head was trained on them.")

    def _add_test_question(self, group: Group) -> None:
        self.test_families[group.question_id] = str(group.family)
        self._max_completions = max(self._max_completions, len(group.completions))

    def check(self, ns: Sequence[int]) -> None:
        """Refuse what would fail once heads are trained. Raises ConfigurationError."""
        if not self.train_families:
            raise ConfigurationError(
                "There is no question to learn from.", hint="Grade the samples, and see that none is for test alone."
            )
        if not self.test_families:
            raise ConfigurationError(
                f"None of {len(self.train_families)} questions is for test.",
                hint="Collect more questions, or give files of test questions with test= (--test).",
            )
        if min(ns) > self._max_completions:
            raise ConfigurationError(
                f"No question has {min(ns)} completions; the most are {self._max_completions}.",
                hint="Ask for fewer (--n).",
            )

    def shuffle_questions(self, seed: int) -> list[str]:
        """Return the questions that heads may learn from, shuffled: any smaller set is the beginning of it."""
        return sorted(self.train_families, key=lambda key: hash_fraction(f"curve:{seed}:{key}"))

    def list_families(self) -> tuple[list[str], list[str]]:
        """Return the families to train on and to judge on. Raises ConfigurationError where there is one only."""
        learned, judged = sorted(set(self.train_families.values())), sorted(set(self.test_families.values()))
        if len({*learned, *judged}) < 2:
            raise ConfigurationError(
                f"All questions are of one family, {learned[0]!r}." if learned else "There are no questions.",
                hint='Give questions a "family" in the file that `swift-client collect` reads, '
                "or give several files, one a family.",
            )
        if missing := [name for name in learned if name not in judged]:
            raise ConfigurationError(
                f"No test question is of the family {missing[0]!r}.",
                hint="Collect more of its questions, or give files of test questions with test= (--test).",
            )
        return learned, judged

    def train_head(self, ids: Set[str], name: str, seed: int) -> AnyHead:
        """Train a head on these questions alone; ``name`` says in an error which they are."""
        from swift_client.training.fit import fit  # torch is imported where training begins

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
            raise ConfigurationError(f"Trained on {name}: {error.message}", hint=error.hint) from error

    def evaluate_head(
        self, head: AnyHead, ns: Sequence[int], *, family: str | None = None, **options: Any
    ) -> Evaluation:
        """Evaluate a head on the test questions, or those of one family."""
        paths = self._paths if self._test_paths is None else self._test_paths
        ours = get_split(head)[0] == self._split  # a head that was given may have other test questions

        def wanted(key: str, of: str) -> bool:
            return family in (None, of) and (key in self.test_families or not ours)

        try:
            return evaluate(
                head,
                _FilteredGroups(paths, self._grade, wanted, **state_options(head)),
                split="test" if self._test_paths is None else "all",
                ns=ns,
                answer=get_answer_spec(head) if self._answer == "auto" else self._answer,
                trained=False,
                progress=self._progress,
                provider=self.provider,
                model=self.model,
                **options,
            )
        except ConfigurationError as error:
            of = "" if family is None else f"Family {family!r}: "
            raise ConfigurationError(f"{of}{error.message}", hint=error.hint) from error


class _FilteredGroups:
    """Those of the files' questions that ``wanted`` says, by id and family, read anew in each pass.

    Of several files, a question without a family gets its file's name for one.
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
            only = partial(_matches_filter, question_filter, name)
            self._files.append((name, StoredGroups([path], grade=grade, only=only, **states)))

    def __iter__(self) -> Iterator[Group]:
        for name, groups in self._files:
            for group in groups:
                yield group if group.family else replace(group, family=name)


def _matches_filter(question_filter: _QuestionFilter, default_family: str, question: StoredQuestion) -> bool:
    return question_filter(question.id, question.family or default_family)


def _path_list(samples: FilePath | Sequence[FilePath]) -> Sequence[FilePath]:
    return [samples] if isinstance(samples, (str, os.PathLike)) else samples
