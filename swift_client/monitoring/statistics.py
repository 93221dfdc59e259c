"""Statistics of one question's completions that show if a model, or what is between you and it, has changed.

Lengths, and the lowest logprob, are those of the first four completions, and tokens at most 32 of each of the first
two, with their first five alternatives: the cost hardly grows with the answers, and means over these tokens differ less
than questions do.
Several questions are computed at once, since a call of numpy costs more than the numbers of one question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64
from swift_client.features.token_table import SENTINEL_LOGPROB
from swift_client.types import F32, Completion
from swift_client.types.completion import HASHED_ANSWER

_HASH_START = HASHED_ANSWER.partition("{")[0]  # of a text that was not kept
MAX_COMPLETIONS = 4  # completions whose lengths are read
MAX_TOKEN_COMPLETIONS = 2  # completions whose tokens are read
MAX_TOKENS = 32  # tokens of each that are read, evenly spaced
MAX_RANKS = 5  # alternatives of each token that are read
_DECIMALS = 1e4  # logprobs rounded for a log have four decimals
_LARGEST_ROUNDED = -0.01  # larger logprobs are so near 0 that four decimals or none look alike
_ROUNDING_ERROR = 0.02  # of a logprob times _DECIMALS, in float32
_LISTED_TOKENS = 8  # tokens of the first completion whose alternatives are counted
_LARGEST_VIEW = 8  # a view keeps all tokens in memory: of answers more times as long as what is read, it is copied
_HALF_PRECISION_BITS = 0x1FFF  # bits of a float32 that are 0 in a number of 16 bits


class Statistic(NamedTuple):
    """One row of STATISTICS.

    Attributes:
        label: Name for people, as in "... has changed".
        description: Meaning and unit.
    """

    label: str
    description: str


# In the order of the values of ``question_statistics()``.
STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "rounding": Statistic(
            "rounding of the logprobs",
            "of the drawn tokens' logprobs: 0 for full precision, towards 1 for four decimals, towards 2 for 16 bits",
        ),
        "listed": Statistic(
            "alternatives per token", "mean number of alternatives that the first completion lists; 0 without logprobs"
        ),
        "temperature": Statistic(
            "fit of tokens and logprobs",
            "mean logprob of the tokens minus the mean that their lists predict, in nats: rises if answers are drawn "
            "at a lower temperature than the logprobs say",
        ),
        "mean_logprob": Statistic("mean logprob", "mean logprob of the chosen tokens, in nats"),
        "entropy": Statistic("entropy", "mean Σ -p log p over the listed alternatives, in nats"),
        "margin": Statistic("lead of the best token", "mean logprob of the best token minus the second, in nats"),
        "top_share": Statistic("share of best tokens", "share of tokens that are the most likely ones, 0..1"),
        "tail_mass": Statistic("mass outside the lists", "mean probability outside the first alternatives, 0..1"),
        "tokens": Statistic("tokens per answer", "mean number of tokens"),
        "characters": Statistic("length of answers", "mean number of characters of a text"),
        "characters_per_token": Statistic("characters per token", "characters over tokens"),
        "cut_share": Statistic("answers cut by length", "share of completions that the length limit ended, 0..1"),
        "score": Statistic("scores", "mean score"),
        "agreement": Statistic("agreement", "share of the leading answer among those that could be read, 0..1"),
        "answered": Statistic("readable answers", "share of completions with a readable answer, 0..1"),
        "accepted": Statistic("accepted answers", "1 if the answer was accepted, else 0"),
        "lowest_logprob": Statistic("least likely token", "lowest logprob of a chosen token, in nats"),
    }
)

# Those that are 0 or 1 for most questions, so that a mean says more than a median.
SHARES = frozenset({"accepted", "answered", "cut_share"})

_TOKEN_COLUMNS = 8  # the first rows of STATISTICS, which read single tokens
_LISTED_ROW = 1
_LIST_ROWS, _MARGIN_ROW = [2, 4, 5, 6, 7], 5  # those that need lists, and the one that needs lists of two


class Question(NamedTuple):
    """One question's completions, with what a selection found out about them; as in ``question_statistics()``."""

    completions: Sequence[Completion]
    scores: Sequence[float] | None = None
    answers: Sequence[int | None] | None = None
    accepted: bool | None = None


def question_statistics(
    completions: Sequence[Completion],
    *,
    scores: ArrayLike | None = None,
    answers: Sequence[int | None] | None = None,
    accepted: bool | None = None,
) -> F64:
    """Compute the statistics of one question, (S,) float64 in the order of STATISTICS; NaN if one is not available.

    Args:
        completions: N completions of the question. For a comparison every question needs the same N.
        scores: (N,) their scores by one scorer; NaN for none.
        answers: (N,) equal numbers for equal answers, None for no answer, as in ``Candidate.group``.
        accepted: whether the choice was accepted; None if that is unknown.
    """
    values = None if scores is None else np.asarray(scores, np.float64).tolist()
    row: F64 = statistics_of([Question(completions, values, answers, accepted)])[0]
    return row


def statistics_of(questions: Sequence[Question]) -> F64:
    """Compute the statistics of Q questions, (Q, S) float64; see ``question_statistics()``."""
    return excerpt_statistics([take_excerpt(question) for question in questions])


def excerpt_statistics(excerpts: Sequence[Excerpt]) -> F64:
    """Compute the same, (Q, S) float64, of Q questions' excerpts."""
    result = np.empty((len(excerpts), len(STATISTICS)))
    result[:, _TOKEN_COLUMNS:-1] = [excerpt.values for excerpt in excerpts]
    result[:, -1] = _lowest_logprobs([excerpt.logprobs for excerpt in excerpts])
    tokens = [excerpt.tokens for excerpt in excerpts]
    widths = {part.widths for part in tokens if part.size}
    if len(widths) > 1:  # lists of other lengths would change the numbers of the other questions
        for row, part in zip(result, tokens, strict=True):
            row[:_TOKEN_COLUMNS] = _token_values([part])
    else:
        result[:, :_TOKEN_COLUMNS] = _token_values(tokens)
    return result


class Excerpt(NamedTuple):
    """Parts of one question that its statistics read. Of long answers these are little more than the logprobs."""

    values: tuple[float, ...]  # of the statistics that do not read single tokens
    logprobs: list[F32]  # one (T,) per completion
    tokens: _Tokens


def take_excerpt(question: Question) -> Excerpt:
    """Take from a question what its statistics read."""
    logprobs = [completion.logprobs for completion in question.completions[:MAX_COMPLETIONS]]
    return Excerpt(_whole_values(question), logprobs, _sample_tokens(question.completions))


def _whole_values(question: Question) -> tuple[float, ...]:
    """Return the statistics that do not read single tokens."""
    completions, scores, answers, accepted = question
    characters = 0.0
    count = tokens = n_cut = 0
    for completion in completions[:MAX_COMPLETIONS]:
        count += 1
        # A text that was not kept says nothing about the length of answers.
        characters += math.nan if completion.text.startswith(_HASH_START) else len(completion.text)
        tokens += len(completion.tokens)
        n_cut += completion.finish_reason == "length"
    score = agreement = answered = math.nan
    if scores is not None:
        score = sum(scores) / len(scores)
        if score != score:  # a NaN: some have no score
            known = [value for value in scores if value == value]
            score = sum(known) / len(known) if known else math.nan
    if answers is not None:
        groups = [group for group in answers if group is not None]
        answered = len(groups) / len(answers)
        if groups:
            agreement = max(map(groups.count, set(groups))) / len(groups)
    return (
        tokens / count if tokens else math.nan,
        characters / count,
        characters / tokens if tokens else math.nan,
        n_cut / count,
        score,
        agreement,
        answered,
        math.nan if accepted is None else float(accepted),
    )


def _lowest_logprobs(parts: Sequence[Sequence[F32]]) -> F64:
    """Return the lowest chosen logprob of each question, (Q,); NaN without tokens."""
    counts = np.array([sum(map(len, part)) for part in parts])
    lowest = np.full(len(parts), np.nan)
    filled = counts > 0
    if filled.any():
        starts = (np.cumsum(counts) - counts)[filled]
        lowest[filled] = np.minimum.reduceat(np.concatenate([array for part in parts for array in part]), starts)
    return lowest


class _Tokens(NamedTuple):
    """Tokens of one question."""

    chosen: list[F32]  # one (T,) per completion
    lists: list[F32]  # one (T, K) per completion
    widths: tuple[int, ...]  # K of each completion, without repetitions of the first
    size: int  # tokens of all of them together


def _sample_tokens(completions: Sequence[Completion]) -> _Tokens:
    chosen: list[F32] = []
    lists: list[F32] = []
    widths: tuple[int, ...] = ()
    size = 0
    for completion in completions[:MAX_TOKEN_COMPLETIONS]:
        logprobs, top = completion.logprobs, completion.top_logprobs
        length, width = top.shape
        if length > MAX_TOKENS:
            step = -(-length // MAX_TOKENS)
            logprobs, top = logprobs[::step], top[::step]
            if step > _LARGEST_VIEW:
                logprobs, top = logprobs.copy(), top.copy()
            length = len(logprobs)
        if length:
            chosen.append(logprobs)
            lists.append(top)
            size += length
            if not widths or widths[0] != width:
                widths = (*widths, width)
    return _Tokens(chosen, lists, widths, size)


def _token_values(questions: Sequence[_Tokens]) -> F64:
    """Return the statistics of single tokens, (Q, _TOKEN_COLUMNS), of questions with equally long lists."""
    result = np.full((len(questions), _TOKEN_COLUMNS), np.nan)
    result[:, _LISTED_ROW] = 0.0
    filled = [row for row, part in enumerate(questions) if part.size]
    if not filled:
        return result
    present = [questions[row] for row in filled]
    ranks, counts = min(MAX_RANKS, *present[0].widths), np.array([part.size for part in present])
    starts = np.cumsum(counts) - counts
    logprobs = np.concatenate([chosen for part in present for chosen in part.chosen])
    per_token = np.zeros((7, len(logprobs)), np.float32)
    per_token[0] = logprobs
    if ranks:
        top = np.concatenate([top[:, :ranks] for part in present for top in part.lists]).T.copy()
        np.maximum(top, SENTINEL_LOGPROB, out=top)
        probability = np.exp(top)
        np.add.reduce(probability, axis=0, out=per_token[1])
        probability *= top
        np.add.reduce(probability, axis=0, out=per_token[2])
        per_token[3] = logprobs >= top[0]
        if ranks > 1:
            np.subtract(top[0], top[1], out=per_token[4])
    # The alternatives of a samples file are rounded to 16 bits; the logprobs of the drawn tokens are as they came.
    per_token[5] = logprobs < _LARGEST_ROUNDED
    np.multiply(_roundness(logprobs), per_token[5], out=per_token[6])
    sums = np.add.reduceat(per_token, starts, axis=1)
    mean_logprob, mass, partial, best, margin = sums[:5] / counts
    rounding = np.full(len(starts), np.nan)
    np.divide(sums[6], sums[5], out=rounding, where=sums[5] > 0)
    rows = np.array(
        [
            rounding,
            _count_listed([part.lists[0][:_LISTED_TOKENS] for part in present]),
            mean_logprob - partial,
            mean_logprob,
            -partial,
            margin,
            best,
            1.0 - mass,
        ]
    )
    if ranks < 2:
        rows[_LIST_ROWS if not ranks else _MARGIN_ROW] = np.nan
    result[filled] = rows.T
    return result


def _count_listed(lists: Sequence[F32]) -> Sequence[float]:
    """Return the mean number of alternatives of each of some lists' tokens."""
    width = lists[0].shape[1]
    if not width or np.concatenate([part[:, -1] for part in lists]).min() > SENTINEL_LOGPROB:  # as most are
        return [width] * len(lists)
    return [np.count_nonzero(part > SENTINEL_LOGPROB) / len(part) for part in lists]


def _roundness(logprobs: F32) -> F32:
    """Return 0 per number with full precision, 1 with four decimals, 2 with 16 bits, and 3 with both."""
    scaled = logprobs * np.float32(_DECIMALS)
    scaled -= np.rint(scaled)
    has_four_decimals = np.abs(scaled, out=scaled) < _ROUNDING_ERROR
    is_half = (logprobs.view(np.int32) & _HALF_PRECISION_BITS) == 0
    roundness: F32 = has_four_decimals + np.float32(2.0) * is_half
    return roundness
