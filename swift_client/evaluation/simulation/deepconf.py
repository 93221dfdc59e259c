"""DeepConf-online (arXiv 2508.15260), replayed over stored tokens: answers that lose confidence are broken off.

The first completions of a question are drawn in full. A percentile of their lowest group confidences is the bar; a
later completion ends, and does not vote, at the first token where its running group confidence falls under it. Votes
weigh their lowest group confidence, and drawing stops where one answer holds ``CONSENSUS`` of all weight. The paper
warms up on 16 completions of hundreds and takes windows of 2048 tokens; here both are scaled to 16 short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.evaluation.pools import StackedPools
from swift_client.features import TokenTable, listed_ranks
from swift_client.features.segments import F64, I64, rolling_mean
from swift_client.selection.voting import vote
from swift_client.types import Bool, Completion

WINDOW = 16
"""Tokens of a group."""
CONSENSUS_SHARE = 0.95
KEEP_SHARES = {"deepconf_low": 0.1, "deepconf_high": 0.9}
"""Share of the warm-up completions above the bar, in the two forms of the paper."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Traces:
    """The m completions of one question."""

    running_minima: tuple[F64, ...]
    """(T - w + 1,) each: lowest group confidence so far, at the end of each window of w = min(T, WINDOW)."""
    tokens: I64
    """(m,)"""

    @classmethod
    def from_completions(cls, completions: Sequence[Completion]) -> Traces:
        """Read completions in the order of their indices; one without logprobs is never broken off."""
        width = max((listed_ranks(completion) for completion in completions), default=0)
        table = TokenTable(completions, width=width)
        return cls(running_minima=tuple(map(_running_minimum, table.split(table.confidence))), tokens=table.lengths)

    @property
    def final_minima(self) -> F64:
        """(m,) lowest group confidence of the whole completion, 0 where there is none."""
        return np.array([each[-1] if len(each) else 0.0 for each in self.running_minima])

    def tokens_spent(self, index: int, thresholds: F64) -> I64:
        """Return after how many tokens completion ``which`` falls under each bar (S,), all its tokens where never."""
        run = self.running_minima[index]
        at = np.searchsorted(-run, -thresholds, side="right")  # the first window that is lower than the bar
        spent: I64 = np.where(at < len(run), self.tokens[index] - len(run) + 1 + at, self.tokens[index])
        return spent


def _running_minimum(confidence: F64) -> F64:
    if not len(confidence):
        return confidence
    window = min(WINDOW, len(confidence))
    return np.minimum.accumulate(rolling_mean(confidence, window)[window - 1 :])


def replay(
    traces: Sequence[Traces], pools: StackedPools, answers: I64, draws: I64, *, keep: float, warmup: int
) -> tuple[I64, I64, I64]:
    """Replay Q questions in S orders: how many completions were begun, tokens spent, positions of the winners; (Q, S).

    ``answers`` (Q, S, n) and ``draws`` (S, n) as ``methods.Drawn`` has them, ``warm`` completions are drawn in full.
    """
    n = draws.shape[1]
    ends = np.stack([each.final_minima for each in traces])
    bars = np.quantile(ends[:, draws[:, :warmup]], 1 - keep, axis=-1)
    spent = np.empty(answers.shape, np.int64)
    for question, each in enumerate(traces):
        cost = np.stack([each.tokens_spent(which, bars[question]) for which in range(len(each.tokens))], axis=1)
        spent[question] = np.take_along_axis(cost, draws, axis=1)
        spent[question, :, :warmup] = each.tokens[draws[:, :warmup]]
    tokens = np.stack([each.tokens for each in traces])[:, draws]
    kept = np.where(spent == tokens, answers, -1)
    weights = np.maximum(ends[:, draws], 1e-9)
    begun = np.full(answers.shape[:2], n)
    winners = np.zeros(answers.shape[:2], np.int64)
    running: Bool = np.ones(answers.shape[:2], np.bool_)
    for seen in range(warmup, n + 1):
        voters = np.where(kept[..., :seen] >= 0, weights[..., :seen], 0.0)
        leads = vote(kept[..., :seen], weights[..., :seen], weights[..., :seen])
        mine = np.take_along_axis(kept[..., :seen], leads[..., None], axis=-1)
        held = np.where(kept[..., :seen] == mine, voters, 0.0).sum(axis=-1) >= CONSENSUS_SHARE * voters.sum(axis=-1)
        stops = running & ((held & (mine[..., 0] >= 0)) | (seen == n))
        begun[stops], winners[stops] = seen, leads[stops]
        running &= ~stops
    total = np.take_along_axis(np.cumsum(spent, axis=-1), begun[..., None] - 1, axis=-1)[..., 0]
    return begun, total, winners
