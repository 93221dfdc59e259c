"""From N completions to N scores: the rows of SCORERS, which need no labels, your own callable, or a trained head.

Higher is better, always. NaN means that there is no signal for a completion. A completion's score does not depend on
where it stands among the others, nor on the process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ArtifactMismatchError, ConfigurationError
from swift_client.features import (
    FEATURES,
    RESPONSE_TERMS,
    ResponseTerms,
    TokenFeatures,
    TokenTable,
    column_names,
    listed_ranks,
    response,
    response_columns,
    token,
    token_columns,
)
from swift_client.models import AnyHead, HeadArtifact, HiddenHead, load
from swift_client.models.arrays import finite_scalar, finite_vector
from swift_client.ragged import F64, mean_runs, offsets_of
from swift_client.reach import beyond
from swift_client.types import F32, Bool, Completion

ScorerFunction = Callable[[Sequence[Completion]], ArrayLike]
"""A scorer of your own: N completions to N numbers, higher is better, NaN or None for no signal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Scores of N completions, in their order."""

    values: F32
    """(N,) float32; higher is better; NaN where there is no signal."""
    probabilities: F32 | None = None
    """(N,) float32, 0..1: calibrated probability of being right, NaN as in ``values``; None without calibration."""
    name: str
    """The scorer's or the head's name."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that the numbers do not show by themselves."""
    outside: bool = False
    """Whether the completions are unlike those that the head was trained on, so that its scores may mean nothing."""


@dataclass(frozen=True)
class Scorer:
    """One row of SCORERS."""

    compute: Callable[[TokenTable, int], F64]
    """From the completions, read to one depth, and a seed to the scores, (N,)."""
    needs: int | None
    """Alternatives a token: 0 where chosen logprobs are enough, None where the text is. NaN for those with fewer."""
    doc: str


def _mean(feature: Callable[[TokenTable], F64], sign: int = 1) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: sign * mean_runs(feature(table), table.offsets)


def _whole(term: Callable[[TokenTable], F64]) -> Callable[[TokenTable, int], F64]:
    return lambda table, _: term(table)


def _perplexity(table: TokenTable) -> F64:
    # float32 ends at exp(88); answers that unlikely need not be told apart.
    return -np.exp(np.minimum(-mean_runs(table.logprobs, table.offsets), 88.0))


def _shortest(table: TokenTable) -> F64:
    # An empty answer is the shortest of all and says nothing.
    return np.array([-len(completion.text) if completion.text else np.nan for completion in table.completions])


def _random(table: TokenTable, seed: int) -> F64:
    def draw(completion: Completion) -> float:
        digest = hashlib.blake2b(f"{seed}:{completion.index}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**32

    return np.array([draw(completion) for completion in table.completions])


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        "mean_logprob": Scorer(_mean(token.logprob), 0, "mean logprob of the chosen tokens"),
        "sum_logprob": Scorer(_whole(response.sum_logprob), 0, "logprob of the whole answer"),
        "min_logprob": Scorer(_whole(response.min_logprob), 0, "logprob of its least likely token"),
        "perplexity": Scorer(_whole(_perplexity), 0, "minus the perplexity exp(-mean logprob)"),
        "entropy": Scorer(_mean(token.entropy, -1), 1, "minus the mean token entropy; the tail counts as one token"),
        "epr": Scorer(_mean(token.partial_entropy, -1), 1, "minus EPR, the mean Σ -p log p (arXiv 2509.04492)"),
        "self_certainty": Scorer(
            _mean(token.self_certainty), 2, "mean divergence of the listed tokens from uniform (arXiv 2502.18581)"
        ),
        "deepconf_mean": Scorer(
            _mean(token.confidence), 1, "DeepConf (arXiv 2508.15260): mean of -(mean listed logprob)"
        ),
        "deepconf_tail": Scorer(
            _whole(response.tail_confidence), 1, "the same over the last tenth, at least 16 tokens"
        ),
        "deepconf_bottom": Scorer(
            _whole(response.bottom_confidence), 1, "the same over the lowest tenth of such windows"
        ),
        "deepconf_lowest": Scorer(_whole(response.lowest_confidence), 1, "the same over the lowest such window"),
        "shortest": Scorer(_whole(_shortest), None, "minus the number of characters"),
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
        return _score_with_head(completions, scorer, groups)
    if isinstance(scorer, HiddenHead):
        return _score_with_hidden_head(completions, scorer, groups)
    if callable(scorer):
        name = getattr(scorer, "__name__", type(scorer).__name__)
        return Scores(values=_numbers(scorer(completions), len(completions), name), name=name)
    row = SCORERS.get(scorer)
    if row is None:
        raise ConfigurationError(f"Unknown scorer {scorer!r}.", hint=f"Known: {', '.join(SCORERS)}.")
    if row.needs is None:
        values = row.compute(TokenTable(completions, width=0), seed)
        return Scores(values=values.astype(np.float32), name=scorer)
    depth = _depth(completions, row.needs, most=sys.maxsize if row.needs else 0)
    values = row.compute(TokenTable(completions, width=depth.k), seed)
    return Scores(values=np.where(depth.readable, values, np.nan).astype(np.float32), name=scorer, notes=depth.notes)


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
            odds += mean * mean_runs(surprise, table.offsets) + maximum * highest
        return np.where(_depth(completions, len(means), most=len(means)).readable, -odds, np.nan)

    return wepr


def load_head(path: str | os.PathLike[str]) -> HeadArtifact:
    """Read a trained head on logprobs. Raises ArtifactError as :func:`load_any_head` does, or for another kind."""
    artifact = load_any_head(path)
    if isinstance(artifact, HiddenHead):
        raise ArtifactMismatchError(f"{path} is a head on hidden states.", hint="Give one that reads logprobs.")
    return artifact


def load_any_head(path: str | os.PathLike[str]) -> AnyHead:
    """Read a trained head. Raises ArtifactError where it is not one, or needs features that this version lacks."""
    artifact = load(path)
    check_columns(artifact, os.fspath(path))
    return artifact


def check_columns(artifact: AnyHead, name: str) -> None:
    """Raise ArtifactMismatchError where a head's features are not this version's, or its weights do not fit them."""
    if isinstance(artifact, HiddenHead):
        if artifact.beside:
            check_columns(artifact.beside, name)
        return
    for rows, names, weights in (
        (FEATURES, artifact.features, artifact.head.width),
        (RESPONSE_TERMS, artifact.response_terms, len(artifact.response.weight)),
    ):
        try:
            columns = column_names(rows, names, width=artifact.width)
        except ConfigurationError as error:
            raise ArtifactMismatchError(
                f"{name}: {error.message}", hint="Upgrade swift-client, or train again."
            ) from error
        if len(columns) != weights:
            raise ArtifactMismatchError(
                f"{name} has {weights} weights for {len(columns)} columns.", hint="Train it again."
            )


def _score_with_head(
    completions: Sequence[Completion], artifact: HeadArtifact, groups: Sequence[int | None] | None
) -> Scores:
    read = _read(completions, artifact, artifact.name, groups)
    scores = artifact.scores(read.features.values, read.features.offsets, read.terms.values)
    values = np.where(read.depth.readable, scores, np.nan)
    probabilities = None if artifact.calibration is None else artifact.calibration(values).astype(np.float32)
    return Scores(
        values=values.astype(np.float32),
        probabilities=probabilities,
        name=artifact.name,
        notes=read.depth.notes,
        outside=beyond(artifact, read.terms.values, read.depth.readable),
    )


def _score_with_hidden_head(
    completions: Sequence[Completion], head: HiddenHead, groups: Sequence[int | None] | None
) -> Scores:
    """Score from the projections that came with the completions, else from their captured hidden states."""
    rows = [
        head.project(each.hidden_states)
        if each.projections is None and each.hidden_states is not None
        else np.zeros((0, 2), np.float32)
        if each.projections is None
        else each.projections
        for each in completions
    ]
    without = sum(not len(each) for each in rows)
    notes = [f"{without} of {len(rows)} completions have no score, for want of hidden states."] if without else []
    outside = False
    if head.beside is None:
        values = head.scores(np.concatenate([np.zeros((0, 2), np.float32), *rows]), offsets_of(map(len, rows)))
    else:
        read = _read(completions, head.beside, head.name, groups)
        notes += read.depth.notes
        outside = beyond(head, read.terms.values, read.depth.readable)
        lengths = np.diff(read.features.offsets)
        joined = [part if len(part) else np.zeros((size, 2)) for part, size in zip(rows, lengths, strict=True)]
        if any(len(part) != size for part, size in zip(joined, lengths, strict=True)):
            raise ValueError(f"the {head.name} needs the logprobs of the tokens whose states it has.")
        scored = read.depth.readable & np.array([len(each) > 0 for each in rows], np.bool_)
        joined.append(np.zeros((0, 2)))
        scores = head.scores(np.concatenate(joined), read.features.offsets, read.features.values, read.terms.values)
        values = np.where(scored, scores, np.nan)
    probabilities = None if head.calibration is None else head.calibration(values).astype(np.float32)
    return Scores(
        values=values.astype(np.float32),
        probabilities=probabilities,
        name=head.name,
        notes=tuple(notes),
        outside=outside,
    )


class _Reading(NamedTuple):
    """N completions as a head on logprobs reads them."""

    depth: _Depth
    features: TokenFeatures
    terms: ResponseTerms


def _read(
    completions: Sequence[Completion], artifact: HeadArtifact, name: str, groups: Sequence[int | None] | None
) -> _Reading:
    """Compute the features; ``name`` is whose, for the notes."""
    depth = _depth(completions, artifact.k_min, most=artifact.k_max)
    if not depth.readable.any():
        depth = _depth(completions, 0, most=artifact.k_max)
        if depth.readable.any():
            outside = f"{name} was trained on {artifact.k_min} alternatives a token or more, not on {depth.k}."
            depth = depth._replace(notes=(outside, *depth.notes))
    if artifact.reads_token_ids:
        named = np.array([completion.top_ids is not None for completion in completions], np.bool_)
        if (depth.readable & ~named).any():
            unnamed = f"{name} reads which tokens the alternatives are, and not every completion says so."
            depth = depth._replace(readable=depth.readable & named, notes=(*depth.notes, unnamed))
    if groups is None and "agreement" in artifact.response_terms:
        unread = f"{name} counts agreement, but no answers were compared."
        depth = depth._replace(notes=(*depth.notes, unread))
    table = TokenTable(completions, width=artifact.width, k=depth.k, groups=groups)
    return _Reading(depth, token_columns(table, artifact.features), response_columns(table, artifact.response_terms))


class _Depth(NamedTuple):
    """How deep N completions can be read so that their numbers compare."""

    readable: Bool
    """(N,) those with tokens and enough alternatives."""
    k: int
    """Ranks that all of these list."""
    notes: tuple[str, ...]


def _depth(completions: Sequence[Completion], needs: int, *, most: int) -> _Depth:
    """Find the completions with ``needs`` ranks and read them to the shortest list, or to ``most`` ranks."""
    ranks = np.array([listed_ranks(completion) for completion in completions], np.int64)
    readable = np.array([len(completion.tokens) > 0 for completion in completions], np.bool_) & (ranks >= needs)
    lengths = np.minimum(ranks[readable], most).tolist()
    k, longest = min(lengths, default=0), max(lengths, default=0)
    notes = []
    if len(lengths) < len(completions):
        want = f"lists of {needs} or more alternatives" if needs else "logprobs"
        without = len(completions) - len(lengths)
        notes.append(f"{without} of {len(completions)} completions have no score, for want of {want}.")
    if longest > k:
        notes.append(f"Lists are up to {longest} alternatives long; all were read to the shortest, {k}.")
    return _Depth(readable, k, tuple(notes))


def _numbers(result: ArrayLike, count: int, name: str) -> F32:
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
