"""Stopping rules that count answers: they need no scores and no logprobs."""

from __future__ import annotations

import math

import numpy as np

from swift_client.features.segments import F64
from swift_client.stopping.votes import Verdicts, Votes, top_two


def beta(votes: Votes, *, threshold: float, least: int) -> Verdicts:
    """Stop where the leader beats the second with probability ``threshold``, from ``least`` votes on.

    With counts a >= b it is P(Beta(a+1, b+1) > 1/2), which for whole numbers is P(Binomial(a+b+1, 1/2) <= a).
    """
    pairs = np.stack(top_two(votes.totals()), axis=1).astype(np.int64)
    distinct, back = np.unique(pairs, axis=0, return_inverse=True)
    chances = np.array([_lead_probability(int(a), int(b)) if a else np.nan for a, b in distinct])[back.ravel()]
    return Verdicts((chances >= threshold) & (votes.vote_counts >= least), chances)


def _lead_probability(a: int, b: int) -> float:
    return sum(math.comb(a + b + 1, j) for j in range(a + 1)) / (1 << (a + b + 1))


def dirichlet(votes: Votes, *, factor: float, unknown: float) -> Verdicts:
    """Stop where the odds that the leader is the most probable answer reach ``factor`` times those of chance.

    Probabilities of answers have a Dirichlet posterior with counts + 1 and a further bucket of 1 + ``unknown`` for
    what nobody has said yet. The factor is m P / (1 - P) over m buckets; P is integrated where the paper samples.
    """
    counts = -np.sort(-votes.totals(), axis=1)
    distinct, back = np.unique(counts, axis=0, return_inverse=True)
    buckets = (distinct > 0).sum(axis=1) + 1
    leads = np.where(distinct.max(axis=1, initial=0) > 0, _lead_probabilities(distinct, unknown), np.nan)
    reached = buckets * leads / (1 - leads) >= factor
    return Verdicts(reached[back.ravel()], leads[back.ravel()])


def _lead_probabilities(counts: F64, unknown: float) -> F64:
    """Return P(the first of each row is the largest), (U,), for counts (U, A) that fall along a row.

    Independent gamma variables, divided by their sum, are Dirichlet. On a grid of their square roots, whose spread is
    about 1/2 whatever the count, the densities are smooth and the trapezoid rule is exact to 1e-5.
    """
    step = 0.01
    roots = np.arange(step, math.sqrt(counts.max(initial=0) + 2 + unknown) + 6, step)

    def density(shape: float) -> F64:
        logs = math.log(2) + (2 * shape - 1) * np.log(roots) - roots**2 - math.lgamma(shape)
        return np.asarray(np.exp(logs))

    def below(shape: float) -> F64:
        at = density(shape)
        mass = np.cumsum((at + np.concatenate([[0.0], at[:-1]])) / 2) * step
        return np.asarray(mass / mass[-1])

    known = {int(count): below(count + 1) for count in np.unique(counts) if count}
    leads = []
    for row in counts:
        others = below(1 + unknown)
        for count in row[1:][row[1:] > 0]:
            others = others * known[int(count)]
        leads.append(float((density(row[0] + 1) * others).sum() * step) if len(row) else 0.0)
    return np.clip(leads, 0.0, 1 - 1e-9)


def window(votes: Votes, *, size: int) -> Verdicts:
    """Stop where a window of ``size`` completions is unanimous; windows follow each other and do not overlap."""
    whole = votes.n_seen // size * size
    windows = votes.answers[:, :whole].reshape(len(votes.answers), -1, size)
    same = (windows == windows[..., :1]) & (windows >= 0)
    return Verdicts(same.all(axis=-1).any(axis=-1), np.full(len(windows), np.nan))
