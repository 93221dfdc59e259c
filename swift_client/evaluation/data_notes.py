"""Notes of an evaluation on the data: what is left out, incomplete, unlabelled or unread."""

from __future__ import annotations

from collections.abc import Sequence

from swift_client.evaluation.pool_table import PoolTable


def data_notes(pools: PoolTable, requested_ns: Sequence[int], usable_ns: Sequence[int]) -> list[str]:
    """Return one sentence per omission; ``usable_ns`` are those of ``requested_ns`` that any question allows."""
    notes, total = [], pools.completions
    if omitted := [str(n) for n in requested_ns if n not in usable_ns]:
        notes.append(f"n = {', '.join(omitted)} is left out: no question has so many completions.")
    notes += [
        f"At n = {n} only the {pools.count(n)} of {len(pools)} questions with that many completions count."
        for n in usable_ns
        if pools.count(n) < len(pools)
    ]
    if pools.incomplete:
        notes.append(
            f"{pools.incomplete} of {total} completions were cut, filtered or refused: they do not vote, and win only "
            "if there are no others."
        )
    if pools.unlabelled:
        notes.append(f"{pools.unlabelled} of {total} completions have no label: choosing one counts as wrong.")
    if pools.unread:
        notes.append(f"In {pools.unread} of {total} completions no answer could be read: they do not vote.")
    if pools.unscored:
        notes.append(f"{pools.unscored} of {total} completions have no score by the head, since they have no logprobs.")
    if pools.out_of_distribution:
        notes.append(
            f"On {pools.out_of_distribution} of {len(pools)} questions the answers are unlike those that the head was "
            "trained on: best_of does not use it there, and the table shows what it would have chosen."
        )
    count, first = pools.reader_notes
    if count:
        notes.append(f"On {count} questions, reading answers: {first}")
    return notes
