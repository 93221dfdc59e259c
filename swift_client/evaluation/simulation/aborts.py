"""Replay of rules that abort completions: DeepConf-online, and ``best_of(abort=...)``.

DeepConf-online (arXiv 2508.15260): the first completions of a question are drawn in full. A percentile of their lowest
group confidences is the threshold; a later completion ends, and does not vote, at the first token where its running
group confidence falls below it. Votes are weighed by their lowest group confidence, and drawing stops when one answer
has ``CONSENSUS_SHARE`` of all weight. The paper warms up on 16 completions of hundreds and takes windows of 2048
tokens; here both are scaled to 16 short completions.

``best_of`` closes streams (``swift_client.sampling.early_abort``) by the same comparison, and draws all n. A stored
completion is charged up to the token where it falls below the threshold; a real stream is checked every few tokens, and
some more are under way when it is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swift_client.evaluation.pools import StackedPools
from swift_client.features import TokenTable, listed_ranks, token_columns
from swift_client.features.segments import F64, I64, rolling_mean
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.sampling import EarlyAbort
from swift_client.selection.voting import vote
from swift_client.types import Bool, Completion

WINDOW = 16  # tokens of a group
CONSENSUS_SHARE = 0.95
# Share of the warm-up completions above the threshold, in the two variants of the paper.
KEEP_SHARES = {"deepconf_low": 0.1, "deepconf_high": 0.9}
PREFIX = "abort_"  # prefix of a row's name; the rest is a value of ``abort=``


@dataclass(frozen=True, eq=False, kw_only=True)
class Traces:
    """Running minima of the m completions of one question."""

    # Per completion (T - w + 1,): lowest value so far, at the end of each window of w = min(T, WINDOW) tokens.
    running_minima: tuple[F64, ...]
    tokens: I64  # (m,) lengths

    @classmethod
    def from_completions(cls, completions: Sequence[Completion]) -> Traces:
        """Trace group confidence, completions in the order of their indices; one without logprobs is never aborted."""
        table = _confidence_table(completions)
        return cls(running_minima=tuple(map(_running_minimum, table.split(table.confidence))), tokens=table.lengths)

    @property
    def final_minima(self) -> F64:
        """(m,) lowest value of the whole completion, NaN if no window is full."""
        return np.array([minima[-1] if len(minima) else np.nan for minima in self.running_minima])

    def tokens_spent(self, index: int, thresholds: F64) -> I64:
        """Return after how many tokens a completion falls below each threshold (S,); all tokens if it never does."""
        minima = self.running_minima[index]
        window = np.searchsorted(-minima, -thresholds, side="right")  # the first window below the threshold
        before = self.tokens[index] - len(minima) + 1
        spent: I64 = np.where(window < len(minima), before + window, self.tokens[index])
        return spent


def _confidence_table(completions: Sequence[Completion]) -> TokenTable:
    return TokenTable(completions, width=max(map(listed_ranks, completions), default=0))


def _running_minimum(confidence: F64) -> F64:
    window = min(WINDOW, len(confidence))
    return np.minimum.accumulate(rolling_mean(confidence, window)[window - 1 :]) if window else confidence


def trace_completions(completions: Sequence[Completion], rule: EarlyAbort, head: HeadArtifact | None) -> Traces:
    """Trace the running score that ``rule`` compares with its threshold, from the first full window on."""
    if rule.by == "head" and head is not None:
        scores = running_scores(head, completions)
    else:
        table = _confidence_table(completions)
        scores = [rolling_mean(confidence, rule.window) for confidence in table.split(table.confidence)]
    minima = tuple(np.minimum.accumulate(values[rule.window - 1 :]) for values in scores)
    return Traces(running_minima=minima, tokens=np.array([len(values) for values in scores], np.int64))


def running_scores(head: HeadArtifact, completions: Sequence[Completion]) -> list[F64]:
    """Return the scores of ``swift_client.scoring.streaming.StreamingScore`` per token, (T,) per completion."""
    table = TokenTable(completions, width=head.width, k=head.k_max)
    values = head.standardizer(token_columns(table, head.features).values)
    gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
    return [
        np.cumsum(gates[start:end] * rewards[start:end]) / np.maximum(np.cumsum(gates[start:end]), GATE_SUM_EPS)
        for start, end in pairwise(table.offsets)
    ]


def replay_deepconf(
    traces: Sequence[Traces], pools: StackedPools, answers: I64, draws: I64, *, keep: float, warmup: int
) -> tuple[I64, I64, I64]:
    """Replay DeepConf-online on Q questions in S orders.

    Args:
        traces: of each question.
        pools: the same questions.
        answers: (Q, S, n) as in ``methods.DrawnSubsets``.
        draws: (S, n).
        keep: share of the warm-up completions above the threshold.
        warmup: completions that are drawn in full.

    Returns:
        Completions begun, tokens spent and positions of the winners, each (Q, S).
    """
    n = draws.shape[1]
    minima = np.stack([trace.final_minima for trace in traces])
    minima = np.where(np.isnan(minima), 0.0, minima)
    thresholds = np.quantile(minima[:, draws[:, :warmup]], 1 - keep, axis=-1)
    # Tokens that each drawn completion costs: all of them during warm-up, then up to the threshold.
    spent = np.empty(answers.shape, np.int64)
    for question, trace in enumerate(traces):
        spent[question] = _drawn_costs(trace, draws, thresholds[question])
        spent[question, :, :warmup] = trace.tokens[draws[:, :warmup]]
    tokens = np.stack([trace.tokens for trace in traces])[:, draws]
    voting_answers = np.where(spent == tokens, answers, -1)  # aborted completions do not vote
    weights = np.maximum(minima[:, draws], 1e-9)

    # Draw one completion after another until one answer has nearly all votes.
    n_begun = np.full(answers.shape[:2], n)
    winners = np.zeros(answers.shape[:2], np.int64)
    active: Bool = np.ones(answers.shape[:2], np.bool_)
    for n_seen in range(warmup, n + 1):
        seen_answers, seen_weights = voting_answers[..., :n_seen], weights[..., :n_seen]
        votes = np.where(seen_answers >= 0, seen_weights, 0.0)
        leaders = vote(seen_answers, seen_weights, seen_weights)
        leading_answer = np.take_along_axis(seen_answers, leaders[..., None], axis=-1)
        leading_votes = np.where(seen_answers == leading_answer, votes, 0.0).sum(axis=-1)
        consensus = (leading_votes >= CONSENSUS_SHARE * votes.sum(axis=-1)) & (leading_answer[..., 0] >= 0)
        stops = active & (consensus | (n_seen == n))
        n_begun[stops], winners[stops] = n_seen, leaders[stops]
        active &= ~stops
    total = np.take_along_axis(np.cumsum(spent, axis=-1), n_begun[..., None] - 1, axis=-1)[..., 0]
    return n_begun, total, winners


def replay_abort(trace: Traces, draws: I64, rule: EarlyAbort) -> tuple[I64, Bool]:
    """Replay ``abort=`` on one question in S orders.

    The threshold is learnt from the first ``rule.warmup`` completions that fill a window, and applies to those after
    them.

    Args:
        trace: of the question.
        draws: (S, n) positions in the order of arrival.
        rule: the rule.

    Returns:
        Tokens spent on each completion, and whether it was not aborted, each (S, n).
    """
    # The threshold of each order is a quantile of its first completions that fill a window.
    minima = trace.final_minima[draws]
    full = ~np.isnan(minima)
    warmup = np.argsort(~full, axis=1, kind="stable")[:, : rule.warmup]
    has_threshold = full.sum(axis=1) >= rule.warmup
    thresholds = np.full(len(draws), -np.inf)
    warmup_minima = np.take_along_axis(minima, warmup, axis=1)[has_threshold]
    thresholds[has_threshold] = np.quantile(warmup_minima, 1 - rule.keep, axis=1)
    # Completions are compared with it once enough full ones came before them.
    armed = np.cumsum(full, axis=1) - full >= rule.warmup
    tokens = trace.tokens[draws]
    spent = np.where(armed, _drawn_costs(trace, draws, thresholds), tokens)
    return spent, spent == tokens


def _drawn_costs(trace: Traces, draws: I64, thresholds: F64) -> I64:
    """Return the tokens (S, n) that each drawn completion costs at the threshold (S,) of its order."""
    costs = np.stack([trace.tokens_spent(index, thresholds) for index in range(len(trace.tokens))], axis=1)
    return np.take_along_axis(costs, draws, axis=1)
