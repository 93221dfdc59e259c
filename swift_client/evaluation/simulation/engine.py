"""Engine of ``simulate``: replays rules on many questions and orders at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.evaluation.methods import METHODS, NO_HEAD_SCORER, DrawnSubsets, Method, choose_winners, weigh
from swift_client.evaluation.pools import Agreement, Pool, StackedPools
from swift_client.evaluation.result import (
    ChoiceMethod,
    Estimate,
    Replayed,
    estimate,
    resampled_sums,
    sums_with_resamples,
)
from swift_client.evaluation.simulation import aborts
from swift_client.evaluation.simulation.aborts import KEEP_SHARES, Traces
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.sampling import EarlyAbort, parse_abort
from swift_client.selection.voting import vote
from swift_client.stopping import STOPPING_RULES, StoppingRule, Votes, stopping_rule, vote_log_odds
from swift_client.types import Bool, Completion

# Fixed numbers of completions that are replayed beside the rules, if below n.
FIXED_COUNTS = (1, 2, 4, 8)
ABORT_NAMES = ("abort_deepconf", "abort_head")  # defaults of ``best_of(abort=...)``
HEAD_HINT = "Pass a calibrated head with head=."
_KEEP_SWEEP = (0.3, 0.5, 0.7, 0.95)
_Values = TypeVar("_Values", F64, I64)
_METHODS_BY_NAME = {method.name: method for method in METHODS}


class PlannedReplay(NamedTuple):
    """One rule to replay, and the ways to choose."""

    name: str
    # None for a fixed number and for DeepConf, which are identified by name, and for ``abort``.
    rule: StoppingRule | None
    choices: tuple[ChoiceMethod, ...]  # the published one first
    source: str
    swept: bool = False
    abort: EarlyAbort | None = None  # rule that closes streams; all n are begun


class QuestionTrace(NamedTuple):
    """Traces of one question's completions, in the order of their indices, for the rules that abort."""

    deepconf: Traces
    abort_traces: Mapping[str, Traces]  # by name of the planned replay

    @classmethod
    def from_completions(
        cls, completions: Sequence[Completion], plan: Sequence[PlannedReplay], head: HeadArtifact | None
    ) -> QuestionTrace:
        """Trace the completions for the planned replays that close streams."""
        ordered = sorted(completions, key=lambda completion: completion.index)
        traces = {
            planned.name: aborts.trace_completions(ordered, planned.abort, head) for planned in plan if planned.abort
        }
        return cls(Traces.from_completions(ordered), traces)


def plan_replays(
    rules: str | Sequence[str | StoppingRule], *, n: int, sweep: bool, probabilities: bool
) -> list[PlannedReplay]:
    """Return the replays for the ``rules`` of ``simulate``.

    Raises ConfigurationError for an unknown rule or one that needs a head.
    """
    if rules == "all":
        specs: Sequence[str | StoppingRule] = _all_specs(n, probabilities=probabilities)
    else:
        specs = rules.split(",") if isinstance(rules, str) else rules
    plan = []
    for spec in specs:
        if isinstance(spec, str) and (spec in KEEP_SHARES or spec.startswith("fixed:")):
            plan.append(_plan_named(spec, n))
            continue
        if isinstance(spec, str) and spec.startswith(aborts.PREFIX):
            plan += _plan_abort(spec, probabilities=probabilities, sweep=sweep)
            continue
        # A stopping rule: it is replayed with the choice of its authors, and with the vote of best_of.
        rule = stopping_rule(spec)
        if not probabilities and "probabilities" in rule.needs:
            raise ConfigurationError(f"The rule {rule.name} needs a calibrated head.", hint=HEAD_HINT)
        published: ChoiceMethod = "vote" if rule.choice == "posterior" and not probabilities else rule.choice
        choices: tuple[ChoiceMethod, ...] = tuple(dict.fromkeys((published, "vote")))
        plan.append(PlannedReplay(str(rule), rule, choices, rule.source))
        if sweep and rule.sweep and (probabilities or rule.needs):  # the parameter of auto belongs to a head
            name, values = rule.sweep
            variants = [rule.with_parameters(**{name: value}) for value in values if value != rule.parameters[name]]
            plan += [PlannedReplay(str(variant), variant, choices, variant.source, swept=True) for variant in variants]
    return plan


def _all_specs(n: int, *, probabilities: bool) -> list[str]:
    """Return all rules by name, without those that need a head if there are no probabilities."""
    fixed = [f"fixed:{count}" for count in FIXED_COUNTS if count < n] + [f"fixed:{n}"]
    stopping = [name for name, rule in STOPPING_RULES.items() if probabilities or "probabilities" not in rule.needs]
    aborting = [name for name in ABORT_NAMES if probabilities or name != "abort_head"]
    return [*fixed, *stopping, *KEEP_SHARES, *aborting]


def _plan_named(spec: str, n: int) -> PlannedReplay:
    if spec in KEEP_SHARES:
        return PlannedReplay(spec, None, ("vote",), "DeepConf, arXiv 2508.15260")
    count = spec.removeprefix("fixed:")
    if not (count.isdecimal() and 1 <= int(count) <= n):
        raise ConfigurationError(f"{spec!r} is not a fixed number from 1 to {n}.", hint="Write it as fixed:4.")
    return PlannedReplay(spec, None, ("majority", "vote"), "a fixed number")


def _plan_abort(spec: str, *, probabilities: bool, sweep: bool) -> list[PlannedReplay]:
    rule = parse_abort(spec.removeprefix(aborts.PREFIX))
    if rule is None or (rule.by == "head" and not probabilities):
        raise ConfigurationError(f"{spec} needs a calibrated head.", hint=HEAD_HINT)
    source = "swift-client" if rule.by == "head" else "DeepConf, arXiv 2508.15260, with best_of's vote"
    plan = [PlannedReplay(spec, None, ("vote",), source, abort=rule)]
    if sweep and spec in ABORT_NAMES:
        for keep in _KEEP_SWEEP:
            variant = replace(rule, keep=keep)
            plan.append(PlannedReplay(f"{spec}:keep={keep:g}", None, ("vote",), source, swept=True, abort=variant))
    return plan


class ReplayEngine:
    """Replays blocks of questions, and summarises all of them."""

    def __init__(
        self,
        n: int,
        plan: Sequence[PlannedReplay],
        *,
        check_points: Set[int],
        auto_answer: bool,
        head: HeadArtifact | None,
    ) -> None:
        self._n, self._plan, self._check_points = n, plan, check_points
        self._auto_answer, self._head = auto_answer, head
        self._scorer = "head" if head else NO_HEAD_SCORER
        # Per block of questions (Q, 3): accuracy, completions and tokens, means over the orders.
        self._means: dict[tuple[str, ChoiceMethod], list[F64]] = {
            (planned.name, choice): [] for planned in plan for choice in planned.choices
        }
        self._majority_accuracy: list[F64] = []
        self._vote_accuracy: list[F64] = []
        self._full_tokens: list[F64] = []

    def __len__(self) -> int:
        return sum(map(len, self._full_tokens))

    @property
    def mean_tokens(self) -> float:
        """Mean completion tokens of all n, per question."""
        return float(np.concatenate(self._full_tokens).mean())

    def add(self, pools: Sequence[Pool], traces: Sequence[QuestionTrace], draws: I64) -> None:
        """Replay questions with equally many completions, in the orders (S, n)."""
        block = StackedPools.stack(
            pools,
            auto_answer=self._auto_answer,
            agreement=Agreement.from_head(self._head) if self._head else None,
            beta=self._head.beta if self._head else 1.0,
        )
        # Correctness (Q, S, n) of each drawn completion, NaN for questions without labels, and cumulative tokens.
        labelled = ~np.isnan(block.labels).all(axis=1, keepdims=True)
        labels = np.where(labelled, block.labels == 1, np.nan)[:, draws]
        tokens = np.cumsum(np.stack([pool.tokens for pool in pools])[:, draws], axis=-1)

        # One completion more at a time: ask the rules that still run, and note what each choice would be now.
        stops = {planned.name: np.full(labels.shape[:2], self._n) for planned in self._plan if planned.rule}
        active = {name: np.ones(labels.shape[:2], np.bool_) for name in stops}
        correct: dict[ChoiceMethod, F64] = {choice: np.empty(labels.shape) for _, choice in self._means}
        correct |= {choice: np.empty(labels.shape) for choice in ("majority", "vote") if choice not in correct}
        for n_seen in range(1, self._n + 1):
            subsets = DrawnSubsets(block, draws[:, :n_seen])
            votes = self._make_votes(subsets)
            for planned in self._plan:
                if planned.rule and n_seen in self._check_points:
                    _apply_rule(planned.rule, votes, stops[planned.name], active[planned.name])
            for choice, table in correct.items():
                winners = _replay_choice(choice, subsets, votes, self._scorer)
                table[..., n_seen - 1] = _take(labels[..., :n_seen], winners)
        self._majority_accuracy.append(correct["majority"][..., -1].mean(axis=1))
        self._vote_accuracy.append(correct["vote"][..., -1].mean(axis=1))
        self._full_tokens.append(tokens[..., -1].mean(axis=1))

        # Look up where each rule stopped; rules that abort completions are replayed on all n completions.
        full_subsets = DrawnSubsets(block, draws)
        for planned in self._plan:
            if planned.name in KEEP_SHARES:
                n_begun, cost, winners = aborts.replay_deepconf(
                    [trace.deepconf for trace in traces],
                    block,
                    full_subsets.answers,
                    draws,
                    keep=KEEP_SHARES[planned.name],
                    warmup=max(1, self._n // 4),
                )
                self._record(planned.name, "vote", _take(labels, winners), n_begun, cost)
            elif planned.abort:
                replays = [
                    aborts.replay_abort(trace.abort_traces[planned.name], draws, planned.abort) for trace in traces
                ]
                finished = np.stack([finished for _, finished in replays])
                remaining = DrawnSubsets(block, draws, finished=finished)
                winners = choose_winners(_vote_method(self._scorer), remaining)
                cost = np.stack([spent.sum(axis=-1) for spent, _ in replays])
                self._record(planned.name, "vote", _take(labels, winners), np.full(cost.shape, self._n), cost)
            else:
                fixed = planned.name.removeprefix("fixed:")
                stop = stops[planned.name] if planned.rule else np.full(labels.shape[:2], int(fixed))
                for choice in planned.choices:
                    self._record(planned.name, choice, _take(correct[choice], stop - 1), stop, _take(tokens, stop - 1))

    def _make_votes(self, subsets: DrawnSubsets) -> Votes:
        """Return the draws as rules read them, with questions and orders in one axis."""
        probabilities = subsets.probabilities(self._scorer)

        def flatten(values: F64) -> F64:
            return np.where(subsets.complete, values, np.nan).reshape(-1, values.shape[-1])

        return Votes(
            answers=subsets.answers.reshape(-1, subsets.answers.shape[-1]),
            n=self._n,
            probabilities=None if probabilities is None else flatten(probabilities),
            scores=flatten(subsets.scores(self._scorer)),
            vote_weights=weigh(_vote_method(self._scorer), subsets).reshape(-1, subsets.answers.shape[-1]),
            beta=subsets.beta,
            costs=self._head.stopping_costs if self._head else (),
        )

    def _record(self, name: str, choice: ChoiceMethod, correct: F64, n_drawn: I64, tokens: I64) -> None:
        means = [values.mean(axis=1) for values in (correct, n_drawn, tokens)]
        self._means[name, choice].append(np.stack(means, axis=1))

    def question_means(self, name: str, choice: ChoiceMethod) -> F64:
        """Return accuracy, completions and tokens of one row, means over the orders, (Q, 3)."""
        return np.concatenate(self._means[name, choice])

    @property
    def majority_means(self) -> F64:
        """Accuracy, completions and tokens of majority over all n, means over the orders, (Q, 3)."""
        accuracy, tokens = np.concatenate(self._majority_accuracy), np.concatenate(self._full_tokens)
        return np.stack([accuracy, np.full(len(accuracy), float(self._n)), tokens], axis=1)

    @property
    def vote_means(self) -> F64:
        """Accuracy, completions and tokens of the vote of ``best_of`` over all n, means over the orders, (Q, 3)."""
        return np.concatenate([np.concatenate(self._vote_accuracy)[:, None], self.majority_means[:, 1:]], axis=1)

    def majority_accuracy(self, *, resamples: int, seed: int) -> Estimate:
        """Return the accuracy of majority over all n."""
        column = np.concatenate(self._majority_accuracy)
        sums = resampled_sums(column[:, None], resamples=resamples, seed=seed)[:, 0]
        return estimate(np.concatenate([[column.mean()], sums / len(column)]))

    def rows(self, *, resamples: int, seed: int) -> tuple[Replayed, ...]:
        """Return all rows, with intervals from one resampling of the questions."""
        # One column per number that is averaged over questions; all share the resamples.
        shared = np.stack(
            [*map(np.concatenate, (self._majority_accuracy, self._vote_accuracy, self._full_tokens))], axis=1
        )
        table = np.concatenate([shared, *map(np.concatenate, self._means.values())], axis=1)
        sums = sums_with_resamples(table, resamples=resamples, seed=seed)
        n_questions, (majority, full_vote, all_tokens) = len(table), sums[:, :3].T
        plan = {planned.name: planned for planned in self._plan}
        rows = []
        for index, (name, choice) in enumerate(self._means):
            correct, n_drawn, tokens = sums[:, 3 + 3 * index : 6 + 3 * index].T
            rows.append(
                Replayed(
                    name=name,
                    choice=choice,
                    published=choice == plan[name].choices[0],
                    source=plan[name].source,
                    swept=plan[name].swept,
                    accuracy=estimate(correct / n_questions),
                    minus_majority=estimate((correct - majority) / n_questions),
                    minus_vote=estimate((correct - full_vote) / n_questions),
                    completions=estimate(n_drawn / n_questions),
                    token_share=estimate(tokens / all_tokens),
                )
            )
        return tuple(rows)


def _take(values: _Values, positions: I64) -> _Values:
    """Return values (Q, S, n) at positions (Q, S)."""
    selected: _Values = np.take_along_axis(values, positions[..., None], axis=-1)[..., 0]
    return selected


def _apply_rule(rule: StoppingRule, votes: Votes, stops: I64, active: Bool) -> None:
    """Ask the rule about the active replays, and record in ``stops`` and ``active`` which of them it stops."""
    rows = np.flatnonzero(active)
    if not len(rows):
        return
    stopped = rows[rule.verdicts(votes.select_rows(rows)).stop]
    stops.flat[stopped] = votes.n_seen
    active.flat[stopped] = False


def _vote_method(scorer: str) -> Method:
    """Return the method by which ``best_of`` votes with this scorer."""
    return _METHODS_BY_NAME["head_vote" if scorer == "head" else "default"]


def _replay_choice(choice: ChoiceMethod, subsets: DrawnSubsets, votes: Votes, scorer: str) -> I64:
    """Return the positions (Q, S) of the winners among the draws so far."""
    match choice:
        case "majority":
            return choose_winners(_METHODS_BY_NAME["majority"], subsets)
        case "vote":
            return choose_winners(_vote_method(scorer), subsets)
        case "best":
            return choose_winners(_METHODS_BY_NAME[scorer], subsets)
        case "posterior":
            clip = STOPPING_RULES["posterior"].parameters["clip"]
            log_odds = vote_log_odds(votes, clip=clip).reshape(subsets.answers.shape)
            winners = vote(subsets.answers, subsets.scores(scorer), log_odds)
            return np.where(subsets.has_votes, winners, choose_winners(_METHODS_BY_NAME[scorer], subsets))
