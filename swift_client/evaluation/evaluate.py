"""Evaluation of a head beside every other way to choose, on the same subsets of the same questions.

For each n and question, n completions are drawn many times, in many orders, and each method chooses one of every draw.
Values that depend on the other completions, agreement and the vote, are computed within the draw. Intervals come from
one resampling of the questions that all methods share.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from types import EllipsisType
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.dataset.feedback import feedback_groups
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.dataset.stored import FilePath, StoredGroups, open_groups, state_options
from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.evaluation.baselines import train_baselines
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.data_notes import data_notes
from swift_client.evaluation.gate import DEFAULT_RULE, LABEL_FREE, choose_rule
from swift_client.evaluation.gate import NS as GATE_NS
from swift_client.evaluation.head_comparison import compare_heads, held_out
from swift_client.evaluation.methods import METHODS, NO_SCORE, methods
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import (
    Agreement,
    QuestionScorer,
    build_pools,
    head_scorer,
    label_free_scorers,
    score_group,
)
from swift_client.evaluation.result import Evaluation
from swift_client.evaluation.scratch.block_file import BlockFile
from swift_client.evaluation.verifier_rows import (
    add_equal_calls,
    comparable_verifiers,
    cost_notes,
    insert_rows,
    verifier_methods,
)
from swift_client.models import AnyHead, HeadArtifact, HiddenHead
from swift_client.models.artifact import describe_verdict
from swift_client.models.resolve_head import load_any_head

NS = (1, 2, 4, 8, 16)
PARTS = ("train", "validation", "test")

# Called with a stage ("questions", "epochs", "completions drawn") and the number of items done.
ProgressCallback = Callable[[str, int], None]


def evaluate(
    head: FilePath | AnyHead | None,
    samples: FilePath | Sequence[FilePath] | Iterable[Group],
    *,
    split: str = "test",
    ns: Sequence[int] = NS,
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    train_samples: FilePath | Sequence[FilePath] | Iterable[Group] | None = None,
    trained: bool = True,
    shadow: FilePath | AnyHead | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Evaluation:
    """Compare a head with every other method on one part of the questions.

    At each n, questions with at least n completions count. Completions that were cut, filtered or refused do not vote,
    and win only if there are no others. A choice without a label counts as wrong; questions without any label are left
    out.

    Args:
        head: a head or its file; None compares the methods that need no head.
        samples: samples files of the head's model, or graded questions.
        split: "train", "validation" or "test", as the head's own training split them, or "all".
        ns: numbers of completions to choose from.
        subsets: draws per n and question; all subsets if there are fewer.
        resamples: of the questions, for the intervals.
        seed: of the draws and the resamples; the same seed gives the same table.
        answer: how answers are compared; default: as in the head's training, "auto" without a head.
        grade: how completions of files without a stored label are compared with the question's answer; default: as
            ``answer``, if that is a name.
        train_samples: training data of WEPR, length and SWIFT as published, which use the part that the split calls
            train. Default: ``samples``, unless split is "all".
        trained: whether to train these three, which reads the features of their training completions into memory;
            everything else takes the same memory for any number of questions.
        shadow: a second head of the same model, or its file; its vote is compared with the head's on the same draws
            of the questions of this part that are not training questions of either.
        progress: called with each stage and the number of items done.

    Returns:
        One row per method.

    Raises:
        ConfigurationError: a wrong argument, no question in this part, or unreadable completions.
        ArtifactMismatchError: the head is for another model.
        MissingExtraError: the trained baselines need the extra "train".
    """
    requested_ns = tuple(sorted(set(ns)))
    if not requested_ns or min(*requested_ns, subsets, resamples) < 1:
        raise ConfigurationError(
            f"ns={list(ns)}, subsets={subsets} and resamples={resamples} must all be 1 or more.",
            hint="The defaults are 1, 2, 4, 8, 16; 200; 1000.",
        )
    check_split(split)
    head = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    if shadow is not None and head is None:
        raise ConfigurationError("shadow= is compared with a head, and none is given.", hint="Give both heads.")
    groups, spec, provider, model = open_samples(samples, head, answer=answer, grade=grade)
    parts, notes = get_split(head)

    # Score every completion by all methods that need no training here.
    scorers = label_free_scorers({method.scorer for method in METHODS})
    if head is not None:
        scorers["head"] = head_scorer(head)
    if split in ("train", "validation"):
        notes.append(f"These are {split} questions, which the head was fitted on: expect less on others.")
    pools = _read_pools(groups, split, parts, scorers, spec, progress, notes)
    usable_ns = tuple(n for n in requested_ns if n <= pools.max_size)
    if not usable_ns:
        raise ConfigurationError(
            f"No question has {min(requested_ns)} completions; the most are {pools.max_size}.",
            hint="Ask for fewer with ns=.",
        )

    # Train the baselines, and score the same questions by them.
    temperature = None
    if trained and train_samples is None and split == "all":
        notes.append(
            "WEPR, length and SWIFT as published are left out, and CISC is not tuned: "
            "all questions are evaluated, none trained on."
        )
    elif trained:
        source = groups if train_samples is None else open_groups(train_samples, answer=spec, grade=grade)
        k = head.k_max if head else None
        baselines = train_baselines(source, split=parts, answer=spec, k=k, seed=seed, progress=progress)
        if baselines.scorers:
            pools.join(_read_scores(groups, split, parts, baselines.scorers, progress))
        scorers |= baselines.scorers
        temperature = baselines.temperature
        notes += baselines.notes
    notes += data_notes(pools, requested_ns, usable_ns)
    if head is not None and not head.beats_majority:
        notes.append(f"This head {describe_verdict(head.training)}: best_of votes as without a head.")

    # Let every method choose from the same draws, and compare it with the best label-free rule.
    label_free, rule_notes = _label_free_rule(head, groups, split, parts, scorers, spec, seed)
    notes += rule_notes
    beta = None if head is None else head.beta
    verifiers, verifier_notes = comparable_verifiers(pools)
    rows = [
        method
        for method in insert_rows(methods(temperature, beta), verifier_methods(verifiers, head))
        if method.scorer in (NO_SCORE, *scorers)
    ]
    comparison = Comparison(
        pools,
        rows,
        ns=usable_ns,
        max_subsets=subsets,
        seed=seed,
        auto_answer=spec == "auto",
        agreement=Agreement.from_head(head) if isinstance(head, HeadArtifact) else None,
        beta=1.0 if beta is None else beta,
        progress=lambda done: progress("completions drawn", done),
    )
    vote = next(method for method in rows if method.name == (DEFAULT_RULE if head is None else "head_vote"))
    calls = add_equal_calls(comparison, verifiers, vote, ns=usable_ns)
    notes += verifier_notes + cost_notes(calls, pools)
    gain_ns = tuple(n for n in usable_ns if n in GATE_NS) or tuple(n for n in usable_ns if n > 1) or usable_ns
    calibration = None if head is None else comparison.calibration("head", usable_ns[-1])
    difference = None
    if head is not None and shadow is not None:
        other = load_any_head(shadow) if isinstance(shadow, (str, os.PathLike)) else shadow
        again = samples if isinstance(groups, StoredGroups) else groups  # with the hidden states of the other head
        both = open_samples(again, other, answer=spec, grade=grade)[0]
        both = held_out(both, (parts, get_split(other)[0]), split)
        settings: dict[str, Any] = {"subsets": subsets, "resamples": resamples, "seed": seed}
        difference = compare_heads(head, other, both, answer=spec, ns=usable_ns, **settings)
    return Evaluation(
        rows=comparison.rows(resamples=resamples, label_free=label_free, gain_ns=gain_ns),
        ns=usable_ns,
        questions=len(pools),
        completions=pools.completions,
        families=dict(pools.families),
        split=split,
        subsets=subsets,
        seed=seed,
        tokens=pools.mean_tokens(usable_ns),
        reliability=None if calibration is None else calibration.reliability,
        head={} if head is None else _head_facts(head),
        provider=provider,
        model=model,
        judge_calls=calls,
        label_free=label_free,
        gain_ns=gain_ns,
        shadow=difference,
        notes=tuple(notes),
    )


def _label_free_rule(
    head: AnyHead | None,
    groups: Iterable[Group],
    split: str,
    parts: Split,
    scorers: Mapping[str, QuestionScorer],
    answer: answers.Spec,
    seed: int,
) -> tuple[str, list[str]]:
    """Return the label-free row to compare with: of the head's file, or else the best on validation questions.

    Without validation questions that are not evaluated themselves, it is the default without a head, with a note.
    """
    comparison = {} if head is None else head.training.get("comparison")
    rule = comparison.get("rule") if isinstance(comparison, Mapping) else None
    if rule in LABEL_FREE:
        return str(rule), []
    unread = groups if split == "test" else ()
    validation = (group for group in unread if parts.part(group.question_id) == "validation")
    pools = PoolTable(build_pools(validation, scorers, answer))
    if len(pools) or head is None:
        return choose_rule(pools, answer=answer, seed=seed), []
    note = (
        "There are no validation questions to choose the best label-free rule on: the head is compared with the vote "
        "without a head."
    )
    return DEFAULT_RULE, [note]


def check_split(split: str, *more: str) -> None:
    """Raise ConfigurationError unless ``split`` is a part of the questions, "all", or one of ``more``."""
    if split not in (*more, *PARTS, "all"):
        raise ConfigurationError(
            f"There is no split {split!r}.",
            hint=f"Use {', '.join((*more, *PARTS))}, or all for files of unseen questions.",
        )


def check_questions(questions: Sized, split: str, n: int, *, n_short: int, n_unlabelled: int) -> list[str]:
    """Return notes on the questions that are left out. Raises ConfigurationError if none remains."""
    if not questions:
        raise ConfigurationError(
            f"No labelled question of the part {split!r} has {n} completions.",
            hint='Ask for fewer with n=, or use split="all" for files of unseen questions.',
        )
    notes = []
    if n_short:
        notes.append(f"{n_short} questions with fewer than {n} completions are left out.")
    if n_unlabelled:
        notes.append(f"{n_unlabelled} questions are left out: none of their completions has a label.")
    return notes


def open_samples(
    samples: FilePath | Sequence[FilePath] | Iterable[Group],
    head: AnyHead | None,
    *,
    answer: answers.Spec | EllipsisType,
    grade: GraderSpec | None,
    feedback: bool = False,
) -> tuple[Iterable[Group], answers.Spec, str | None, str | None]:
    """Return the questions, how their answers are read, and the provider and model of files, None for groups.

    With ``feedback`` they are ``FeedbackGroups``, also those without any label.

    Raises:
        ArtifactMismatchError: the head is for another model.
        ConfigurationError: as ``get_answer_spec()`` and ``open_groups()``.
    """
    spec = get_answer_spec(head) if isinstance(answer, EllipsisType) else answer
    groups: Iterable[Group]
    if feedback:
        groups = feedback_groups(samples, answer=spec, grade=grade, keep_unknown=True, **state_options(head))
    else:
        groups = open_groups(samples, answer=spec, grade=grade, **state_options(head))
    if not isinstance(groups, StoredGroups):
        return groups, spec, None, None
    if head is not None:
        head.check(provider=groups.provider, model=groups.model, k=head.k_max)
    return groups, spec, groups.provider, groups.model


def get_split(head: AnyHead | None) -> tuple[Split, list[str]]:
    """Return the split of the head's training, and a note if it is unknown.

    Raises ArtifactError if it cannot be read.
    """
    if head is None:
        return Split(), []
    stored = head.training.get("split")
    if stored is None:
        return Split(), ["The head does not say how its questions were split: the default shares are used."]
    try:
        return Split(**stored), []
    except TypeError as error:
        raise ArtifactError(f"The head's split {stored!r} cannot be read.", hint="Train it again.") from error


def get_answer_spec(head: AnyHead | None) -> answers.Spec:
    """Return the answer reader of the head's training. Raises ConfigurationError if it was a function."""
    if head is None:
        return "auto"
    spec: answers.Spec = head.training.get("answer", "auto")
    if spec == "custom":
        raise ConfigurationError(
            "The head was trained with answers read by a function.", hint="Give the same function as answer=."
        )
    return spec


def _read_pools(
    groups: Iterable[Group],
    split: str,
    parts: Split,
    scorers: Mapping[str, QuestionScorer],
    answer: answers.Spec,
    progress: ProgressCallback,
    notes: list[str],
) -> PoolTable:
    """Read and score the questions of the part; omissions are added to the notes."""
    counts, n_unlabelled = Counter[str](), 0

    def labelled_groups() -> Iterator[Group]:
        nonlocal n_unlabelled
        for done, group in enumerate(groups, 1):
            part = parts.part(group.question_id)
            counts[part] += 1
            if split in (part, "all"):
                if np.isnan(group.labels).all():
                    n_unlabelled += 1
                else:
                    yield group
            progress("questions", done)

    pools = PoolTable(build_pools(labelled_groups(), scorers, answer))
    if n_unlabelled:
        notes.append(f"{n_unlabelled} questions are left out: none of their completions has a label.")
    if not len(pools):
        part_sizes = ", ".join(f"{counts[part]} {part}" for part in PARTS)
        reason = f"none of its {n_unlabelled} questions has a label" if n_unlabelled else "it is empty"
        raise ConfigurationError(
            f"There is nothing to evaluate in the part {split!r}: {reason}. There are {part_sizes} questions.",
            hint="Grade them, or use --split all for files of unseen questions.",
        )
    return pools


def _read_scores(
    groups: Iterable[Group],
    split: str,
    parts: Split,
    scorers: Mapping[str, QuestionScorer],
    progress: ProgressCallback,
) -> BlockFile:
    """Read the questions of ``_read_pools()`` again, and score them by more scorers."""
    scores = BlockFile()
    for done, group in enumerate(groups, 1):
        if split in (parts.part(group.question_id), "all") and not np.isnan(group.labels).all():
            scores.add(score_group(group, scorers).columns)
        progress("questions", done)
    return scores


def _head_facts(head: AnyHead) -> dict[str, Any]:
    hidden = {"layers": list(head.layers), "width": head.width} if isinstance(head, HiddenHead) else {}
    logprob_head = head.logprob_head if isinstance(head, HiddenHead) else head
    return {
        "name": head.name,
        "provider": head.provider,
        "model": head.model,
        "k_min": head.k_min,
        "k_max": head.k_max,
        "features": list(logprob_head.features) if logprob_head else [],
        "response_terms": list(logprob_head.response_terms) if logprob_head else [],
        **hidden,
        "licence": head.licence,
        "beta": "inf" if head.beta == np.inf else head.beta,
        "verifiers": [asdict(term) for term in head.verifier_terms],
        **head.training,
    }
