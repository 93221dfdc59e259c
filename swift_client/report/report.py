"""From a head and samples files to the report's file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import EllipsisType

from swift_client import answers
from swift_client.atomic_write import atomic_write
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.dataset.stored import FilePath, StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import NS, ProgressCallback, get_answer_spec
from swift_client.evaluation.files import evaluate
from swift_client.evaluation.result import Evaluation
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import load_head
from swift_client.report.examples import compare_with_majority
from swift_client.report.page import render_page
from swift_client.store import SampleStore, StoredQuestion


def report(
    head: FilePath | HeadArtifact,
    samples: FilePath | Sequence[FilePath],
    *,
    out: FilePath,
    split: str = "test",
    ns: Sequence[int] = NS,
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    train_samples: FilePath | Sequence[FilePath] | None = None,
    trained: bool = True,
    progress: ProgressCallback = lambda stage, done: None,
) -> Evaluation:
    """Evaluate a head as ``evaluate`` does, write what was found to ``out`` as one HTML page, and return it.

    The page needs no network and holds no script. It quotes prompts, answers and completions of the samples, so it is
    as confidential as they are. The same input gives the same bytes, written whole or not at all.

    Raises:
        ConfigurationError: ``out`` cannot be written, or what ``evaluate`` raises it for.
        ArtifactError: ``head`` is not one, or was trained for another model.
        MissingExtraError: the trained baselines need the extra "train".
    """
    target = Path(out)
    _check_writable(target)
    artifact = load_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    found = evaluate(
        artifact,
        samples,
        split=split,
        ns=ns,
        subsets=subsets,
        resamples=resamples,
        seed=seed,
        answer=spec,
        grade=grade,
        train_samples=train_samples,
        trained=trained,
        progress=progress,
    )
    files = [samples] if isinstance(samples, (str, os.PathLike)) else samples
    stored = StoredGroups(files, grade=grade if grade is not None else spec if isinstance(spec, str) else "auto")
    chosen = compare_with_majority(artifact, _part_groups(stored, artifact, split, progress), answer=spec)
    wanted = {choice.question_id for choice in chosen.examples}
    _write(target, render_page(found, artifact, chosen, _load_questions(files, wanted)))
    return found


def _part_groups(groups: StoredGroups, head: HeadArtifact, split: str, progress: ProgressCallback) -> Iterator[Group]:
    """Yield the questions of one part, as ``evaluate`` takes them."""
    shares = head.training.get("split")
    parts = Split() if shares is None else Split(**shares)
    for done, group in enumerate(groups, 1):
        if split in (parts.part(group.question_id), "all"):
            yield group
        progress("questions looked at", done)


def _load_questions(files: Sequence[FilePath], question_ids: set[str]) -> dict[str, StoredQuestion]:
    found: dict[str, StoredQuestion] = {}
    for file in files:
        with SampleStore(file) as store:
            for question in store.questions():
                if question.id in question_ids:
                    found.setdefault(question.id, question)
    return found


def _check_writable(target: Path) -> None:
    """Refuse a place that cannot be written to before any time is spent."""
    folder = target.absolute().parent
    if target.is_dir():
        raise _write_error(target, "it is a folder")
    if not folder.is_dir():
        raise _write_error(target, "its folder does not exist")
    if not os.access(folder, os.W_OK):
        raise _write_error(target, "its folder may not be written to")


def _write(target: Path, document: str) -> None:
    try:
        with atomic_write(target) as draft:
            draft.write_bytes(document.encode())
    except OSError as error:
        raise _write_error(target, error.strerror or str(error)) from error


def _write_error(target: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The report cannot be written to {target}: {reason}.", hint="Make room, or give another path as out (--out)."
    )
