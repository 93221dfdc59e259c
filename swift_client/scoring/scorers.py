"""From N completions to N scores: the rows of SCORERS, which need no labels, your own callable, or a trained head.

Higher is better, always. NaN means that there is no signal for a completion. A completion's score does not depend on
where it stands among the others, nor on the process.
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
from swift_client.models import AnyHead, HeadArtifact, HiddenHead
from swift_client.models.gated_linear import finite_scalar, finite_vector
from swift_client.scoring.head_scorer import score_with_head, score_with_hidden_head
from swift_client.scoring.result import Scores, common_top_k
from swift_client.types import F32, Completion

ScorerFunction = Callable[[Sequence[Completion]], ArrayLike]
"""A scorer of your own: N completions to N numbers, higher is better, NaN or None for no signal."""


@dataclass(frozen=True)
class Scorer:
    """One row of SCORERS."""

    compute: Callable[[TokenTable, int], F64]
    """From the completions, read to one depth, and a seed to the scores, (N,)."""
    min_ranks: int | None
    """Alternatives a token: 0 where chosen logprobs are enough, None where the text is. NaN for those with fewer."""
    doc: str


def _mean_scorer(feature: Callable[[TokenTable], F64], sign: int = 1) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: sign * segment_mean(feature(table), table.offsets)


def _term_scorer(term: Callable[[TokenTable], F64]) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: term(table)


def _perplexity(table: TokenTable) -> F64:
    # float32 ends at exp(88); answers that unlikely need not be told apart.
    return -np.exp(np.minimum(-segment_mean(table.logprobs, table.offsets), 88.0))


def _negative_length(table: TokenTable) -> F64:
    # An empty answer is the shortest of all and says nothing.
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


def score(
    completions: Sequence[Completion],
    scorer: str | ScorerFunction | AnyHead,
    *,
    seed: int = 0,
    groups: Sequence[int | None] | None = None,
) -> Scores:
    """Score N completions with a row of SCORERS, your own callable, or a head.

    All completions are read to the same number of alternatives a token: the shortest list among those that have
    enough. ``groups`` (N,) are equal for equal answers, as :func:`swift_client.answers.read` gives them: a head with
    the response term "agreement" reads them. Raises ConfigurationError for an unknown name or a callable that does not
    return N numbers.
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
    depth = common_top_k(completions, row.min_ranks, max_ranks=sys.maxsize if row.min_ranks else 0)
    values = row.compute(TokenTable(completions, width=depth.k), seed)
    return Scores(
        values=np.where(depth.readable_mask, values, np.nan).astype(np.float32), name=scorer, notes=depth.notes
    )


def wepr(*, bias: float, mean_weight: ArrayLike, max_weight: ArrayLike) -> ScorerFunction:
    """Return a scorer with WEPR's trained weights (arXiv 2509.04492): minus the log odds that the answer is wrong.

    With s_tj = -p log p of rank j at token t, it is -(bias + Σ_j mean_weight_j · mean_t s_tj + Σ_j max_weight_j ·
    max_t s_tj); both weights are (k,). A completion with fewer than k ranks gets NaN: the weights mean nothing there.
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
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(result, np.float64).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The scorer {name} did not return numbers: {error}.") from error
    if values.shape != (count,) or np.isinf(values).any():
        found = f"shape {values.shape}" if values.shape != (count,) else "an infinite score"
        raise ConfigurationError(
            f"The scorer {name} returned {found} for {count} completions.",
            hint="Return one finite number a completion, or NaN where there is no signal.",
        )
    return values
