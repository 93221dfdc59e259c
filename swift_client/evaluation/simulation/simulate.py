"""Replay of stopping rules on stored completions: accuracy and cost of each rule, without any request.

The completions of each question are put in many orders, as if they arrived in this order; each rule sees one more at a
time and stops. All rules see the same orders, and intervals come from one resampling of the questions that all rows
share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import EllipsisType

import numpy as np

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.sample_files import open_sample_file
from swift_client.dataset.stored import FilePath
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback, check_questions, check_split, get_split, open_samples
from swift_client.evaluation.pools import Pool, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Simulation
from swift_client.evaluation.simulation.aborts import KEEP_SHARES
from swift_client.evaluation.simulation.engine import PlannedReplay, QuestionTrace, ReplayEngine, plan_replays
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import load_head
from swift_client.selection.voting import draw_orders
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import arrival_counts

_MAX_BLOCK_REPLAYS = 1 << 14  # small enough for a processor's cache


def simulate(
    samples: FilePath | Sequence[FilePath] | Iterable[Group],
    head: FilePath | HeadArtifact | None = None,
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
    grade: GraderSpec | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Simulation:
    """Replay stopping rules on graded questions that have at least ``n`` completions. Nothing is sent.

    Each rule has a row with the choice of its authors, and another one with the vote of ``best_of`` if that differs.
    Completions that were cut, filtered or refused cost tokens and do not vote; a choice without a label counts as
    wrong. If no question has any label, accuracy is NaN, and tokens are still reported.

    Args:
        samples: samples files of one model, or graded questions.
        head: a head or its file; provides the probabilities of "posterior", "accept" and "auto".
        rules: names of ``STOPPING_RULES`` with parameters ("beta:threshold=0.9"), your own rules, "deepconf_low",
            "deepconf_high", "fixed:4"; "abort_deepconf" and "abort_head", which close streams as ``best_of`` does, with
            parameters as in "abort_head:keep=0.5"; or "all".
        n: planned completions per question.
        orders: orders of each question's completions; all orders if there are fewer.
        waves: completions drawn before each call of a rule; the last number repeats.
        sweep: whether to replay rules with the other values of their main parameter, too.
        split: "train", "validation" or "test", as the head's own training split them, or "all". Default: "test", or
            "all" without a head.
        resamples: of the questions, for the intervals.
        seed: of orders and resamples.
        answer: how answers are compared; default: as in the head's training, "auto" without a head.
        grade: how completions of files without a stored label are compared with the question's answer; default: as
            ``answer``, if that is a name.
        progress: called with the number of questions that were read and replayed.

    Raises:
        ConfigurationError: an unknown rule, a wrong argument, or no question with n completions in this part.
        ArtifactMismatchError: the head is for another model.
    """
    if n < 1 or orders < 1 or resamples < 1:
        raise ConfigurationError(f"n={n}, orders={orders} and resamples={resamples} must all be 1 or more.")
    if not waves or min(waves) < 1:
        raise ConfigurationError(f"waves={list(waves)} must be numbers from 1.", hint="(2, 2, 4) draws 2, 2, 4, 4, ...")
    head = load_head(head) if isinstance(head, (str, os.PathLike)) else head
    split = split or ("test" if head else "all")
    check_split(split)
    groups, spec, provider, model = open_samples(samples, head, answer=answer, grade=grade)
    plan = plan_replays(rules, n=n, sweep=sweep, probabilities=head is not None and head.calibration is not None)

    pools, traces, notes = _read_questions(groups, head, plan, n=n, split=split, answer=spec, progress=progress)
    if any(len(pool.labels) > n for pool in pools):
        notes.append(f"If a question has more than {n} completions, each order draws {n} of them.")
    if not any(pool.tokens.any() for pool in pools):
        pools = [replace(pool, tokens=np.ones_like(pool.tokens)) for pool in pools]
        # Rules that close streams decide by tokens.
        plan = [planned for planned in plan if planned.abort is None and planned.name not in KEEP_SHARES]
        notes.append(
            "No completion has its tokens, so each counts as one: shares of tokens are shares of completions, and "
            "rules that close streams are left out."
        )
    if head is None:
        notes.append("There are no probabilities without a head: posterior and accept are left out.")
    elif split in ("train", "validation"):
        notes.append(f"These are {split} questions, which the head was fitted on: expect less on others.")

    engine = ReplayEngine(
        n,
        plan,
        check_points=set(arrival_counts(n, waves)),
        auto_answer=spec == "auto",
        head=head,
    )
    for size in sorted({len(pool.labels) for pool in pools}):
        indices = [index for index, pool in enumerate(pools) if len(pool.labels) == size]
        draws = draw_orders(size, n, max_subsets=orders, seed=seed)
        block_size = max(1, _MAX_BLOCK_REPLAYS // len(draws))
        for start in range(0, len(indices), block_size):
            block = indices[start : start + block_size]
            engine.add([pools[index] for index in block], [traces[index] for index in block], draws)
            progress("questions replayed", len(engine))
    return Simulation(
        rows=engine.rows(resamples=resamples, seed=seed),
        n=n,
        orders=orders,
        waves=tuple(waves),
        questions=len(pools),
        completions=sum(len(pool.labels) for pool in pools),
        majority=engine.majority_accuracy(resamples=resamples, seed=seed),
        tokens=engine.mean_tokens,
        prompt_tokens=_mean_prompt_tokens(samples),
        split=split,
        seed=seed,
        head={} if head is None else {"name": head.name, **head.training},
        provider=provider,
        model=model,
        notes=tuple(notes),
    )


def _read_questions(
    groups: Iterable[Group],
    head: HeadArtifact | None,
    plan: Sequence[PlannedReplay],
    *,
    n: int,
    split: str,
    answer: answers.Spec,
    progress: ProgressCallback,
) -> tuple[list[Pool], list[QuestionTrace], list[str]]:
    """Read the questions of the part that have n completions: labelled ones, or all if none has a label."""
    parts, notes = get_split(head)
    scorers = label_free_scorers({"mean_logprob", "shortest"}) | ({} if head is None else {"head": head_scorer(head)})
    labelled: list[tuple[Pool, QuestionTrace]] = []
    unlabelled: list[tuple[Pool, QuestionTrace]] = []
    n_short = n_unlabelled = 0
    for done, group in enumerate(groups, 1):
        progress("questions", done)
        if split not in ("all", parts.part(group.question_id)):
            continue
        has_label = not np.isnan(group.labels).all()
        n_unlabelled += not has_label
        if len(group.completions) < n:
            n_short += has_label
        elif has_label or not labelled:  # unlabelled questions count only if there are no others
            pool = build_pool(group, scorers, answer)
            trace = QuestionTrace.from_completions(group.completions, plan, head)
            (labelled if has_label else unlabelled).append((pool, trace))
    if not labelled and unlabelled and not n_short:
        labelled, n_unlabelled = unlabelled, 0
        notes.append(
            "No question has a label: the cost of each rule is shown, but not its accuracy. "
            "`swift-client grade` gives stored questions their answers."
        )
    notes += check_questions(labelled, split, n, n_short=n_short, n_unlabelled=n_unlabelled)
    return [pool for pool, _ in labelled], [trace for _, trace in labelled], notes


def _mean_prompt_tokens(samples: FilePath | Sequence[FilePath] | Iterable[Group]) -> float | None:
    """Return the mean prompt tokens per call of samples files; None if none were counted, as for groups and Parquet."""
    if isinstance(samples, (str, os.PathLike)):
        samples = [samples]
    prompt_tokens = calls = 0
    for path in samples if isinstance(samples, Sequence) else ():
        if isinstance(path, (str, os.PathLike)):
            usage = open_sample_file(path).usage
            prompt_tokens, calls = prompt_tokens + usage.prompt_tokens, calls + usage.calls
    return prompt_tokens / calls if prompt_tokens else None
