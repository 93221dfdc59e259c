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
from swift_client.dataset.question_samples import Group, trainable
from swift_client.dataset.splits import Split, fraction
from swift_client.dataset.stored import StoredGroups, states_of
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import Progress, answer_of, evaluate, split_of
from swift_client.evaluation.files import File
from swift_client.evaluation.result import Evaluation
from swift_client.models import AnyHead
from swift_client.store import StoredQuestion
from swift_client.training.recipes import Recipe, recipe_of

_Wanted = Callable[[str, str], bool]
"""Tells by a question's id and family whether it is wanted."""


class CurveHeads:
    """Trains on questions of ``samples`` and judges on their test part, or on all questions of ``test``.

    A question that both name is for judging alone. Raises ConfigurationError for files that cannot be read.
    """

    def __init__(
        self,
        samples: File | Sequence[File],
        test: File | Sequence[File] | None,
        *,
        recipe: str | Recipe,
        answer: answers.Spec,
        grade: GraderSpec,
        progress: Progress,
    ) -> None:
        self._recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
        self._answer, self._grade, self._progress = answer, grade, progress
        self._paths, self._test = _paths(samples), None if test is None else _paths(test)
        self._split = Split() if test is None else Split(test=0.0)
        layers = self._recipe.layers if self._recipe.states else None
        # Made here for what it refuses: files of several models, or states that were not captured.
        everywhere = [*self._paths, *(self._test or ())]
        files = StoredGroups(everywhere, grade=grade, states=self._recipe.states, layers=layers)
        self.provider, self.model, self._layout = files.provider, files.model, files.layout
        self._states = {"states": self._recipe.states, "layers": layers}
        self.notes: list[str] = []
        self.family: dict[str, str] = {}
        """Family of each question that a head may learn from."""
        self.tested: dict[str, str] = {}
        """Family of each question that heads are judged on."""
        self._most = 0
        self._sort_out()

    def _sort_out(self) -> None:
        both = 0
        for group in _Some(self._test or (), self._grade):
            self._hold_out(group)
        for done, group in enumerate(_Some(self._paths, self._grade), 1):
            self._progress("questions", done)
            if self._split.part(group.question_id) == "test":
                self._hold_out(group)
            elif group.question_id in self.tested:
                both += 1
            elif len(trainable(group)):
                self.family[group.question_id] = str(group.family)
        if both:
            self.notes.append(f"{both} questions are in the test files too: no head was trained on them.")

    def _hold_out(self, group: Group) -> None:
        self.tested[group.question_id] = str(group.family)
        self._most = max(self._most, len(group.completions))

    def check(self, ns: Sequence[int]) -> None:
        """Refuse what would fail once heads are trained. Raises ConfigurationError."""
        if not self.family:
            raise ConfigurationError(
                "There is no question to learn from.", hint="Grade the samples, and see that none is for test alone."
            )
        if not self.tested:
            raise ConfigurationError(
                f"None of {len(self.family)} questions is for test.",
                hint="Collect more questions, or give files of test questions with test= (--test).",
            )
        if min(ns) > self._most:
            raise ConfigurationError(
                f"No question has {min(ns)} completions; the most are {self._most}.", hint="Ask for fewer (--n)."
            )

    def order(self, seed: int) -> list[str]:
        """Return the questions that heads may learn from, shuffled: any smaller set is the beginning of it."""
        return sorted(self.family, key=lambda key: fraction(f"curve:{seed}:{key}"))

    def families(self) -> tuple[list[str], list[str]]:
        """Return the families to train on and to judge on. Raises ConfigurationError where there is one only."""
        learned, judged = sorted(set(self.family.values())), sorted(set(self.tested.values()))
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

    def fitted(self, ids: Set[str], name: str, seed: int) -> AnyHead:
        """Train a head on these questions alone; ``name`` says in an error which they are."""
        from swift_client.training.fit import fit  # torch is imported where training begins

        try:
            return fit(
                _Some(self._paths, self._grade, lambda key, _: key in ids, **self._states),
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

    def judge(self, head: AnyHead, ns: Sequence[int], *, family: str | None = None, **options: Any) -> Evaluation:
        """Evaluate a head on the test questions, or those of one family."""
        paths = self._paths if self._test is None else self._test
        ours = split_of(head)[0] == self._split  # a head that was given may have other test questions

        def wanted(key: str, of: str) -> bool:
            return family in (None, of) and (key in self.tested or not ours)

        try:
            return evaluate(
                head,
                _Some(paths, self._grade, wanted, **states_of(head)),
                split="test" if self._test is None else "all",
                ns=ns,
                answer=answer_of(head) if self._answer == "auto" else self._answer,
                trained=False,
                progress=self._progress,
                provider=self.provider,
                model=self.model,
                **options,
            )
        except ConfigurationError as error:
            of = "" if family is None else f"Family {family!r}: "
            raise ConfigurationError(f"{of}{error.message}", hint=error.hint) from error


class _Some:
    """Those of the files' questions that ``wanted`` says, by id and family, read anew in each pass.

    Of several files, a question without a family gets its file's name for one.
    """

    def __init__(
        self, paths: Sequence[File], grade: GraderSpec, wanted: _Wanted = lambda key, family: True, **states: Any
    ) -> None:
        self._files = []
        for path in paths:
            name = Path(path).stem if len(paths) > 1 else "unknown"
            only = partial(_wanted, wanted, name)
            self._files.append((name, StoredGroups([path], grade=grade, only=only, **states)))

    def __iter__(self) -> Iterator[Group]:
        for name, groups in self._files:
            for group in groups:
                yield group if group.family else replace(group, family=name)


def _wanted(wanted: _Wanted, name: str, question: StoredQuestion) -> bool:
    return wanted(question.id, question.family or name)


def _paths(samples: File | Sequence[File]) -> Sequence[File]:
    return [samples] if isinstance(samples, (str, os.PathLike)) else samples
