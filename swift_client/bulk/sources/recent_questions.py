"""A memory of fixed size for the questions that were read: it finds those whose rows are scattered."""

from __future__ import annotations

import numpy as np

from swift_client.dataset.sample_columns.question_index import hash_question

_SLOTS = 2**20


class RecentQuestions:
    """Hashes of the last questions, about a million, in 8 MB.

    Each hash has one place, which the next one of the same place takes. Rows in a random order are therefore found
    after a few questions, also in a file of any size, while an exact check would have to keep every id. A question
    that returns after a million others may pass. The result is the same in every process.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(_SLOTS, np.uint64)

    def add(self, question: str) -> bool:
        """Note a question. Return False if it was noted before."""
        value = hash_question(question) or 1
        slot = value % _SLOTS
        is_new = int(self._hashes[slot]) != value
        self._hashes[slot] = value
        return is_new
