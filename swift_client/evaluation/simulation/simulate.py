"""Stopping rules replayed over stored completions: what each would have drawn, chosen and cost, at no cost.

The completions of each question are put in many orders, as if they arrived so; each rule sees one more at a time and
stops. All rules see the same orders, and intervals come from one resampling of the questions that all rows share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import EllipsisType

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import PARTS, ProgressCallback, get_answer_spec, get_split
from swift_client.evaluation.methods import Agreement
from swift_client.evaluation.pools import Pool, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.simulation.engine import QuestionTrace, ReplayEngine, plan_replays
from swift_client.evaluation.simulation.result import Simulation
from swift_client.models import HeadArtifact
from swift_client.selection.voting import draw_subsets
from swift_client.stopping import StoppingRule

_MAX_BLOCK_REPLAYS = 1 << 14
"""Small enough to stay in a processor's cache."""


def simulate(
    groups: Iterable[Group],
    head: HeadArtifact | None = None,
    *,
    rules: str | Sequence[str | StoppingRule] = "all",
    n: int = 16,
    orders: int = 50,
    waves: Sequence[int] = (1,),
    sweep: bool = False,
    split: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    provider: str | None = None,
    model: str | None = None,
    prompt_tokens: float | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Simulation:
    """Replay stopping rules on graded questions that have at least ``n`` completions.

    Each rule stands there as its authors choose, and once more with the vote of ``best_of`` where that differs. What
    was cut, filtered or refused is paid for and does not vote; a choice without a label counts as wrong. Where no
    question has any label, what is right is NaN, and tokens are told all the same.

    Args:
        groups: graded questions.
        head: gives the probabilities that "posterior", "accept" and "auto" read; without one these do without.
        rules: names of ``STOPPING_RULES`` with parameters ("beta:threshold=0.9"), rules of your own, "deepconf_low",
            "deepconf_high", "fixed:4"; "abort_deepconf" and "abort_head", which close streams as ``best_of`` does, with
            parameters as in "abort_head:keep=0.5"; or "all".
        n: completions of a question that are planned.
        orders: in which each question's completions arrive; all there are where there are fewer.
        waves: how many completions are drawn before a rule is asked, and asked again; the last number repeats.
        sweep: whether rules are also replayed with the other values of their main parameter.
        split: "train", "validation", "test" as the head's own training split them, or "all". Default: "test", without
            a head "all".
        resamples: of the questions, for the intervals.
        seed: of orders and resamples.
        answer: how answers are compared; default: as in the head's training, "auto" without a head.
        provider: whose completions these are; with ``model``, a head for another one is refused.
        model: likewise.
        prompt_tokens: mean prompt tokens of a call, which the result only tells again.
        progress: told how many questions were read and replayed.

    Raises:
        ConfigurationError: an unknown rule, a wrong argument, or no question with n completions in this part.
        ArtifactMismatchError: the head is for another model.
    """
    if n < 1 or orders < 1 or resamples < 1:
        raise ConfigurationError(f"n={n}, orders={orders} and resamples={resamples} must all be 1 or more.")
    if not waves or min(waves) < 1:
        raise ConfigurationError(f"waves={list(waves)} must be numbers from 1.", hint="(2, 2, 4) draws 2, 2, 4, 4, ...")
    split = split or ("test" if head else "all")
    if split not in (*PARTS, "all"):
        raise ConfigurationError(f"There is no split {split!r}.", hint="Use train, validation, test, or all.")
    if head is not None and provider is not None:
        head.check(provider=provider, model=model, k=head.k_max)
    planned = plan_replays(rules, n=n, sweep=sweep, probabilities=head is not None and head.calibration is not None)
    parts, notes = get_split(head)
    spec = get_answer_spec(head) if isinstance(answer, EllipsisType) else answer
    scorings = label_free_scorers({"mean_logprob"}) | ({} if head is None else {"head": head_scorer(head)})
    stored: list[Pool] = []
    traced: list[QuestionTrace] = []
    blind: list[Pool] = []
    blind_traced: list[QuestionTrace] = []
    short = unlabelled = 0
    for done, group in enumerate(groups, 1):
        progress("questions", done)
        if split not in ("all", parts.part(group.question_id)):
            continue
        labelled = not np.isnan(group.labels).all()
        unlabelled += not labelled
        if len(group.completions) < n:
            short += labelled
        elif labelled or not stored:
            (stored if labelled else blind).append(build_pool(group, scorings, spec))
            (traced if labelled else blind_traced).append(
                QuestionTrace.from_completions(group.completions, planned, head)
            )
    if not stored and blind and not short:
        stored, traced, unlabelled = blind, blind_traced, 0
        notes.append(
            "No question has a label: what each rule costs is shown, and not what it gets right. "
            "`swift-client grade` gives stored questions their answers."
        )
    if not stored:
        raise ConfigurationError(
            f"No labelled question of the part {split!r} has {n} completions.",
            hint="Ask for fewer with n (--n), or use --split all for files of unseen questions.",
        )
    if short:
        notes.append(f"{short} questions with fewer than {n} completions are left out.")
    if unlabelled:
        notes.append(f"{unlabelled} questions are left out: none of their completions has a label.")
    if any(len(each.labels) > n for each in stored):
        notes.append(f"Where a question has more than {n} completions, each order draws {n} of them.")
    if head is None:
        notes.append("Without a head nothing gives probabilities: posterior and accept are left out.")
    elif split in ("train", "validation"):
        notes.append(f"These are {split} questions, which the head was fitted on: expect less on others.")
    agreement = None if head is None else Agreement.from_head(head)
    replays = ReplayEngine(
        n,
        planned,
        check_points=_check_points(waves, n),
        scorer="head" if head else "mean_logprob",
        auto_answer=spec == "auto",
        agreement=agreement,
    )
    for size in sorted({len(each.labels) for each in stored}):
        some = [at for at, each in enumerate(stored) if len(each.labels) == size]
        draws = draw_subsets(size, n, max_subsets=orders, seed=seed)
        step = max(1, _MAX_BLOCK_REPLAYS // len(draws))
        for start in range(0, len(some), step):
            block = some[start : start + step]
            replays.add([stored[at] for at in block], [traced[at] for at in block], draws)
            progress("questions replayed", len(replays))
    return Simulation(
        rows=replays.rows(resamples=resamples, seed=seed),
        n=n,
        orders=orders,
        waves=tuple(waves),
        questions=len(stored),
        completions=sum(len(each.labels) for each in stored),
        majority=replays.majority_accuracy(resamples=resamples, seed=seed),
        tokens=replays.mean_tokens,
        prompt_tokens=prompt_tokens,
        split=split,
        seed=seed,
        head={} if head is None else {"name": head.name, **head.training},
        provider=provider,
        model=model,
        notes=tuple(notes),
    )


def _check_points(waves: Sequence[int], n: int) -> frozenset[int]:
    """Return after how many completions a rule is asked."""
    looks, seen = set(), 0
    for place in range(n):
        seen = min(seen + waves[min(place, len(waves) - 1)], n)
        looks.add(seen)
    return frozenset(looks)
