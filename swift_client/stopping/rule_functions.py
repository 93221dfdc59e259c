"""Functions of the stopping rules: from the votes so far to verdicts, for R questions at once.

Three kinds: counts of answers, which need neither scores nor logprobs; votes weighted by a head's probabilities, or by
1 each without one; and the best single completion, whose answer need not be comparable.
"""

from __future__ import annotations

import math

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.stopping.votes import Verdicts, Votes, top_two

_ROUNDING = 1e-9  # sums of weights may differ by this much between orders of addition


def continue_sampling(votes: Votes) -> Verdicts:
    """Never stop: what the rule needs is missing."""
    missing: F64 = np.full(len(votes.answers), np.nan)
    return Verdicts(np.zeros(len(votes.answers), np.bool_), missing)


# --- counts of answers -------------------------------------------------------------------------------------------


def beta(votes: Votes, *, threshold: float, least: int) -> Verdicts:
    """Stop if the leading answer beats the second with probability ``threshold``, from ``least`` votes on.

    With counts a >= b this is P(Beta(a+1, b+1) > 1/2), which for integers is P(Binomial(a+b+1, 1/2) <= a).
    """
    pairs = np.stack(top_two(votes.totals()), axis=1).astype(np.int64)
    distinct, inverse = np.unique(pairs, axis=0, return_inverse=True)
    leads = np.array([_lead_probability(int(a), int(b)) if a else np.nan for a, b in distinct])[inverse.ravel()]
    return Verdicts((leads >= threshold) & (votes.vote_counts >= least), leads)


def _lead_probability(a: int, b: int) -> float:
    return sum(math.comb(a + b + 1, j) for j in range(a + 1)) / (1 << (a + b + 1))


def dirichlet(votes: Votes, *, factor: float, unknown: float) -> Verdicts:
    """Stop if the odds that the leader is the most probable answer reach ``factor`` times those of chance.

    The answers' probabilities have a Dirichlet posterior with counts + 1, and 1 + ``unknown`` for all answers not seen
    yet. With m such buckets the factor is m P / (1 - P). P is integrated numerically; the paper samples it.
    """
    counts = -np.sort(-votes.totals(), axis=1)
    distinct, inverse = np.unique(counts, axis=0, return_inverse=True)
    n_buckets = (distinct > 0).sum(axis=1) + 1
    leads = np.where(distinct.max(axis=1, initial=0) > 0, _lead_probabilities(distinct, unknown), np.nan)
    stops = n_buckets * leads / (1 - leads) >= factor
    return Verdicts(stops[inverse.ravel()], leads[inverse.ravel()])


def _lead_probabilities(counts: F64, unknown: float) -> F64:
    """Return P(the first of each row is the largest), (U,), for counts (U, A) that fall along a row.

    Independent gamma variables, divided by their sum, are Dirichlet. On a grid of their square roots, whose standard
    deviation is about 1/2 for any count, the densities are smooth and the trapezoid rule is exact to 1e-5.
    """
    step = 0.01
    roots = np.arange(step, math.sqrt(counts.max(initial=0) + 2 + unknown) + 6, step)

    def density(shape: float) -> F64:
        logs = math.log(2) + (2 * shape - 1) * np.log(roots) - roots**2 - math.lgamma(shape)
        return np.asarray(np.exp(logs))

    def cumulative(shape: float) -> F64:
        values = density(shape)
        mass = np.cumsum((values + np.concatenate([[0.0], values[:-1]])) / 2) * step
        return np.asarray(mass / mass[-1])

    by_count = {int(count): cumulative(count + 1) for count in np.unique(counts) if count}
    leads = []
    for row in counts:
        below_leader = cumulative(1 + unknown)
        for count in row[1:][row[1:] > 0]:
            below_leader = below_leader * by_count[int(count)]
        leads.append(float((density(row[0] + 1) * below_leader).sum() * step) if len(row) else 0.0)
    return np.clip(leads, 0.0, 1 - 1e-9)


def window(votes: Votes, *, size: int) -> Verdicts:
    """Stop if a window of ``size`` completions is unanimous; windows follow each other without overlap."""
    end = votes.n_seen // size * size
    windows = votes.answers[:, :end].reshape(len(votes.answers), -1, size)
    unanimous = (windows == windows[..., :1]) & (windows >= 0)
    return Verdicts(unanimous.all(axis=-1).any(axis=-1), np.full(len(windows), np.nan))


# --- weighted votes ----------------------------------------------------------------------------------------------


def posterior(votes: Votes, *, threshold: float, least: int, clip: float) -> Verdicts:
    """Stop if an answer is right with probability ``threshold``, from ``least`` votes on.

    A vote with probability c, clipped to ``clip`` .. 1 - ``clip``, is right with c, else it names any of the other
    K - 1 answers with equal chance; K counts the answers seen, and one more for all others. An answer's posterior odds
    against that one are the product of (K - 1) c / (1 - c) over its votes. A vote without a probability counts nothing.
    """
    if votes.probabilities is None:
        return continue_sampling(votes)
    best = np.where(votes.vote_counts > 0, _answer_posteriors(votes, clip).max(axis=1, initial=0), np.nan)
    return Verdicts((best >= threshold) & (votes.vote_counts >= least), best)


def correction(votes: Votes, *, cost: float) -> Verdicts:
    """Stop if the next completion corrects the vote's answer with a probability of at most ``cost``."""
    if votes.probabilities is None:
        return continue_sampling(votes)
    chance, probability = correction_chance(votes)
    return Verdicts(chance <= cost, probability)


def correction_chance(votes: Votes) -> tuple[F64, F64]:
    """Return the chance that the next completion corrects the vote's answer, and that answer's probability, (R,) each.

    With the probability p the answer is wrong with 1 - p, and of t + 1 exchangeable completions the last is the best
    with 1 / (t + 1). The product falls as votes agree, and also as completions come that settle nothing, so that
    hopeless questions end, too. Both are NaN without votes. There must be probabilities.
    """
    totals = votes.totals(votes.weights)
    largest = totals.max(axis=1, initial=0, keepdims=True) * (1 - _ROUNDING)
    # Scores break ties between answers, and are not known here: the least probable one is the safe assumption.
    probability = np.where(totals >= largest, votes.answer_probabilities(), np.inf).min(axis=1, initial=np.inf)
    probability = np.where(votes.vote_counts > 0, probability, np.nan)
    return (1 - probability) / (votes.n_seen + 1), probability


def _answer_posteriors(votes: Votes, clip: float) -> F64:
    """Return the posterior of each answer, (R, A); the rest up to 1 belongs to all answers not seen."""
    log_odds = np.where(votes.totals() > 0, votes.totals(vote_log_odds(votes, clip=clip)), -np.inf)
    log_odds = np.concatenate([log_odds, np.zeros((len(log_odds), 1))], axis=1)
    odds = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    shares: F64 = odds[:, :-1] / odds.sum(axis=1, keepdims=True)
    return shares


def vote_log_odds(votes: Votes, *, clip: float) -> F64:
    """Return the term of each vote in the log odds of its answer in ``posterior()``, (R, t); 0 if it has none.

    The answer with the greatest sum is the most probable one. Without probabilities each vote adds 1.
    """
    if votes.probabilities is None:
        return votes.weights
    clipped = np.clip(votes.probabilities, clip, 1 - clip)
    n_answers = (votes.totals() > 0).sum(axis=1, keepdims=True)
    log_odds = np.log(clipped) - np.log1p(-clipped) + np.log(np.maximum(n_answers, 1))
    return np.where(np.isnan(log_odds) | (votes.answers < 0), 0.0, log_odds)


def consensus(votes: Votes, *, share: float, least: int) -> Verdicts:
    """Stop if one answer has ``share`` of the total weight, from ``least`` votes on."""
    totals = votes.totals(votes.weights)
    with np.errstate(invalid="ignore"):
        largest_share = totals.max(axis=1, initial=0) / totals.sum(axis=1)
    return Verdicts((largest_share >= share) & (votes.vote_counts >= least), largest_share)


def final_lead(votes: Votes, *, threshold: float, least: int) -> Verdicts:
    """Stop if the answer that the vote would choose still leads after all n completions with probability ``threshold``.

    The completions to come are of three kinds: the leading answer, the strongest other one, and the rest, which
    includes completions that do not vote. Their numbers are Dirichlet-multinomial, with the counts so far + 1, and a
    vote to come weighs as much as the mean vote of its answer so far. A tie at the end counts half. Without
    probabilities the answer must lead by number of votes, too, with the same probability. There must be ``least``
    votes.
    """
    weights, counts = votes.totals(votes.weights), votes.totals()
    leader = _rank_answers(weights, counts)[:, 0]
    leads = _final_lead(votes, weights, leader)
    if votes.probabilities is None:
        leads = np.minimum(leads, _final_lead(votes, counts, leader))
    return Verdicts((leads >= threshold) & (votes.vote_counts >= least), leads)


def _rank_answers(totals: F64, counts: F64) -> I64:
    """Return the answers of each row from the largest total (R, A) on, and two that nobody gave, (R, A + 2)."""
    totals, counts = (np.pad(values, ((0, 0), (0, 2))) for values in (totals, counts))
    rounded = np.round(totals / np.maximum(totals.max(axis=1, keepdims=True), 1e-300), 9)
    return np.asarray(np.lexsort((-counts, -rounded), axis=1))


def _final_lead(votes: Votes, totals: F64, leader: I64) -> F64:
    """Return the probability that the answers ``leader`` (R,) have the largest of all ``totals`` (R, A) after n."""
    counts = votes.totals()
    first, second = _rank_answers(totals, counts)[:, :2].T
    pair = np.stack([leader, np.where(first == leader, second, first)], axis=1)
    pair_counts, pair_totals = (
        np.take_along_axis(np.pad(values, ((0, 0), (0, 2))), pair, axis=1) for values in (counts, totals)
    )
    mean_of_all = totals.sum(axis=1, keepdims=True) / np.maximum(votes.vote_counts, 1)[:, None]
    means = np.where(pair_counts > 0, pair_totals / np.maximum(pair_counts, 1), mean_of_all)

    # Questions with the same counts share one table of the votes to come.
    seen = np.stack([*pair_counts.T, votes.n_seen - pair_counts.sum(axis=1)], axis=1).astype(np.int64)
    distinct, inverse = np.unique(seen, axis=0, return_inverse=True)
    leads: F64 = np.full(len(seen), np.nan)
    for number, (leading, other, rest) in enumerate(distinct.tolist()):
        rows = np.flatnonzero(inverse.ravel() == number)
        if leading:
            fewer_votes = _future_votes(leading + 1, other + 1, rest + 1, votes.n - votes.n_seen)
            leads[rows] = _stay_ahead(fewer_votes, pair_totals[rows], means[rows])
    return leads


def _future_votes(leader: int, other: int, rest: int, n_left: int) -> F64:
    """Return P(J = j and X < x), (n_left + 1, n_left + 2): J votes go to the two answers, X of them to the leader.

    The pair's share of the votes and the leader's share of the pair's are independent beta variables.
    """
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, leader + other + rest + n_left + 1)))])

    def beta_binomial(hits: I64, total: I64, alpha: int, beta: int) -> F64:
        misses = np.maximum(total - hits, 0)
        logs = log_factorials[total] - log_factorials[hits] - log_factorials[misses]
        logs += log_factorials[alpha + hits - 1] + log_factorials[beta + misses - 1]
        logs += log_factorials[alpha + beta - 1] - log_factorials[alpha + beta + total - 1]
        logs -= log_factorials[alpha - 1] + log_factorials[beta - 1]
        return np.where(hits <= total, np.exp(np.where(hits <= total, logs, 0.0)), 0.0)

    numbers = np.arange(n_left + 1)
    pair = beta_binomial(numbers, np.full(n_left + 1, n_left), leader + other, rest)
    of_pair = beta_binomial(numbers[None, :], numbers[:, None], leader, other)
    return pair[:, None] * np.pad(np.cumsum(of_pair, axis=1), ((0, 0), (1, 0)))


def _stay_ahead(fewer_votes: F64, totals: F64, means: F64) -> F64:
    """Return the probability that the first of two answers (R, 2) leads at the end, (R,); a tie counts half."""
    numbers = np.arange(len(fewer_votes))
    # With j more votes for the two, the leader falls behind at fewer than this many of them.
    needed = (totals[:, 1:] - totals[:, :1] + numbers * means[:, 1:]) / means.sum(axis=1, keepdims=True)
    behind = np.clip(np.ceil(needed - _ROUNDING), 0, len(numbers)).astype(np.int64)
    not_ahead = np.clip(np.floor(needed + _ROUNDING) + 1, 0, len(numbers)).astype(np.int64)
    lost = (fewer_votes[numbers, behind] + fewer_votes[numbers, not_ahead]).sum(axis=1) / 2
    return np.asarray(np.clip(1 - lost, 0.0, 1.0))


def cannot_change(votes: Votes) -> Verdicts:
    """Stop if no further completion can change the answer that the vote over all n gives.

    The lead must exceed the number still to come times the largest weight of a vote. At least half of all n must have
    voted, too: if fewer answers can be read, ``answers.read`` may give up the vote. This assumes constant weights.
    Odds have no useful limit, so with a head it never stops.
    """
    first, second = top_two(votes.totals(votes.weights))
    with np.errstate(invalid="ignore"):  # none to come, times an infinite weight
        to_come = (votes.n - votes.n_seen) * votes.weight_limit
    stops = (first - second > to_come + _ROUNDING) & (2 * votes.vote_counts >= votes.n)
    return Verdicts(stops, np.where(stops, 1.0, np.nan))


# --- the best single completion ----------------------------------------------------------------------------------


def accept(votes: Votes, *, threshold: float) -> Verdicts:
    """Stop at the first completion that is right with probability ``threshold``."""
    if votes.probabilities is None:
        return continue_sampling(votes)
    best = _row_max(votes.probabilities)
    return Verdicts(best >= threshold, best)


def reservation(votes: Votes, *, cost: float, least: int) -> Verdicts:
    """Stop if a further completion is not expected to raise the best score by ``cost``.

    Weitzman's rule for identical boxes: open another one while E[(v - best)+] > ``cost``. v is taken as normal, with
    the mean and deviation of the scores so far, of which there must be ``least``. If there are probabilities they are
    the scores; they end at 1, and ``cost`` is in their unit: 0.01 is one percentage point of being right.
    """
    values = votes.scores if votes.probabilities is None else votes.probabilities
    if values is None:
        return continue_sampling(votes)
    # Mean and standard deviation per question, without the missing values.
    has_value = ~np.isnan(values)
    count = has_value.sum(axis=1)
    is_enough = count >= max(least, 2)
    mean = np.where(has_value, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    differences = np.where(has_value, values - mean[:, None], 0.0)
    deviation = np.sqrt((differences**2).sum(axis=1) / np.maximum(count - 1, 1))
    best = np.where(is_enough, _row_max(values), 0.0)
    gain = _expected_excess(mean, deviation, best)
    if votes.probabilities is not None:
        gain -= _expected_excess(mean, deviation, np.ones(len(mean)))  # E[(min(v, 1) - best)+]
    return Verdicts(is_enough & (gain <= cost), np.where(is_enough & (votes.probabilities is not None), best, np.nan))


def _row_max(values: F64) -> F64:
    """Return the largest value of each row that is not NaN, (R,); NaN if all are."""
    best = np.where(np.isnan(values), -np.inf, values).max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(best), np.nan, best)


def _expected_excess(mean: F64, deviation: F64, threshold: F64) -> F64:
    """Return E[(v - threshold)+] for normal v, (R,); without deviation v is the mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (threshold - mean) / deviation
    upper_tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z.tolist()])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    excess = deviation * density - (threshold - mean) * upper_tail
    return np.where(deviation > 0, excess, np.maximum(mean - threshold, 0.0))
