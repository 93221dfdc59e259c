"""Retraining: a new head from feedback replaces the one in use only if held-out choices show that it is better."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import EllipsisType
from typing import Any

from swift_client import answers
from swift_client.dataset.feedback import feedback_groups
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.sample_columns.locations import is_parquet
from swift_client.dataset.stored import FilePath, FilePaths, StoredGroups, open_groups, state_options
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import get_answer_spec, get_split
from swift_client.evaluation.head_comparison import compare_heads
from swift_client.evaluation.result import HeadDifference, plain_values
from swift_client.evaluation.train_head import train
from swift_client.models import Acceptance, AnyHead, save
from swift_client.models.artifact import TOO_FEW_VERDICT, describe_verdict
from swift_client.models.file_format import head_digest
from swift_client.models.replaced_heads import find_head_file, install_head
from swift_client.models.resolve_head import load_any_head
from swift_client.retraining.held_out import MIN_QUESTIONS, FeedbackLabels, HeldOut
from swift_client.retraining.result import Retraining
from swift_client.store import SelectionStore
from swift_client.training.recipes import RECIPES


def retrain(
    samples: FilePaths,
    head: str | os.PathLike[str],
    *,
    out: FilePath | None = None,
    install: bool = False,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    recipe: str | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> Retraining:
    """Train a new head on samples with feedback, and compare it with the head in use.

    Both heads choose from the same draws of held-out questions: those that the split of the head in use keeps for the
    test, and that have no training question with the same messages. These are the users' choices with feedback,
    weighted to stand for all choices; without any feedback in the files, their graded questions. An answer about which
    feedback says nothing counts as right with the probability by the head in use, see ``retraining.expected_labels``.
    The new head is better if the lower end of the 95 % interval of its gain, mean over n = 2, 4 and 8, is above 0.

    Args:
        samples: samples files of the head's model, with feedback or grades; Parquet for further graded questions.
        head: file of the head in use, or the name of one in the user's folder.
        out: file to write the new head to, if it is better.
        install: whether a better head replaces the one in use, which is kept beside it.
        answer: how answers are compared; default: as in the training of the head in use.
        grade: how completions without a stored label are compared with their question's answer.
        recipe: name of a row of RECIPES; default: as in the training of the head in use.
        seed: of the training, the draws and the resamples.
        device: torch's name, or "auto" for a GPU if there is one.
        progress: called with a stage, such as "questions" or "epochs", and the number done.

    Raises:
        ConfigurationError: too few held-out questions, no head can be trained on these samples, ``out`` is the head
            in use, or that one changed meanwhile.
        ArtifactError: the head in use cannot be read, or is of another model.
        MissingExtraError: the extra "train" is not installed.
    """
    path = find_head_file(head)
    old = load_any_head(path)
    if out is not None and os.path.realpath(out) == os.path.realpath(path):
        raise ConfigurationError(
            f"{out} is the head in use, which would be lost.", hint="install=True (--install) replaces it and keeps it."
        )
    spec = get_answer_spec(old) if isinstance(answer, EllipsisType) else answer
    split, notes = get_split(old)
    if not split.test:
        raise ConfigurationError(
            f"The head {path} kept no test questions, so that no question is held out for both heads.",
            hint="Train a head with the default split, and evaluate both with `swift-client evaluate --shadow`.",
        )
    paths = [samples] if isinstance(samples, (str, os.PathLike)) else list(samples)
    has_feedback = any(map(_has_feedback, paths))
    groups = _open(paths, old, spec, grade, has_feedback=has_feedback)
    held_out = HeldOut(groups=groups, split=split)
    held_out.count(progress)
    held_out.require_enough()

    name = recipe or str(old.training.get("recipe", "default"))
    if name not in RECIPES and recipe is None:
        notes.append(f'The recipe "{name}" of the head in use cannot be repeated: the recipe "default" is used.')
        name = "default"
    result = train(
        paths,
        answer=spec,
        grade=grade,
        recipe=name,
        split=split,
        seed=seed,
        device=device,
        licence=old.licence,
        feedback=has_feedback,
        progress=progress,
    )
    new, taken_over = complete_from(result.artifact, old)
    notes += taken_over
    difference, label_notes = _judge(old, new, held_out, spec, seed)
    kind = "choices with feedback" if has_feedback else "graded questions"
    is_better, reason = decide(new, difference, f"{held_out.known} held-out {kind}")
    facts = {"replaces": head_digest(old), "feedback": has_feedback, "difference": plain_values(difference)}
    new = replace(new, training={**new.training, "retraining": facts})
    if is_better and out is not None:
        save(new, out)
    if is_better and install:
        if head_digest(load_any_head(path)) != head_digest(old):
            raise ConfigurationError(
                f"{path} changed while the new head was trained, so both were not compared: nothing was installed.",
                hint="Run it again.",
            )
        install_head(new, path)
    target = path if is_better and install else out if is_better and out is not None else None
    return Retraining(
        head=str(path),
        is_better=is_better,
        reason=reason,
        difference=difference,
        known=held_out.known,
        effective=held_out.effective,
        trained_on=dict(result.artifact.training["questions"]),
        artifact=new,
        out=None if out is None or not is_better else str(out),
        is_installed=is_better and install,
        lost_acceptances=old.acceptances,
        commands=tuple(_calibrate_command(row, target or "NEW", paths, has_feedback) for row in old.acceptances),
        notes=(*notes, *label_notes, *_notes(old, new, held_out, result.notes)),
    )


def _has_feedback(path: FilePath) -> bool:
    if is_parquet(path):
        return False
    with SelectionStore(path) as store:
        return next(iter(store.feedback()), None) is not None


def _open(
    paths: Sequence[FilePath], head: AnyHead, answer: answers.Spec, grade: GraderSpec | None, *, has_feedback: bool
) -> Iterable[Group]:
    """Return the questions, checked to be of the head's model."""
    options: dict[str, Any] = {"answer": answer, "grade": grade, **state_options(head)}
    groups: StoredGroups
    groups = feedback_groups(paths, keep_unknown=True, **options) if has_feedback else open_groups(paths, **options)
    head.check(provider=groups.provider, model=groups.model, k=head.k_max)
    return groups


def complete_from(new: AnyHead, old: AnyHead) -> tuple[AnyHead, list[str]]:
    """Return the new head with what its grades could not teach taken over from the one in use, and notes on that."""
    notes = []
    exponents = new.training.get("vote_exponents", {})
    if exponents.get("questions", 0) < MIN_QUESTIONS and new.beta != old.beta:
        new = replace(new, beta=old.beta)
        notes.append("Too few graded questions to learn how votes weigh: the exponent of the head in use is kept.")
    if new.training.get("verdict") == TOO_FEW_VERDICT and old.beats_majority:
        facts = {name: old.training[name] for name in ("verdict", "comparison") if name in old.training}
        inherited = {**new.training, **facts}
        if "verdict" not in old.training:
            del inherited["verdict"], inherited["comparison"]
        new = replace(new, training=inherited)
        notes.append(
            "Too few graded questions to compare the new head with voting without a head: it is compared with the head "
            "in use, whose own comparison its file keeps."
        )
    return new, notes


def _judge(
    old: AnyHead, new: AnyHead, held_out: HeldOut, answer: answers.Spec, seed: int
) -> tuple[HeadDifference, list[str]]:
    """Compare both heads on the held-out questions."""
    if not held_out.has_feedback:
        return compare_heads(old, new, held_out, answer=answer, seed=seed), []
    labels = FeedbackLabels(old, held_out)
    difference = compare_heads(
        old, new, held_out, answer=answer, seed=seed, adjust=labels.adjust, weights=labels.weights
    )
    notes = []
    if (factor := labels.wrong_factor) < 0.9:
        notes.append(
            "More answers are reported wrong than the head in use expects. People may report wrong answers more "
            f"readily, so these count {factor:.2f} times in the comparison."
        )
    return difference, notes


def decide(new: AnyHead, difference: HeadDifference, judged_on: str) -> tuple[bool, str]:
    """Return whether the new head may replace the one in use, and the reason."""
    mean = difference.mean
    value, low, high = (100 * number for number in (mean.value, mean.low, mean.high))
    measured = f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, on {judged_on}"
    if not new.beats_majority:
        verdict = describe_verdict(new.training)
        return False, f"The new head is not proposed: it {verdict}. Against the head in use: {measured}."
    if not mean.low > 0:
        return False, f"The new head is not proposed: it is not clearly better than the head in use ({measured})."
    return True, f"The new head is better than the head in use ({measured})."


def _calibrate_command(row: Acceptance, target: FilePath | str, paths: Sequence[FilePath], feedback: bool) -> str:
    """Return the command that gives the new head one of the old one's thresholds."""
    words = ["swift-client", "calibrate", str(target), *map(str, paths), "--risk", f"{row.risk:g}"]
    words += ["--confidence", f"{row.confidence:g}", "--n", str(row.n)]
    options = {"--stopping": row.stopping, "--verifier": row.verifier, "--when": row.when}
    words += [word for name, value in options.items() if value is not None for word in (name, value)]
    if row.select != "auto":
        words += ["--select", row.select]
    if row.answer not in (None, "custom"):
        words += ["--answer", str(row.answer)]
    return shlex.join(words + (["--feedback"] if feedback else []))


def _notes(old: AnyHead, new: AnyHead, held_out: HeldOut, training_notes: Iterable[str]) -> list[str]:
    """Return notes on the questions, and on what the new head lacks."""
    notes = list(training_notes)
    if held_out.repeated:
        notes.append(f"{held_out.repeated} held-out questions repeat a training question and are left out.")
    if held_out.unknown:
        notes.append(
            f"{held_out.unknown:,} held-out choices are of groups without any feedback: the head in use stands for the "
            "truth there, so the new head can only lose on them."
        )
    if old.acceptances:
        count = "1 threshold" if len(old.acceptances) == 1 else f"{len(old.acceptances)} thresholds"
        notes.append(
            f"The new head accepts no answer until it is calibrated: it lacks the {count} of the head in use. A "
            "service with on_reject does not start without."
        )
    lacking = {term.verifier for term in old.verifier_terms} - {term.verifier for term in new.verifier_terms}
    notes += [f"The new head has no weight for the verifier {name}: too few judgements." for name in sorted(lacking)]
    if old.stopping_costs and not new.stopping_costs:
        notes.append('The new head has no measured costs for stopping="auto": too few graded questions.')
    return notes
