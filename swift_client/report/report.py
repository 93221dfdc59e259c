"""Report of a head on samples files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import EllipsisType

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.sample_files import open_sample_file
from swift_client.dataset.stored import FilePath, open_groups
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import NS, ProgressCallback, evaluate, get_answer_spec, get_split
from swift_client.evaluation.result import Evaluation
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import load_head
from swift_client.report.examples import compare_with_majority
from swift_client.report.page import SampleFacts, load_template, render_page
from swift_client.store import StoredQuestion
from swift_client.store.atomic_write import atomic_write


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
    """Evaluate a head, write the evaluation to ``out`` as one HTML page, and return it.

    The page needs no network and has no script. It quotes prompts, answers and completions of the samples, so it is as
    confidential as they are. The same input gives the same bytes on the same day, since the page is dated; they are
    written completely or not at all. The other arguments are those of ``evaluate``.

    Raises:
        ConfigurationError: ``out`` cannot be written, or as ``evaluate``.
        ArtifactError: ``head`` is not a head, or was trained for another model.
        MissingExtraError: Jinja2 is missing (extra "cli" or "train"), or the trained baselines need the extra "train".
    """
    # Fail before any time is spent if the page cannot be made.
    _check_writable(Path(out))
    load_template()
    artifact = load_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    evaluation = evaluate(
        artifact, samples, split=split, ns=ns, subsets=subsets, resamples=resamples, seed=seed, answer=spec,
        grade=grade, train_samples=train_samples, trained=trained, progress=progress,
    )  # fmt: skip
    write_report(evaluation, artifact, samples, out=out, answer=spec, grade=grade, progress=progress)
    return evaluation


def write_report(
    evaluation: Evaluation,
    head: HeadArtifact,
    samples: FilePath | Sequence[FilePath],
    *,
    out: FilePath,
    answer: answers.Spec,
    grade: GraderSpec | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> None:
    """Write the page of an evaluation of ``head`` on ``samples``; nothing is evaluated again."""
    files = [samples] if isinstance(samples, (str, os.PathLike)) else samples
    groups = _part_groups(open_groups(files, answer=answer, grade=grade), head, evaluation.split, progress)
    comparison = compare_with_majority(head, groups, answer=answer)
    questions = _load_questions(files, {example.question_id for example in comparison.examples})
    _write(Path(out), render_page(evaluation, head, comparison, questions, _describe_samples(files)))


def _describe_samples(files: Sequence[FilePath]) -> SampleFacts:
    """Return the names of the samples files, without folders, and how they were drawn."""
    temperatures: dict[str, None] = {}
    opened = [open_sample_file(file) for file in files]
    for file in opened:
        temperatures[str(file.sampling.get("temperature", "not recorded"))] = None
    return SampleFacts(
        files=tuple(Path(file.name).name for file in opened),
        temperature=", ".join(temperatures),
        date=datetime.date.today().isoformat(),
    )


def _part_groups(
    groups: Iterable[Group], head: HeadArtifact, split: str, progress: ProgressCallback
) -> Iterator[Group]:
    """Yield the questions of one part, as ``evaluate`` selects them."""
    parts, _ = get_split(head)
    for done, group in enumerate(groups, 1):
        if split in (parts.part(group.question_id), "all"):
            yield group
        progress("questions compared", done)


def _load_questions(files: Sequence[FilePath], question_ids: set[str]) -> dict[str, StoredQuestion]:
    questions: dict[str, StoredQuestion] = {}
    for file in files:
        for question in open_sample_file(file).questions():
            if question.id in question_ids:
                questions.setdefault(question.id, question)
    return questions


def _check_writable(target: Path) -> None:
    """Raise ConfigurationError for a path that cannot be written, before any time is spent."""
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
        f"The report cannot be written to {target}: {reason}.",
        hint="Make room on the disk, or give another path with out=.",
    )
