"""Consensus: the completion whose text is most like those of the others, for texts that no answer is read from.

It is minimum Bayes risk decoding (Kumar and Byrne 2004, aclanthology N04-1022; arXiv 2310.01387 for language models):
each completion's expected similarity to a completion drawn by its weight, its own weight included.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from swift_client.answers import SCORES_ALONE
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64, I64
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection import choose
from swift_client.selection.similarity import SIMILARITIES
from swift_client.types import Method, completeness

DEFAULT = "token_f1"  # the similarity of "consensus" and "auto", and what a similarity that fails is replaced by

# Digits to which expected similarities are compared: sums in another order differ by rounding.
_DIGITS = 12
# Marks that two texts may differ by and still count as equal, at the beginning and at the end of a word.
_LEADING, _TRAILING = "\"'“”‘’(*_`", ".,;:!?…\"'“”‘’)*_`"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class DistinctTexts:
    """The different texts of N completions.

    Attributes:
        texts: (M,) the texts, sorted, so that the order of the completions does not matter.
        groups: (N,) the number of each completion's text; -1 for one that must not win.
    """

    texts: tuple[str, ...]
    groups: I64


def check_similarity(similarity: object, method: Method) -> None:
    """Raise ConfigurationError unless ``similarity`` is a value of ``similarity=`` that ``method`` uses."""
    if isinstance(similarity, str):
        name, colon, _ = similarity.partition(":")
        if not embedding_model(similarity) and (colon or name not in SIMILARITIES):
            hint = f'Known: {", ".join(SIMILARITIES)}, "embedding:PROVIDER/MODEL", or your function of texts.'
            raise ConfigurationError(f"Unknown similarity {similarity!r}.", hint=hint)
    elif not callable(similarity):
        raise ConfigurationError(
            f"similarity= takes a name or a function from texts to a matrix, not {type(similarity).__name__}."
        )
    if method not in ("auto", "consensus"):
        raise ConfigurationError(
            f'similarity= has no use with select="{method}".', hint='Use select="consensus" or "auto".'
        )


def embedding_model(similarity: str) -> str | None:
    """Return "PROVIDER/MODEL" or "model=MODEL" of "embedding:…"; None for any other similarity."""
    name, _, model = similarity.partition(":")
    return model if name == "embedding" and model.removeprefix("model=") else None


def distinct_texts(scored: ScoredCompletions) -> DistinctTexts:
    """Return the different texts among completions that may win: those that ended by themselves, or all if none did.

    With a response schema, the objects that match are compared, in normal form. Texts are equal if they differ in
    case, white space and the marks around words only; for a function of the user, whose texts may be code, if they
    are the same to the letter.
    """
    texts = [completion.text for completion in scored.completions]
    may_win = completeness(scored.completions)
    may_win = may_win if any(may_win) else [True] * len(texts)
    if scored.parsed_answers and any(_matches(scored.answers.values, may_win)):
        may_win = _matches(scored.answers.values, may_win)
        texts = [value or "" for value in scored.answers.values]
    fold = str if callable(scored.similarity) else _fold
    members: dict[str, str] = {}
    keys = [fold(text) for text in texts]
    for text, key, allowed in zip(texts, keys, may_win, strict=True):
        if allowed:
            members[key] = min(text, members.get(key, text))  # the same one in any order
    numbers = {key: number for number, key in enumerate(sorted(members, key=members.__getitem__))}
    groups = [numbers[key] if allowed else -1 for key, allowed in zip(keys, may_win, strict=True)]
    return DistinctTexts(texts=tuple(sorted(members.values())), groups=np.array(groups, np.int64))


def expected_similarities(matrix: F64, groups: I64, weights: F64) -> F64:
    """Return each completion's weighted mean similarity to all of them, itself included, (N,); NaN for group -1.

    Args:
        matrix: (M, M) similarities of the different texts; entry (i, j) says how well text i agrees with text j.
        groups: (N,) the number of each completion's text, -1 for one that does not count.
        weights: (N,) positive weights.
    """
    counted = groups >= 0
    totals = np.bincount(groups[counted], weights[counted], minlength=len(matrix))
    expected = np.round(matrix @ (totals / totals.sum()), _DIGITS)
    return np.where(counted, expected[np.maximum(groups, 0)], np.nan)


def choose_by_consensus(scored: ScoredCompletions, method: Method) -> choose.Choice:
    """Choose the completion with the highest expected similarity; ``method`` is "consensus" or "auto"."""
    note = scored.answers.note if method == "auto" else None  # a consensus that was asked for needs no answers
    if note:
        note = note.replace(SCORES_ALONE, "the choice rests on the similarity of the texts")
    return choose.choose(
        scored.completions,
        scored.scores.values,
        weights=scored.vote_weights,
        answers=replace(scored.answers, note=note),
        method=method,
        similarities=_utilities(scored),
    )


def compare_texts(scored: ScoredCompletions, method: Method) -> ScoredCompletions:
    """Call the user's function of similarity if the choice needs it; nothing is sent for embeddings."""
    if not choose.seeks_consensus(scored, method):
        return scored
    if isinstance(scored.similarity, str) and embedding_model(scored.similarity):
        return without_similarity(scored, "needs requests, and none are sent here")
    return with_user_similarity(scored)


def with_user_similarity(scored: ScoredCompletions) -> ScoredCompletions:
    """Call the user's function of texts; if it fails, the DEFAULT similarity takes its place and a note says so."""
    if not callable(scored.similarity):
        return scored
    texts = list(distinct_texts(scored).texts)
    try:
        matrix = check_matrix(scored.similarity(texts), len(texts))
    except (
        Exception,
        SystemExit,
    ) as error:  # paid completions must not be lost for an error of the user's
        logger.warning("similarity= failed with %s", type(error).__name__)
        logger.debug("its error", exc_info=True)
        return without_similarity(scored, f"failed ({type(error).__name__}: {error})")
    return replace(scored, similarity_matrix=matrix)


def without_similarity(scored: ScoredCompletions, failure: str) -> ScoredCompletions:
    """Return the same completions, to be compared by DEFAULT; ``failure`` completes a sentence about the function."""
    note = f'similarity= {failure}, so texts are compared by "{DEFAULT}" instead.'
    return replace(scored.with_rescoring_note(note), similarity=DEFAULT)


def check_matrix(values: ArrayLike, count: int) -> F64:
    """Return similarities as a matrix (count, count). Raises ValueError unless all are numbers from 0 to 1."""
    matrix = np.asarray(values, np.float64)
    if matrix.shape != (count, count):
        raise ValueError(f"{count} texts need a matrix of shape ({count}, {count}), not {matrix.shape}")
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError("similarities must be numbers from 0 to 1")
    return matrix


def _matches(values: Sequence[str | None], may_win: Sequence[bool]) -> list[bool]:
    return [value is not None and allowed for value, allowed in zip(values, may_win, strict=True)]


def _fold(text: str) -> str:
    words = (word.lstrip(_LEADING).rstrip(_TRAILING) or word for word in text.casefold().split())
    return " ".join(words)


def _utilities(scored: ScoredCompletions) -> F64:
    """Return the expected similarity of each completion, (N,); NaN for completions that must not win."""
    distinct = distinct_texts(scored)
    matrix = scored.similarity_matrix
    if matrix is None:
        name = scored.similarity if isinstance(scored.similarity, str) else DEFAULT
        matrix = SIMILARITIES.get(name, SIMILARITIES[DEFAULT])(distinct.texts)
    weights = np.ones(len(distinct.groups)) if scored.vote_weights is None else scored.vote_weights
    # Weights that are 0 in float64 would leave nothing to divide by.
    return expected_similarities(matrix, distinct.groups, np.fmax(weights, 1e-300))
