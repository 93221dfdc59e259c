"""Scorers of N completions: the label-free rows of SCORERS, your own callable, or a trained head.

Higher is always better; NaN means no signal. A completion's score does not depend on its position among the others, nor
on the process.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.features import TokenTable, response, token
from swift_client.features.segments import F64, segment_mean
from swift_client.logprobs.temperature import (
    MIN_TEMPERATURE,
    SHIFT_INVARIANT_FEATURES,
    SHIFT_INVARIANT_TERMS,
    SamplingInfo,
    undo_temperature,
)
from swift_client.models import AnyHead, HeadArtifact, HiddenHead
from swift_client.models.gated_linear import finite_scalar, finite_vector
from swift_client.scoring.head_scorer import score_with_head, score_with_hidden_head
from swift_client.scoring.result import Scores, common_top_k
from swift_client.types import F32, Completion

# Your own scorer: from N completions to N numbers, higher is better, NaN or None for no signal.
ScorerFunction = Callable[[Sequence[Completion]], ArrayLike]


@dataclass(frozen=True)
class Scorer:
    """One row of SCORERS.

    Attributes:
        compute: From the table of the completions and a seed to the scores (N,).
        min_ranks: Alternatives that each token must list; 0: chosen logprobs are enough; None: the text is
            enough. Completions with fewer get NaN.
    """

    compute: Callable[[TokenTable, int], F64]
    min_ranks: int | None
    doc: str


def _mean_scorer(feature: Callable[[TokenTable], F64], sign: int = 1) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: sign * segment_mean(feature(table), table.offsets)


def _term_scorer(term: Callable[[TokenTable], F64]) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: term(table)


def _perplexity(table: TokenTable) -> F64:
    # exp(88) is close to the largest float32; answers this unlikely need not be distinguished.
    return -np.exp(np.minimum(-segment_mean(table.logprobs, table.offsets), 88.0))


def _negative_length(table: TokenTable) -> F64:
    # An empty answer would be the shortest of all.
    return np.array([-len(completion.text) if completion.text else np.nan for completion in table.completions])


def _random(table: TokenTable, seed: int) -> F64:
    def draw(completion: Completion) -> float:
        digest = hashlib.blake2b(f"{seed}:{completion.index}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**32

    return np.array([draw(completion) for completion in table.completions])


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        "mean_logprob": Scorer(_mean_scorer(token.logprob), 0, "mean logprob of the chosen tokens"),
        "sum_logprob": Scorer(_term_scorer(response.sum_logprob), 0, "logprob of the whole answer"),
        "min_logprob": Scorer(_term_scorer(response.min_logprob), 0, "logprob of its least likely token"),
        "perplexity": Scorer(_term_scorer(_perplexity), 0, "minus the perplexity exp(-mean logprob)"),
        "entropy": Scorer(
            _mean_scorer(token.entropy, -1), 1, "minus the mean token entropy; the tail counts as one token"
        ),
        "epr": Scorer(_mean_scorer(token.partial_entropy, -1), 1, "minus EPR, the mean Σ -p log p (arXiv 2509.04492)"),
        "self_certainty": Scorer(
            _mean_scorer(token.self_certainty),
            2,
            "mean divergence of the listed tokens from uniform (arXiv 2502.18581)",
        ),
        "deepconf_mean": Scorer(
            _mean_scorer(token.confidence), 1, "DeepConf (arXiv 2508.15260): mean of -(mean listed logprob)"
        ),
        "deepconf_tail": Scorer(
            _term_scorer(response.tail_confidence), 1, "the same over the last tenth, at least 16 tokens"
        ),
        "deepconf_bottom": Scorer(
            _term_scorer(response.bottom_confidence), 1, "the same over the lowest tenth of such windows"
        ),
        "deepconf_lowest": Scorer(_term_scorer(response.lowest_confidence), 1, "the same over the lowest such window"),
        "shortest": Scorer(_term_scorer(_negative_length), None, "minus the number of characters"),
        "random": Scorer(_random, None, "a number in 0..1 drawn from the seed and the completion's index"),
    }
)

# Rows of SCORERS that are the same after ``undo_temperature()`` as on the original lists.
_SHIFT_INVARIANT_SCORERS = frozenset({"self_certainty"})


def score(
    completions: Sequence[Completion],
    scorer: str | ScorerFunction | AnyHead,
    *,
    seed: int = 0,
    groups: Sequence[int | None] | None = None,
) -> Scores:
    """Score N completions with a row of SCORERS, your own callable, or a head.

    All completions are read to the same number of alternatives per token: that of the shortest list among those with
    enough alternatives.

    Args:
        completions: N completions of one question.
        scorer: a name in SCORERS, a callable, or a head.
        seed: seed of the scorer "random".
        groups: (N,) equal numbers for equal answers, as ``swift_client.answers.read()`` returns them; for heads with
            the response term "agreement".

    Raises:
        ConfigurationError: the name is unknown, or the callable does not return N numbers.
    """
    if isinstance(scorer, HeadArtifact):
        return score_with_head(completions, scorer, groups)
    if isinstance(scorer, HiddenHead):
        return score_with_hidden_head(completions, scorer, groups)
    if callable(scorer):
        name = getattr(scorer, "__name__", type(scorer).__name__)
        return Scores(values=_check_scores(scorer(completions), len(completions), name), name=name)
    row = SCORERS.get(scorer)
    if row is None:
        raise ConfigurationError(f"Unknown scorer {scorer!r}.", hint=f"Known: {', '.join(SCORERS)}.")
    if row.min_ranks is None:
        values = row.compute(TokenTable(completions, width=0), seed)
        return Scores(values=values.astype(np.float32), name=scorer)
    common = common_top_k(completions, row.min_ranks, max_ranks=sys.maxsize if row.min_ranks else 0)
    values = row.compute(TokenTable(completions, width=common.k), seed)
    return Scores(
        values=np.where(common.readable_mask, values, np.nan).astype(np.float32), name=scorer, notes=common.notes
    )


def correct_temperature(
    completions: Sequence[Completion], scorer: str | ScorerFunction | AnyHead, sampling_info: SamplingInfo
) -> tuple[Sequence[Completion] | None, tuple[str, ...]]:
    """Return the completions as ``scorer`` can read them (None if it cannot), and notes.

    All completions of one question have the same temperature, so other scorers than heads still compare them. A
    head was trained at temperature 1, and its probabilities would be meaningless.
    """
    if not sampling_info.needs_correction or not any(completion.tokens for completion in completions):
        return completions, ()
    temperature = sampling_info.temperature or 0.0
    label = "an unknown temperature" if sampling_info.temperature is None else f"temperature {temperature:g}"
    reason = f"The logprobs were taken after {label}"
    can_undo = temperature >= MIN_TEMPERATURE and not sampling_info.truncated
    if isinstance(scorer, HeadArtifact):
        shift_invariant = SHIFT_INVARIANT_FEATURES.issuperset(scorer.features) and SHIFT_INVARIANT_TERMS.issuperset(
            scorer.response_terms
        )
        if not (can_undo and shift_invariant):
            return None, (f"{reason}, which {scorer.name} cannot read; use temperature=1 for this head.",)
    elif not (isinstance(scorer, str) and scorer in _SHIFT_INVARIANT_SCORERS and can_undo):
        reads_logprobs = not isinstance(scorer, str) or SCORERS[scorer].min_ranks is not None
        return completions, (f"{reason}: scores are comparable within this question only.",) if reads_logprobs else ()
    corrected = [undo_temperature(completion, temperature) for completion in completions]
    return corrected, (f"{reason}; this is corrected.",)


def wepr(*, bias: float, mean_weight: ArrayLike, max_weight: ArrayLike) -> ScorerFunction:
    """Return a scorer with trained WEPR weights (arXiv 2509.04492): minus the log odds that the answer is wrong.

    With s_tj = -p log p of rank j at token t, the score is -(bias + Σ_j mean_weight_j · mean_t s_tj + Σ_j
    max_weight_j · max_t s_tj); both weights are (k,). A completion with fewer than k ranks gets NaN.
    """
    constant, means = finite_scalar(bias, "bias"), finite_vector(mean_weight, "mean_weight")
    maxima = finite_vector(max_weight, "max_weight", like=means)

    def wepr(completions: Sequence[Completion]) -> F64:
        table = TokenTable(completions, width=len(means))
        odds = np.full(len(completions), constant)
        ranks = zip(means, token.rank_surprise(table), maxima, response.max_rank_surprise(table), strict=True)
        for mean, surprise, maximum, highest in ranks:
            odds += mean * segment_mean(surprise, table.offsets) + maximum * highest
        return np.where(common_top_k(completions, len(means), max_ranks=len(means)).readable_mask, -odds, np.nan)

    return wepr


def _check_scores(result: ArrayLike, count: int, name: str) -> F32:
    """Return a callable's result as (N,) float32, or raise ConfigurationError."""
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(result, np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:  # OverflowError: an int that no float holds
        raise ConfigurationError(f"The scorer {name} did not return numbers: {error}.") from error
    if values.shape != (count,) or np.isinf(values).any():
        problem = f"shape {values.shape}" if values.shape != (count,) else "an infinite score"
        raise ConfigurationError(
            f"The scorer {name} returned {problem} for {count} completions.",
            hint="Return one finite number per completion, or NaN for no signal.",
        )
    return values
