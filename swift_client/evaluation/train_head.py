"""Training from samples files, and the verdict on the head."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift_client import answers
from swift_client.dataset.feedback import FeedbackGroups, feedback_groups
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.dataset.stored import FilePath, StoredGroups, open_groups
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.evaluation.gate import judge_head
from swift_client.evaluation.verifier_gate import judge_verifiers
from swift_client.models import save
from swift_client.training.drift_reference import drift_reference
from swift_client.training.recipes import Recipe, recipe_of

if TYPE_CHECKING:
    from swift_client.training.fit import ProgressCallback, TrainResult


def train(
    samples: FilePath | Sequence[FilePath] | StoredGroups,
    *,
    out: FilePath | None = None,
    answer: answers.Spec = "auto",
    grade: GraderSpec | None = None,
    recipe: str | Recipe = "default",
    split: Split | None = None,
    seed: int = 0,
    device: str = "auto",
    k: int | None = None,
    licence: str = "unknown",
    test_samples: FilePath | Sequence[FilePath] | StoredGroups | None = None,
    unlabelled: FilePath | Sequence[FilePath] | StoredGroups | None = None,
    feedback: bool = False,
    progress: ProgressCallback = lambda stage, done: None,
) -> TrainResult:
    """Train a head on samples of one model, compare it with the best label-free rule, and write it to ``out`` if given.

    The comparison decides whether ``head="auto"`` uses the head; see ``evaluation.gate``. If verifiers judged the
    samples, the head also learns the weight of their judgements, or sets them aside; see ``evaluation.verifier_gate``.
    Statistics of the samples are stored with it, so that rerankers notice a change of the model; see ``monitoring``.

    Args:
        samples: one or several samples files, or their groups.
        out: the head file to write.
        answer: how answers are compared for agreement.
        grade: how completions without a stored label are compared with their question's answer; by default as
            ``answer``, if that is a name. Groups bring their own.
        recipe: the name of a row of RECIPES, or a recipe from ``recipe_of()``.
        split: shares of the questions for validation and test.
        seed: the same seed and samples give the same head.
        device: torch's name, or "auto" for a GPU if there is one.
        k: alternatives per token to read; None reads all that are listed.
        licence: licence of the head, stored in its file.
        test_samples: samples of the same model for the comparison; default: the test questions of ``samples``.
        unlabelled: samples of the same model to learn from first, by the agreement of their answers; their labels are
            not read. Questions that have a label in ``samples`` or are in ``test_samples`` are left out, so this may be
            the file of ``samples``.
        feedback: whether the feedback on choices in ``samples`` labels questions without a grade, weighted against its
            selection bias. It trains and calibrates; which answer to choose is learnt and tested on grades alone.
        progress: called with a stage, such as "questions" or "epochs", and the number done.

    Raises:
        ConfigurationError: ``out`` cannot be written, no head can be trained on the samples, or the unlabelled samples
            are of another model or none is left.
        MissingExtraError: the extra "train" is not installed.
    """
    if out is not None and (not os.access(Path(out).absolute().parent, os.W_OK) or Path(out).is_dir()):
        raise ConfigurationError(f"{out} cannot be written.", hint="Give a file in a folder that you may write to.")
    row = recipe_of(recipe) if isinstance(recipe, str) else recipe
    # The files first: importing torch takes seconds.
    states: dict[str, Any] = {"states": row.states, "layers": row.layers}
    stored = open_groups(samples, answer=answer, grade=grade, **states)
    groups: StoredGroups = feedback_groups(samples, answer=answer, grade=grade, **states) if feedback else stored
    test_groups = None if test_samples is None else open_groups(test_samples, answer=answer, grade=grade, **states)
    unlabelled_groups = None if unlabelled is None else _open_unlabelled(unlabelled, groups, test_groups or ())
    try:
        from swift_client.training.fit import fit
    except ImportError as error:
        raise MissingExtraError.needs("train", "Training") from error
    result = fit(
        groups,
        provider=groups.provider,
        model=groups.model,
        answer=answer,
        recipe=recipe,
        split=split,
        seed=seed,
        device=device,
        k=k,
        layout=groups.layout,
        licence=licence,
        unlabelled=unlabelled_groups,
        progress=progress,
    )
    progress("questions compared", 0)
    judged = judge_head(
        result.artifact, groups, split=split or Split(), answer=answer, test_groups=test_groups, seed=seed
    )
    terms = judge_verifiers(
        result.artifact,
        {verifier: learnt for verifier, learnt in result.verifier_weights.items() if learnt.accuracy},
        groups,
        split=split or Split(),
        answer=answer,
        test_groups=test_groups,
        seed=seed,
    )
    facts = {**result.artifact.training, "verdict": judged.verdict, "comparison": judged.to_dict()}
    notes: Sequence[str] = ()
    if isinstance(groups, FeedbackGroups):
        facts["feedback"] = {name: value for name, value in groups.to_dict().items() if name != "strata"}
        notes = groups.notes()
    # Of all stored questions: those with feedback are not like the others.
    profile = drift_reference(
        result.artifact,
        stored,
        count=sum(facts["questions"].values()),
        split=split or Split(),
        answer=answer,
    )
    artifact = replace(result.artifact, training=facts, verifier_terms=terms, drift_profile=profile)
    result = replace(result, notes=tuple(notes), artifact=artifact)
    if out is not None:
        save(result.artifact, out)
    return result


def _open_unlabelled(
    unlabelled: FilePath | Sequence[FilePath] | StoredGroups, groups: StoredGroups, test_groups: Iterable[Group]
) -> Iterator[Group]:
    """Return the unlabelled questions that do not test the head. Raises ConfigurationError for another model's."""
    opened = open_groups(unlabelled)
    if (opened.provider, opened.model) != (groups.provider, groups.model):
        raise ConfigurationError(
            f"The unlabelled samples are of {opened.provider}/{opened.model}, the labelled ones of "
            f"{groups.provider}/{groups.model}.",
            hint="A head belongs to one model: give unlabelled samples of the same model.",
        )
    test_ids = {group.question_id for group in test_groups}
    return (group for group in opened if group.question_id not in test_ids)
