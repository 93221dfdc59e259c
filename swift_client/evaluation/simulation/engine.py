"""The engine of ``simulate``: what each rule draws, chooses and costs, over many questions and orders at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.evaluation.bootstrap import estimate, resampled_sums
from swift_client.evaluation.methods import METHODS, Agreement, Drawn, picks
from swift_client.evaluation.pools import Pool, Pools
from swift_client.evaluation.result import Estimate
from swift_client.evaluation.simulation import deepconf, early_abort
from swift_client.evaluation.simulation.deepconf import Traces
from swift_client.evaluation.simulation.result import Choice, Replayed
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.sampling import Abort, abort_of
from swift_client.selection.voting import vote
from swift_client.stopping import STOPPING_RULES, Ballots, StoppingRule, stopping_rule
from swift_client.stopping.weighted_rules import log_odds
from swift_client.types import Bool, Completion

FIXED = (1, 2, 4, 8)
"""Fixed numbers of completions that stand beside the rules, where they are fewer than n."""
ABORTS = ("abort_deepconf", "abort_head")
"""What ``best_of(abort=...)`` does by default."""
_KEEPS = (0.3, 0.5, 0.7, 0.95)
_METHODS = {method.name: method for method in METHODS}


class Planned(NamedTuple):
    """One thing to replay, and the ways to choose."""

    name: str
    rule: StoppingRule | None
    """None for a fixed number and for DeepConf, which are told by their names, and for ``abort``."""
    choices: tuple[Choice, ...]
    source: str
    swept: bool = False
    abort: Abort | None = None
    """How streams are closed; all n are begun."""


class Traced(NamedTuple):
    """One question's completions, in the order of their indices, as the rules that close streams see them."""

    deepconf: Traces
    watched: Mapping[str, Traces]
    """By the name of the planned row."""

    @classmethod
    def of(cls, completions: Sequence[Completion], planned: Sequence[Planned], head: HeadArtifact | None) -> Traced:
        """Read the completions for those of the planned rows that close streams."""
        ordered = sorted(completions, key=lambda completion: completion.index)
        rows = {each.name: early_abort.watched(ordered, each.abort, head) for each in planned if each.abort}
        return cls(Traces.of(ordered), rows)


def plan(rules: str | Sequence[str | StoppingRule], *, n: int, sweep: bool, probabilities: bool) -> list[Planned]:
    """Return what ``simulate`` is to replay. Raises ConfigurationError for what is no rule or needs a head."""
    fixed = [f"fixed:{each}" for each in FIXED if each < n] + [f"fixed:{n}"]
    if rules == "all":
        wanted: Sequence[str | StoppingRule] = [*fixed, *STOPPING_RULES, *deepconf.KEEP, *ABORTS]
    else:
        wanted = rules.split(",") if isinstance(rules, str) else rules
    planned = []
    for spec in wanted:
        if isinstance(spec, str) and (spec in deepconf.KEEP or spec.startswith("fixed:")):
            planned.append(_without_rule(spec, n))
            continue
        if isinstance(spec, str) and spec.startswith(early_abort.PREFIX):
            if rules != "all" or probabilities or spec != "abort_head":
                planned += _closing(spec, probabilities=probabilities, sweep=sweep)
            continue
        rule = stopping_rule(spec)
        if not probabilities and "probabilities" in rule.needs:
            if rules == "all":
                continue
            raise ConfigurationError(f"The rule {rule.name} needs a calibrated head.", hint="Give one with --head.")
        own: Choice = "vote" if rule.choice == "posterior" and not probabilities else rule.choice
        choices: tuple[Choice, ...] = tuple(dict.fromkeys((own, "vote")))
        planned.append(Planned(str(rule), rule, choices, rule.source))
        if sweep and rule.sweep and (probabilities or rule.needs):  # auto's parameter is a head's
            name, values = rule.sweep
            others = [value for value in values if value != rule.parameters[name]]
            swept = [rule.using(**{name: value}) for value in others]
            planned += [Planned(str(each), each, choices, each.source, swept=True) for each in swept]
    return planned


def _without_rule(spec: str, n: int) -> Planned:
    if spec in deepconf.KEEP:
        return Planned(spec, None, ("vote",), "DeepConf, arXiv 2508.15260")
    count = spec.removeprefix("fixed:")
    if not (count.isdecimal() and 1 <= int(count) <= n):
        raise ConfigurationError(f"{spec!r} is no fixed number from 1 to {n}.", hint="Write it as fixed:4.")
    return Planned(spec, None, ("majority", "vote"), "a fixed number")


def _closing(spec: str, *, probabilities: bool, sweep: bool) -> list[Planned]:
    rule = abort_of(spec.removeprefix(early_abort.PREFIX))
    if rule is None or (rule.by == "head" and not probabilities):
        raise ConfigurationError(f"{spec} needs a calibrated head.", hint="Give one with --head.")
    source = "swift-client" if rule.by == "head" else "DeepConf, arXiv 2508.15260, with best_of's vote"
    rows = [Planned(spec, None, ("vote",), source, abort=rule)]
    if sweep and spec in ABORTS:
        for keep in _KEEPS:
            swept = replace(rule, keep=keep)
            rows.append(Planned(f"{spec}:keep={keep:g}", None, ("vote",), source, swept=True, abort=swept))
    return rows


class _Means(NamedTuple):
    """Of one row: for each question so far, means over the orders."""

    right: list[F64]
    drawn: list[F64]
    spent: list[F64]


class Replays:
    """Replays block by block, and what comes of all."""

    def __init__(
        self,
        n: int,
        planned: Sequence[Planned],
        *,
        looks: Set[int],
        scorer: str,
        auto: bool,
        agreement: Agreement | None,
    ) -> None:
        self._n, self._plan, self._looks = n, planned, looks
        self._scorer, self._auto, self._agreement = scorer, auto, agreement
        self._means: dict[tuple[str, Choice], _Means] = {
            (each.name, choice): _Means([], [], []) for each in planned for choice in each.choices
        }
        self._majority: list[F64] = []
        self._all: list[F64] = []

    def __len__(self) -> int:
        return sum(map(len, self._all))

    @property
    def tokens(self) -> float:
        """Mean completion tokens of all n."""
        return float(np.concatenate(self._all).mean())

    def add(self, pools: Sequence[Pool], traced: Sequence[Traced], draws: I64) -> None:
        """Replay questions with equally many completions, in the orders (S, n)."""
        block = Pools.of(pools)
        known = ~np.isnan(block.labels).all(axis=1, keepdims=True)
        labels = np.where(known, block.labels == 1, np.nan)[:, draws]
        spent = np.cumsum(np.stack([each.tokens for each in pools])[:, draws], axis=-1)
        stops = {each.name: np.full(labels.shape[:2], self._n) for each in self._plan if each.rule}
        running = {name: np.ones(labels.shape[:2], np.bool_) for name in stops}
        right: dict[Choice, F64] = {choice: np.empty(labels.shape) for _, choice in self._means}
        right["majority"] = np.empty(labels.shape)
        for seen in range(1, self._n + 1):
            drawn = Drawn(block, draws[:, :seen], auto=self._auto, agreement=self._agreement)
            ballots = _ballots(drawn, self._n, self._scorer)
            for each in self._plan:
                if each.rule and seen in self._looks:
                    _advance(each.rule, ballots, stops[each.name], running[each.name])
            for choice, table in right.items():
                winner = _chosen(choice, drawn, ballots, self._scorer)
                table[..., seen - 1] = np.take_along_axis(labels[..., :seen], winner[..., None], axis=-1)[..., 0]
        full = drawn.answers
        self._majority.append(right["majority"][..., -1].mean(axis=1))
        self._all.append(spent[..., -1].mean(axis=1))
        for each in self._plan:
            if each.name in deepconf.KEEP:
                warm = max(1, self._n // 4)
                begun, cost, winner = deepconf.replay(
                    [every.deepconf for every in traced], block, full, draws, keep=deepconf.KEEP[each.name], warm=warm
                )
                got = np.take_along_axis(labels, winner[..., None], axis=-1)[..., 0]
                self._note(each.name, "vote", got, begun, cost)
                continue
            if each.abort:
                replayed = [early_abort.replay(every.watched[each.name], draws, each.abort) for every in traced]
                ended = np.stack([kept for _, kept in replayed])
                left = Drawn(block, draws, auto=self._auto, agreement=self._agreement, ended=ended)
                winner = _chosen("vote", left, ballots, self._scorer)
                got = np.take_along_axis(labels, winner[..., None], axis=-1)[..., 0]
                cost = np.stack([tokens.sum(axis=-1) for tokens, _ in replayed])
                self._note(each.name, "vote", got, np.full(cost.shape, self._n), cost)
                continue
            stop = stops[each.name] if each.rule else np.full(labels.shape[:2], int(each.name.removeprefix("fixed:")))
            last = stop[..., None] - 1
            for choice in each.choices:
                got = np.take_along_axis(right[choice], last, axis=-1)[..., 0]
                self._note(each.name, choice, got, stop, np.take_along_axis(spent, last, axis=-1)[..., 0])

    def _note(self, name: str, choice: Choice, right: F64, drawn: I64, spent: I64) -> None:
        means = self._means[name, choice]
        means.right.append(right.mean(axis=1))
        means.drawn.append(drawn.mean(axis=1))
        means.spent.append(spent.mean(axis=1))

    def majority(self, *, resamples: int, seed: int) -> Estimate:
        """Return the accuracy of majority over all n."""
        column = np.concatenate(self._majority)
        sums = resampled_sums(column[:, None], resamples=resamples, seed=seed)[:, 0]
        return estimate(float(column.mean()), sums / len(column))

    def rows(self, *, resamples: int, seed: int) -> tuple[Replayed, ...]:
        """Return all rows, with intervals from one resampling of the questions."""
        majority, all_tokens = np.concatenate(self._majority), np.concatenate(self._all)
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


def _ballots(drawn: Drawn, n: int, scorer: str) -> Ballots:
    """Return the draws as the rules see them, questions and orders in one axis."""
    chances = drawn.chances(scorer)

    def flat(values: F64) -> F64:
        return np.where(drawn.whole, values, np.nan).reshape(-1, values.shape[-1])

    return Ballots(
        answers=drawn.answers.reshape(-1, drawn.answers.shape[-1]),
        n=n,
        probabilities=None if chances is None else flat(chances),
        scores=flat(drawn.scores(scorer)),
    )


def _advance(rule: StoppingRule, ballots: Ballots, stops: I64, running: Bool) -> None:
    """Ask the rule about the replays that still run, and write down where it stops."""
    rows = np.flatnonzero(running)
    if not len(rows):
        return
    asked = replace(
        ballots,
        answers=ballots.answers[rows],
        probabilities=None if ballots.probabilities is None else ballots.probabilities[rows],
        scores=None if ballots.scores is None else ballots.scores[rows],
    )
    ended = rows[rule.verdicts(asked).stop]
    stops.flat[ended] = ballots.seen
    running.flat[ended] = False


def _chosen(choice: Choice, drawn: Drawn, ballots: Ballots, scorer: str) -> I64:
    """Return the positions (Q, S) of what is chosen from the draws so far."""
    if choice == "posterior":
        odds = log_odds(ballots, clip=STOPPING_RULES["posterior"].parameters["clip"]).reshape(drawn.answers.shape)
        voted = vote(drawn.answers, drawn.scores(scorer), odds)
        return np.where(drawn.voted, voted, picks(_METHODS[scorer], drawn))
    by_vote = "head_vote" if scorer == "head" else "majority_ties"
    return picks(_METHODS[{"majority": "majority", "vote": by_vote, "best": scorer}[choice]], drawn)
