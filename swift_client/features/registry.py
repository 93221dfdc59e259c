"""The tables of features: FEATURES per token and RESPONSE_TERMS per completion.

Every value is finite float32. A row of FEATURES reads the tokens up to its own only, so that it can be computed while
an answer streams in; a row of RESPONSE_TERMS needs the whole completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.features import response, token
from swift_client.features.segments import F64, I64
from swift_client.features.token_table import TokenTable
from swift_client.types import F32, Completion

WIDTH = 20  # default number of rank columns: the most alternatives that any hosted API lists


@dataclass(frozen=True)
class Feature:
    """One row of FEATURES or RESPONSE_TERMS; the docstring of its function gives the meaning.

    Attributes:
        columns: Number of columns; None: one per rank, so ``width``.
        min_ranks: Ranks that a token must list; the value is 0 if it lists fewer.
        default: Whether it is computed if no names are given.
    """

    compute: Callable[[TokenTable], F64 | F32]
    _: KW_ONLY
    columns: int | None = 1
    min_ranks: int = 0
    default: bool = True


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "logprob": Feature(token.logprob),
        "censored": Feature(token.censored),
        "position": Feature(token.position),
        "listed": Feature(token.listed),
        "log_rank": Feature(token.log_rank, min_ranks=1),
        "gap_to_top": Feature(token.gap_to_top, min_ranks=1),
        "margin": Feature(token.margin, min_ranks=2),
        "probability_margin": Feature(token.probability_margin, min_ranks=2),
        "tail_mass": Feature(token.tail_mass, min_ranks=1),
        "partial_entropy": Feature(token.partial_entropy, min_ranks=1, default=False),  # sum of rank_surprise
        "entropy": Feature(token.entropy, min_ranks=1),
        "renormalised_entropy": Feature(token.renormalised_entropy, min_ranks=2),
        "varentropy": Feature(token.varentropy, min_ranks=2),
        "confidence": Feature(token.confidence, min_ranks=1),
        # Nearly redundant with confidence: C - log k + log M with M close to 1.
        "self_certainty": Feature(token.self_certainty, min_ranks=2, default=False),
        "rank_surprise": Feature(token.rank_surprise, columns=None),
        "decision_entropy": Feature(token.decision_entropy, min_ranks=2),
        "decision_entropy_change": Feature(token.decision_entropy_change, min_ranks=2),
        "logprob_mean_16": Feature(partial(token.window_mean, token.logprob, 16)),
        "logprob_mean_64": Feature(partial(token.window_mean, token.logprob, 64)),
        "logprob_min_16": Feature(partial(token.window_min, token.logprob, 16)),
        "logprob_min_64": Feature(partial(token.window_min, token.logprob, 64)),
        "entropy_mean_16": Feature(partial(token.window_mean, token.entropy, 16), min_ranks=1),
        "confidence_mean_16": Feature(partial(token.window_mean, token.confidence, 16), min_ranks=1),
        "number": Feature(token.number),
        "number_logprob": Feature(token.number_logprob),
        "number_entropy": Feature(token.number_entropy, min_ranks=1),
        "symbol": Feature(token.symbol),
        "starts_word": Feature(token.starts_word),
        "characters": Feature(token.characters),
        # Token identities need many labels and strong regularization: on request only.
        "token_hash": Feature(token.token_hash, columns=token.HASH_BUCKETS, default=False),
        "alternatives_hash": Feature(token.alternatives_hash, columns=token.HASH_BUCKETS, default=False),
    }
)

_TERMS: Mapping[str, Feature] = MappingProxyType(
    {
        "log_length": Feature(response.log_length),
        "sum_logprob": Feature(response.sum_logprob),
        "min_logprob": Feature(response.min_logprob),
        "logprob_q01": Feature(partial(response.logprob_quantile, quantile=0.01)),
        "logprob_q05": Feature(partial(response.logprob_quantile, quantile=0.05)),
        "logprob_q10": Feature(partial(response.logprob_quantile, quantile=0.1)),
        "logprob_q25": Feature(partial(response.logprob_quantile, quantile=0.25)),
        "tail_logprob": Feature(response.tail_logprob),
        "share_below_50": Feature(partial(response.share_below, probability=0.5)),
        "share_below_10": Feature(partial(response.share_below, probability=0.1)),
        "share_below_01": Feature(partial(response.share_below, probability=0.01)),
        # The strongest single feature in Entropy Sentinel (arXiv 2601.09001).
        "sum_entropy": Feature(partial(response.reduce_tokens, np.add, token.entropy)),
        "max_entropy": Feature(partial(response.reduce_tokens, np.maximum, token.entropy)),
        "tail_confidence": Feature(response.tail_confidence),
        "bottom_confidence": Feature(response.bottom_confidence),
        "lowest_confidence": Feature(response.lowest_confidence),
        "max_rank_surprise": Feature(response.max_rank_surprise, columns=None),
        "number_share": Feature(partial(response.mean_of_tokens, token.number)),
        "sum_number_logprob": Feature(partial(response.reduce_tokens, np.add, token.number_logprob)),
        "min_number_logprob": Feature(partial(response.reduce_tokens, np.minimum, token.number_logprob)),
        "sum_number_entropy": Feature(partial(response.reduce_tokens, np.add, token.number_entropy)),
        "distinct_share": Feature(response.distinct_share),
        # For thinking tokens, which have no gated mean.
        "mean_logprob": Feature(partial(response.mean_of_tokens, token.logprob), default=False),
        "mean_entropy": Feature(partial(response.mean_of_tokens, token.entropy), default=False),
        "mean_confidence": Feature(partial(response.mean_of_tokens, token.confidence), default=False),
    }
)
RESPONSE_TERMS: Mapping[str, Feature] = MappingProxyType(
    {
        **_TERMS,
        # A term of the whole question: it needs the groups of equal answers.
        "agreement": Feature(response.agreement, default=False),
        **{
            f"{response.THINKING_PREFIX}{name}": replace(
                row, compute=partial(response.thinking_term, term=row.compute), default=False
            )
            for name, row in _TERMS.items()
        },
    }
)

DEFAULT_FEATURES = tuple(name for name, row in FEATURES.items() if row.default)
DEFAULT_RESPONSE_TERMS = tuple(name for name, row in RESPONSE_TERMS.items() if row.default)
# The terms of RESPONSE_TERMS except agreement, over the thinking tokens; 0 if no thinking tokens were listed.
THINKING_TERMS = tuple(name for name in RESPONSE_TERMS if name.startswith(response.THINKING_PREFIX))


class TokenFeatures(NamedTuple):
    """Features of all tokens of N completions, laid end to end.

    Attributes:
        values: (ΣT, d) float32, finite.
        offsets: (N+1,) int64; completion i has the rows ``offsets[i]:offsets[i + 1]``.
        names: (d,) column names: the row's name, with the 1-based column number if it has several.
    """

    values: F32
    offsets: I64
    names: tuple[str, ...]


class ResponseTerms(NamedTuple):
    """Terms of N whole completions.

    Attributes:
        values: (N, m) float32, finite.
        names: (m,) column names.
    """

    values: F32
    names: tuple[str, ...]


def token_features(
    completions: Sequence[Completion], names: Sequence[str] | None = None, *, k: int | None = None, width: int = WIDTH
) -> TokenFeatures:
    """Compute the features of every token of N completions.

    Args:
        completions: N completions.
        names: rows of FEATURES; None: the default ones.
        k: ranks to read of each list; None: ``width``. Numbers that grow with the length of the lists compare only
            between lists read to the same k.
        width: number of rank columns, which is part of what a head is trained for.

    Raises:
        ConfigurationError: a name is unknown.
        ValueError: a logprob is NaN.
    """
    columns = token_columns(TokenTable(completions, width=width, k=k), DEFAULT_FEATURES if names is None else names)
    return columns._replace(values=np.ascontiguousarray(columns.values))


def response_terms(
    completions: Sequence[Completion], names: Sequence[str] | None = None, *, k: int | None = None, width: int = WIDTH
) -> ResponseTerms:
    """Compute the response terms of N completions; arguments and errors as ``token_features()``."""
    table = TokenTable(completions, width=width, k=k)
    return response_columns(table, DEFAULT_RESPONSE_TERMS if names is None else names)


def token_columns(table: TokenTable, names: Sequence[str]) -> TokenFeatures:
    """Compute token features from a table, which ``response_columns()`` may share; the values lie column by column."""
    columns = column_names(FEATURES, names, width=table.width)
    # One column after the other in memory, since each is computed, and read by heads, on its own.
    values = np.empty((len(columns), int(table.offsets[-1])), np.float32).T
    start = 0
    for row in map(FEATURES.__getitem__, names):
        block = row.compute(table)
        block = block if block.ndim == 2 else block[None]
        if row.min_ranks > table.min_listed:
            block = np.where(table.listed_count >= row.min_ranks, block, 0.0)
        values[:, start : start + len(block)] = block.T
        start += len(block)
    return TokenFeatures(values, table.offsets, columns)


def response_columns(table: TokenTable, names: Sequence[str]) -> ResponseTerms:
    """Compute response terms from a table, which ``token_columns()`` may share."""
    columns = column_names(RESPONSE_TERMS, names, width=table.width)
    blocks = [np.atleast_2d(RESPONSE_TERMS[name].compute(table)) for name in names]
    values = np.concatenate([np.zeros((0, len(table.lengths))), *blocks]).T
    return ResponseTerms(np.ascontiguousarray(values, np.float32), columns)


def agreement_column(terms: Sequence[str]) -> int:
    """Return the column of the term "agreement" in the response terms' columns, counted from the end (negative).

    Terms before it may have several columns, those after it have one each.
    """
    return terms.index("agreement") - len(terms)


def column_names(table: Mapping[str, Feature], names: Sequence[str], *, width: int = WIDTH) -> tuple[str, ...]:
    """Return the column names of rows of FEATURES or RESPONSE_TERMS. Raises ConfigurationError for an unknown row."""
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ConfigurationError(f"Unknown features: {', '.join(unknown)}.", hint=f"Known: {', '.join(table)}.")
    columns: list[str] = []
    for name in names:
        count = table[name].columns
        columns += [name] if count == 1 else [f"{name}_{i}" for i in range(1, (width if count is None else count) + 1)]
    return tuple(columns)
