"""The engine of ``simulate``: what each rule draws, chooses and costs, over many questions and orders at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.evaluation.bootstrap import estimate, resampled_sums
from swift_client.evaluation.methods import METHODS, Agreement, DrawnSubsets, choose_winners
from swift_client.evaluation.pools import Pool, StackedPools
from swift_client.evaluation.result import Estimate
from swift_client.evaluation.simulation import deepconf, early_abort
from swift_client.evaluation.simulation.deepconf import Traces
from swift_client.evaluation.simulation.result import ChoiceMethod, Replayed
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.sampling import EarlyAbort, parse_abort
from swift_client.selection.voting import vote
from swift_client.stopping import STOPPING_RULES, StoppingRule, Votes, stopping_rule, vote_log_odds
from swift_client.types import Bool, Completion

FIXED_COUNTS = (1, 2, 4, 8)
"""Fixed numbers of completions that stand beside the rules, where they are fewer than n."""
ABORT_NAMES = ("abort_deepconf", "abort_head")
"""What ``best_of(abort=...)`` does by default."""
_KEEP_SWEEP = (0.3, 0.5, 0.7, 0.95)
_METHODS_BY_NAME = {method.name: method for method in METHODS}


class PlannedReplay(NamedTuple):
    """One thing to replay, and the ways to choose."""

    name: str
    rule: StoppingRule | None
    """None for a fixed number and for DeepConf, which are told by their names, and for ``abort``."""
    choices: tuple[ChoiceMethod, ...]
    source: str
    swept: bool = False
    abort: EarlyAbort | None = None
    """How streams are closed; all n are begun."""


class QuestionTrace(NamedTuple):
    """One question's completions, in the order of their indices, as the rules that close streams see them."""

    deepconf: Traces
    abort_traces: Mapping[str, Traces]
    """By the name of the planned row."""

    @classmethod
    def from_completions(
        cls, completions: Sequence[Completion], plan: Sequence[PlannedReplay], head: HeadArtifact | None
    ) -> QuestionTrace:
        """Read the completions for those of the planned rows that close streams."""
        ordered = sorted(completions, key=lambda completion: completion.index)
        rows = {each.name: early_abort.trace_completions(ordered, each.abort, head) for each in plan if each.abort}
        return cls(Traces.from_completions(ordered), rows)


def plan_replays(
    rules: str | Sequence[str | StoppingRule], *, n: int, sweep: bool, probabilities: bool
) -> list[PlannedReplay]:
    """Return what ``simulate`` is to replay. Raises ConfigurationError for what is no rule or needs a head."""
    fixed = [f"fixed:{each}" for each in FIXED_COUNTS if each < n] + [f"fixed:{n}"]
    if rules == "all":
        wanted: Sequence[str | StoppingRule] = [*fixed, *STOPPING_RULES, *deepconf.KEEP_SHARES, *ABORT_NAMES]
    else:
        wanted = rules.split(",") if isinstance(rules, str) else rules
    planned = []
    for spec in wanted:
        if isinstance(spec, str) and (spec in deepconf.KEEP_SHARES or spec.startswith("fixed:")):
            planned.append(_plan_named(spec, n))
            continue
        if isinstance(spec, str) and spec.startswith(early_abort.PREFIX):
            if rules != "all" or probabilities or spec != "abort_head":
                planned += _plan_abort(spec, probabilities=probabilities, sweep=sweep)
            continue
        rule = stopping_rule(spec)
        if not probabilities and "probabilities" in rule.needs:
            if rules == "all":
                continue
            raise ConfigurationError(f"The rule {rule.name} needs a calibrated head.", hint="Give one with --head.")
        own: ChoiceMethod = "vote" if rule.choice == "posterior" and not probabilities else rule.choice
        choices: tuple[ChoiceMethod, ...] = tuple(dict.fromkeys((own, "vote")))
        planned.append(PlannedReplay(str(rule), rule, choices, rule.source))
        if sweep and rule.sweep and (probabilities or rule.needs):  # auto's parameter is a head's
            name, values = rule.sweep
            others = [value for value in values if value != rule.parameters[name]]
            swept = [rule.with_parameters(**{name: value}) for value in others]
            planned += [PlannedReplay(str(each), each, choices, each.source, swept=True) for each in swept]
    return planned


def _plan_named(spec: str, n: int) -> PlannedReplay:
    if spec in deepconf.KEEP_SHARES:
        return PlannedReplay(spec, None, ("vote",), "DeepConf, arXiv 2508.15260")
    count = spec.removeprefix("fixed:")
    if not (count.isdecimal() and 1 <= int(count) <= n):
        raise ConfigurationError(f"{spec!r} is no fixed number from 1 to {n}.", hint="Write it as fixed:4.")
    return PlannedReplay(spec, None, ("majority", "vote"), "a fixed number")


def _plan_abort(spec: str, *, probabilities: bool, sweep: bool) -> list[PlannedReplay]:
    rule = parse_abort(spec.removeprefix(early_abort.PREFIX))
    if rule is None or (rule.by == "head" and not probabilities):
        raise ConfigurationError(f"{spec} needs a calibrated head.", hint="Give one with --head.")
    source = "swift-client" if rule.by == "head" else "DeepConf, arXiv 2508.15260, with best_of's vote"
    rows = [PlannedReplay(spec, None, ("vote",), source, abort=rule)]
    if sweep and spec in ABORT_NAMES:
        for keep in _KEEP_SWEEP:
            swept = replace(rule, keep=keep)
            rows.append(PlannedReplay(f"{spec}:keep={keep:g}", None, ("vote",), source, swept=True, abort=swept))
    return rows


class _QuestionMeans(NamedTuple):
    """Of one row: for each question so far, means over the orders."""

    accuracy: list[F64]
    completions: list[F64]
    tokens: list[F64]


class ReplayEngine:
    """Replays block by block, and what comes of all."""

    def __init__(
        self,
        n: int,
        plan: Sequence[PlannedReplay],
        *,
        check_points: Set[int],
        scorer: str,
        auto_answer: bool,
        agreement: Agreement | None,
    ) -> None:
        self._n, self._plan, self._check_points = n, plan, check_points
        self._scorer, self._auto_answer, self._agreement = scorer, auto_answer, agreement
        self._means: dict[tuple[str, ChoiceMethod], _QuestionMeans] = {
            (each.name, choice): _QuestionMeans([], [], []) for each in plan for choice in each.choices
        }
        self._majority_accuracy: list[F64] = []
        self._full_tokens: list[F64] = []

    def __len__(self) -> int:
        return sum(map(len, self._full_tokens))

    @property
    def mean_tokens(self) -> float:
        """Mean completion tokens of all n."""
        return float(np.concatenate(self._full_tokens).mean())

    def add(self, pools: Sequence[Pool], traces: Sequence[QuestionTrace], draws: I64) -> None:
        """Replay questions with equally many completions, in the orders (S, n)."""
        block = StackedPools.stack(pools)
        known = ~np.isnan(block.labels).all(axis=1, keepdims=True)
        labels = np.where(known, block.labels == 1, np.nan)[:, draws]
        spent = np.cumsum(np.stack([each.tokens for each in pools])[:, draws], axis=-1)
        stops = {each.name: np.full(labels.shape[:2], self._n) for each in self._plan if each.rule}
        running = {name: np.ones(labels.shape[:2], np.bool_) for name in stops}
        right: dict[ChoiceMethod, F64] = {choice: np.empty(labels.shape) for _, choice in self._means}
        right["majority"] = np.empty(labels.shape)
        for seen in range(1, self._n + 1):
            drawn = DrawnSubsets(block, draws[:, :seen], auto_answer=self._auto_answer, agreement=self._agreement)
            ballots = _make_votes(drawn, self._n, self._scorer)
            for each in self._plan:
                if each.rule and seen in self._check_points:
                    _apply_rule(each.rule, ballots, stops[each.name], running[each.name])
            for choice, table in right.items():
                winner = _choose_winners(choice, drawn, ballots, self._scorer)
                table[..., seen - 1] = np.take_along_axis(labels[..., :seen], winner[..., None], axis=-1)[..., 0]
        full = drawn.answers
        self._majority_accuracy.append(right["majority"][..., -1].mean(axis=1))
        self._full_tokens.append(spent[..., -1].mean(axis=1))
        for each in self._plan:
            if each.name in deepconf.KEEP_SHARES:
                warm = max(1, self._n // 4)
                begun, cost, winner = deepconf.replay(
                    [every.deepconf for every in traces],
                    block,
                    full,
                    draws,
                    keep=deepconf.KEEP_SHARES[each.name],
                    warmup=warm,
                )
                got = np.take_along_axis(labels, winner[..., None], axis=-1)[..., 0]
                self._record(each.name, "vote", got, begun, cost)
                continue
            if each.abort:
                replayed = [early_abort.replay(every.abort_traces[each.name], draws, each.abort) for every in traces]
                ended = np.stack([kept for _, kept in replayed])
                left = DrawnSubsets(
                    block, draws, auto_answer=self._auto_answer, agreement=self._agreement, finished=ended
                )
                winner = _choose_winners("vote", left, ballots, self._scorer)
                got = np.take_along_axis(labels, winner[..., None], axis=-1)[..., 0]
                cost = np.stack([tokens.sum(axis=-1) for tokens, _ in replayed])
                self._record(each.name, "vote", got, np.full(cost.shape, self._n), cost)
                continue
            stop = stops[each.name] if each.rule else np.full(labels.shape[:2], int(each.name.removeprefix("fixed:")))
            last = stop[..., None] - 1
            for choice in each.choices:
                got = np.take_along_axis(right[choice], last, axis=-1)[..., 0]
                self._record(each.name, choice, got, stop, np.take_along_axis(spent, last, axis=-1)[..., 0])

    def _record(self, name: str, choice: ChoiceMethod, correct: F64, n_drawn: I64, tokens: I64) -> None:
        means = self._means[name, choice]
        means.accuracy.append(correct.mean(axis=1))
        means.completions.append(n_drawn.mean(axis=1))
        means.tokens.append(tokens.mean(axis=1))

    def majority_accuracy(self, *, resamples: int, seed: int) -> Estimate:
        """Return the accuracy of majority over all n."""
        column = np.concatenate(self._majority_accuracy)
        sums = resampled_sums(column[:, None], resamples=resamples, seed=seed)[:, 0]
        return estimate(float(column.mean()), sums / len(column))

    def rows(self, *, resamples: int, seed: int) -> tuple[Replayed, ...]:
        """Return all rows, with intervals from one resampling of the questions."""
        majority, all_tokens = np.concatenate(self._majority_accuracy), np.concatenate(self._full_tokens)
        columns = [majority, all_tokens]
        for means in self._means.values():
            columns += map(np.concatenate, means)
        table = np.stack(columns, axis=1)
        # the first row is the questions as they are
        total = np.concatenate([table.sum(axis=0)[None], resampled_sums(table, resamples=resamples, seed=seed)])
        count, base, cost = len(table), total[:, 0], total[:, 1]
        rows = []
        by_name = {each.name: each for each in self._plan}
        for place, (name, choice) in enumerate(self._means):
            right, drawn, spent = total[:, 2 + 3 * place : 5 + 3 * place].T
            each = by_name[name]
            rows.append(
                Replayed(
                    name=name,
                    choice=choice,
                    published=choice == each.choices[0],
                    source=each.source,
                    swept=each.swept,
                    accuracy=estimate(float(right[0] / count), right[1:] / count),
                    minus_majority=estimate(float((right - base)[0] / count), (right - base)[1:] / count),
                    completions=estimate(float(drawn[0] / count), drawn[1:] / count),
                    token_share=estimate(float(spent[0] / cost[0]), spent[1:] / cost[1:]),
                )
            )
        return tuple(rows)


def _make_votes(drawn: DrawnSubsets, n: int, scorer: str) -> Votes:
    """Return the draws as the rules see them, questions and orders in one axis."""
    chances = drawn.probabilities(scorer)

    def flat(values: F64) -> F64:
        return np.where(drawn.complete, values, np.nan).reshape(-1, values.shape[-1])

    return Votes(
        answers=drawn.answers.reshape(-1, drawn.answers.shape[-1]),
        n=n,
        probabilities=None if chances is None else flat(chances),
        scores=flat(drawn.scores(scorer)),
    )


def _apply_rule(rule: StoppingRule, votes: Votes, stops: I64, active: Bool) -> None:
    """Ask the rule about the replays that still run, and write down where it stops."""
    rows = np.flatnonzero(active)
    if not len(rows):
        return
    asked = replace(
        votes,
        answers=votes.answers[rows],
        probabilities=None if votes.probabilities is None else votes.probabilities[rows],
        scores=None if votes.scores is None else votes.scores[rows],
    )
    ended = rows[rule.verdicts(asked).stop]
    stops.flat[ended] = votes.n_seen
    active.flat[ended] = False


def _choose_winners(choice: ChoiceMethod, drawn: DrawnSubsets, votes: Votes, scorer: str) -> I64:
    """Return the positions (Q, S) of what is chosen from the draws so far."""
    if choice == "posterior":
        odds = vote_log_odds(votes, clip=STOPPING_RULES["posterior"].parameters["clip"]).reshape(drawn.answers.shape)
        voted = vote(drawn.answers, drawn.scores(scorer), odds)
        return np.where(drawn.has_votes, voted, choose_winners(_METHODS_BY_NAME[scorer], drawn))
    by_vote = "head_vote" if scorer == "head" else "majority_ties"
    return choose_winners(_METHODS_BY_NAME[{"majority": "majority", "vote": by_vote, "best": scorer}[choice]], drawn)
