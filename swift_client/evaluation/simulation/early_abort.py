"""The closing of streams in ``best_of`` (:mod:`swift_client.sampling.early_abort`), replayed over stored tokens.

A stored completion is charged up to the token where it falls under the bar; a real stream looks every few tokens, and
some more are under way when it is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from swift_client.evaluation.simulation.deepconf import Traces
from swift_client.features import TokenTable, listed_ranks, token_columns
from swift_client.features.segments import F64, I64, rolling_mean
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.sampling import EarlyAbort
from swift_client.types import Bool, Completion

PREFIX = "abort_"
"""Before the rest of a row's name, which is what ``abort=`` takes."""


def trace_completions(completions: Sequence[Completion], rule: EarlyAbort, head: HeadArtifact | None) -> Traces:
    """Return the lowest standing of each completion so far, from the first full window on."""
    if rule.by == "head" and head is not None:
        standings = running_scores(head, completions)
    else:
        table = TokenTable(completions, width=max(map(listed_ranks, completions), default=0))
        standings = [rolling_mean(run, rule.window) for run in table.split(table.confidence)]
    lowest = tuple(np.minimum.accumulate(each[rule.window - 1 :]) for each in standings)
    return Traces(running_minima=lowest, tokens=np.array([len(each) for each in standings], np.int64))


def running_scores(head: HeadArtifact, completions: Sequence[Completion]) -> list[F64]:
    """Return what :class:`swift_client.scoring.streaming.RunningScore` gives after each token, one (T,) array each."""
    table = TokenTable(completions, width=head.width, k=head.k_max)
    values = head.standardizer(token_columns(table, head.features).values)
    gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
    return [
        np.cumsum(gates[start:end] * rewards[start:end]) / np.maximum(np.cumsum(gates[start:end]), GATE_SUM_EPS)
        for start, end in pairwise(table.offsets)
    ]


def replay(trace: Traces, draws: I64, rule: EarlyAbort) -> tuple[I64, Bool]:
    """Replay one question in S orders: the tokens spent on each completion, and whether it ended by itself; (S, n).

    ``draws`` are positions (S, n) in the order of arrival. The bar is learnt from the first ``rule.warmup`` completions
    that fill a window, and holds for those that come after them.
    """
    lows = np.array([each[-1] if len(each) else np.nan for each in trace.running_minima])[draws]
    known = ~np.isnan(lows)
    first = np.argsort(~known, axis=1, kind="stable")[:, : rule.warmup]
    learnt = known.sum(axis=1) >= rule.warmup
    bars = np.full(len(draws), -np.inf)
    bars[learnt] = np.quantile(np.take_along_axis(lows, first, axis=1)[learnt], 1 - rule.keep, axis=1)
    armed = np.cumsum(known, axis=1) - known >= rule.warmup
    cost = np.stack([trace.tokens_spent(which, bars) for which in range(len(trace.tokens))], axis=1)
    tokens = trace.tokens[draws]
    spent = np.where(armed, np.take_along_axis(cost, draws, axis=1), tokens)
    return spent, spent == tokens
