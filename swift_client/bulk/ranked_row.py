"""One row per question: the choice among its completions, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Self

import msgspec

from swift_client.errors import SwiftClientError
from swift_client.store.packing import replace_surrogates
from swift_client.types import Selection

logger = logging.getLogger(__name__)


class RankedRow(msgspec.Struct, frozen=True, kw_only=True):
    """The choice among the completions of one question; the members are those of ``Selection``.

    Attributes:
        question: The question's id; None if the source gives none.
        index: Index of the chosen completion: of a sample as it is stored, else its position in the reply.
        n: Number of completions to choose from.
        error: The reason why nothing was chosen, with what to do about it; None if something was. The other members are
            then None, 0 or empty.
    """

    question: str | None = None
    text: str | None = None
    answer: str | None = None
    score: float | None = None
    probability: float | None = None
    index: int | None = None
    n: int = 0
    accepted: bool | None = None
    method: str | None = None
    scorer: str | None = None
    signal: str | None = None
    notes: list[str] = []
    error: str | None = None

    @classmethod
    def of_selection(cls, question: str | None, selection: Selection, indices: Sequence[int] | None = None) -> Self:
        """Return the row of a choice.

        Args:
            question: the question's id.
            selection: the choice.
            indices: (N,) stored index of each candidate; None: their positions.
        """
        answer = selection.answer
        return cls(
            question=question,
            text=replace_surrogates(selection.text),
            answer=None if answer is None else replace_surrogates(answer),
            score=selection.score,
            probability=selection.probability,
            index=selection.winner if indices is None else indices[selection.winner],
            n=len(selection.candidates),
            accepted=selection.accepted,
            method=selection.method,
            scorer=replace_surrogates(selection.scorer),
            signal=selection.signal,
            notes=[replace_surrogates(note) for note in selection.notes],
        )

    @classmethod
    def of_error(cls, question: str | None, error: Exception | str) -> Self:
        """Return the row of a question that cannot be ranked."""
        is_described = isinstance(error, SwiftClientError | str)
        message = str(error) if is_described else f"{type(error).__name__}: {error}"
        return cls(question=question, error=replace_surrogates(message))


def rank_or_explain(question: str | None, rank: Callable[[], RankedRow]) -> RankedRow:
    """Return the row of a question, or that of its error, so that one question does not end a run over many."""
    try:
        return rank()
    except SwiftClientError as error:
        return RankedRow.of_error(question, error)
    # A scorer or reader of the user may raise anything, and a file may hold numbers that nothing can be computed from.
    except Exception as error:
        logger.debug("a question cannot be ranked", exc_info=True)
        return RankedRow.of_error(question, error)
