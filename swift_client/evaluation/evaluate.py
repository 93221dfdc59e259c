"""A head beside every other way to choose: the same questions, the same draws of their completions, one table.

For each n and question the completions are drawn many times, in many orders, and each method picks one of every draw.
What depends on the others, agreement and the vote, is counted within the draw. Intervals come from one resampling of
the questions that all methods share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.evaluation.baselines import train_baselines
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.methods import METHODS, NO_SCORE, Agreement, methods
from swift_client.evaluation.pools import Pool, QuestionScorer, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Evaluation
from swift_client.models import AnyHead, HeadArtifact, HiddenHead
from swift_client.training.metrics import reliability

NS = (1, 2, 4, 8, 16)
PARTS = ("train", "validation", "test")

ProgressCallback = Callable[[str, int], None]
"""Called with a stage ("questions", "epochs", "completions drawn") and how many of it are done."""


def evaluate(
    head: AnyHead | None,
    groups: Iterable[Group],
    *,
    split: str = "test",
    ns: Sequence[int] = NS,
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    train_groups: Iterable[Group] | None = None,
    trained: bool = True,
    provider: str | None = None,
    model: str | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Evaluation:
    """Compare ``head`` with every other method on the questions of one part of ``groups``.

    At n, questions with at least n completions count. What was cut, filtered or refused does not vote and wins only
    where nothing else is there; a pick without a label counts as wrong; questions without any label are left out.

    Args:
        head: None for the methods that need none.
        groups: graded questions; read several times, so an iterator is first made a list.
        split: "train", "validation", "test", as the head's own training split them, or "all".
        ns: how many completions to choose from.
        subsets: draws for each n and question; all there are where there are fewer.
        resamples: of the questions, for the intervals.
        seed: of the draws and the resamples; the same seed gives the same table.
        answer: how answers are compared; default: as in the head's training, "auto" without a head.
        train_groups: where WEPR, length and SWIFT as published are trained: on the part of them that the split calls
            train. Default: ``groups``, unless split is "all".
        trained: whether these three are wanted.
        provider: whose completions these are; with ``model``, a head for another one is refused.
        model: likewise.
        progress: told how far it is.

    Raises:
        ConfigurationError: a wrong argument, no question in this part, or completions that cannot be read.
        ArtifactMismatchError: the head is for another model.
        MissingExtraError: the trained baselines need the extra "train".
    """
    wanted = _validate_ns(ns, subsets, resamples)
    if split not in (*PARTS, "all"):
        raise ConfigurationError(
            f"There is no split {split!r}.", hint="Use train, validation, test, or all for files of unseen questions."
        )
    if head is not None and provider is not None:
        head.check(provider=provider, model=model, k=head.k_max)
    parts, notes = get_split(head)
    spec = get_answer_spec(head) if isinstance(answer, EllipsisType) else answer
    groups = list(groups) if iter(groups) is groups else groups
    scorings = label_free_scorers({method.scorer for method in METHODS})
    if head is not None:
        scorings["head"] = head_scorer(head)
    if split in ("train", "validation"):
        notes.append(f"These are {split} questions, which the head was fitted on: expect less on others.")
    pools = _read_pools(groups, split, parts, scorings, spec, progress, notes)
    largest = max(len(each.labels) for each in pools)
    asked = tuple(n for n in wanted if n <= largest)
    if not asked:
        raise ConfigurationError(
            f"No question has {min(wanted)} completions; the most are {largest}.", hint="Ask for fewer with ns (--n)."
        )
    source = train_groups if train_groups is not None else None if split == "all" else groups
    temperature = None
    if trained and source is None:
        notes.append(
            "WEPR, length and SWIFT as published are left out, and CISC is not tuned: "
            "all questions are evaluated, none trained on."
        )
    elif trained and source is not None:
        source = list(source) if iter(source) is source else source
        k = head.k_max if head else None
        found = train_baselines(source, split=parts, answer=spec, k=k, seed=seed, progress=progress)
        more = _read_pools(groups, split, parts, found.scorers, spec, progress, [])
        pools = [one.merge_scores(other) for one, other in zip(pools, more, strict=True)]
        scorings |= found.scorers
        temperature = found.temperature
        notes += found.notes
    notes += _data_notes(pools, wanted, asked, has_head="head" in scorings)
    if head is not None and not head.beats_majority:
        notes.append("Training found this head no better than majority: best_of votes by count instead.")
    table = Comparison(
        pools,
        [method for method in methods(temperature) if method.scorer in (NO_SCORE, *scorings)],
        ns=asked,
        max_subsets=subsets,
        seed=seed,
        auto_answer=spec == "auto",
        agreement=Agreement.from_head(head) if isinstance(head, HeadArtifact) else None,
        progress=lambda done: progress("completions drawn", done),
    )
    chances, came_true = (
        table.labelled_probabilities("head", asked[-1]) if head is not None else (np.zeros(0), np.zeros(0))
    )
    return Evaluation(
        rows=table.rows(resamples=resamples),
        ns=asked,
        questions=len(pools),
        completions=sum(len(each.labels) for each in pools),
        families=dict(Counter(each.family for each in pools)),
        split=split,
        subsets=subsets,
        seed=seed,
        tokens={n: float(n * np.mean([each.tokens.mean() for each in pools if len(each.labels) >= n])) for n in asked},
        reliability=reliability(chances, came_true) if len(chances) else None,
        head={} if head is None else _head_facts(head),
        provider=provider,
        model=model,
        notes=tuple(notes),
    )


def _validate_ns(ns: Sequence[int], subsets: int, resamples: int) -> tuple[int, ...]:
    wanted = tuple(sorted(set(ns)))
    if not wanted or min(*wanted, subsets, resamples) < 1:
        raise ConfigurationError(
            f"ns={list(ns)}, subsets={subsets} and resamples={resamples} must all be 1 or more.",
            hint="The defaults are 1, 2, 4, 8, 16; 200; 1000.",
        )
    return wanted


def get_split(head: AnyHead | None) -> tuple[Split, list[str]]:
    """Return how the head's questions were split, and what there is to say about it."""
    if head is None:
        return Split(), []
    stored = head.training.get("split")
    if stored is None:
        return Split(), ["The head does not say how its questions were split: the usual shares were taken."]
    try:
        return Split(**stored), []
    except TypeError as error:
        raise ArtifactError(f"The head's split {stored!r} cannot be read.", hint="Train it again.") from error


def get_answer_spec(head: AnyHead | None) -> answers.Spec:
    """Return how answers were compared in the head's training; ConfigurationError where only its trainer can say."""
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
) -> list[Pool]:
    """Read the questions of the part; what is left out is added to the notes."""
    found: list[Pool] = []
    questions: Counter[str] = Counter()
    without = 0
    for done, group in enumerate(groups, 1):
        part = parts.part(group.question_id)
        questions[part] += 1
        if split in (part, "all"):
            if np.isnan(group.labels).all():
                without += 1
            else:
                found.append(build_pool(group, scorers, answer))
        progress("questions", done)
    if without:
        notes.append(f"{without} questions are left out: none of their completions has a label.")
    if not found:
        counts = ", ".join(f"{questions[part]} {part}" for part in PARTS)
        why = f"none of its {without} questions has a label" if without else "it is empty"
        raise ConfigurationError(
            f"There is nothing to evaluate in the part {split!r}: {why}. There are {counts} questions.",
            hint="Grade them, or use --split all for files of unseen questions.",
        )
    return found


def _data_notes(pools: Sequence[Pool], requested_ns: Sequence[int], ns: Sequence[int], *, has_head: bool) -> list[str]:
    notes = []
    if left := [str(n) for n in requested_ns if n not in ns]:
        notes.append(f"n = {', '.join(left)} is left out: no question has so many completions.")
    enough = {n: sum(len(each.labels) >= n for each in pools) for n in ns}
    for n, count in enough.items():
        if count < len(pools):
            notes.append(f"At n = {n} only the {count} of {len(pools)} questions with that many completions count.")
    total = sum(len(each.labels) for each in pools)
    if cut := sum(int((~each.complete).sum()) for each in pools):
        notes.append(
            f"{cut} of {total} completions were cut, filtered or refused: they do not vote, and win only where nothing "
            "else is there."
        )
    if unknown := sum(int(np.isnan(each.labels).sum()) for each in pools):
        notes.append(f"{unknown} of {total} completions have no label: picking one counts as wrong.")
    if unread := sum(int((each.answers < 0).sum()) for each in pools):
        notes.append(f"In {unread} of {total} completions no answer could be read: they do not vote.")
    if has_head and (silent := sum(int(np.isnan(each.scores["head"]).sum()) for each in pools)):
        notes.append(f"{silent} of {total} completions have no score by the head, for want of logprobs.")
    if outside := sum(each.out_of_distribution for each in pools):
        notes.append(
            f"On {outside} of {len(pools)} questions the answers are unlike those that the head was trained on: "
            "best_of sets it aside there, and the table shows what it would have chosen."
        )
    if said := [each.note for each in pools if each.note]:
        notes.append(f"On {len(said)} questions, reading answers: {said[0]}")
    return notes


def _head_facts(head: AnyHead) -> dict[str, Any]:
    hidden = {"layers": list(head.layers), "width": head.width} if isinstance(head, HiddenHead) else {}
    reads = head.logprob_head if isinstance(head, HiddenHead) else head
    return {
        "name": head.name,
        "provider": head.provider,
        "model": head.model,
        "k_min": head.k_min,
        "k_max": head.k_max,
        "features": list(reads.features) if reads else [],
        "response_terms": list(reads.response_terms) if reads else [],
        **hidden,
        "licence": head.licence,
        **head.training,
    }
