"""The votes of a selection by answer. Pure."""

from __future__ import annotations

from typing import NamedTuple

from swift_client.server.inspector.facts import SelectionFacts


class TallyRow(NamedTuple):
    """One distinct answer.

    Attributes:
        answer: The answer; None for the completions that did not vote.
        n_votes: Number of completions.
        weight: Summed weight of their votes.
        share: Of all weight, 0..1.
        probability: Calibrated probability that it is right; None without one.
        verifier_score: Judgement of it; None if it was not judged.
        is_chosen: True for the answer of the chosen completion.
    """

    answer: str | None
    n_votes: int
    weight: float
    share: float
    probability: float | None
    verifier_score: float | None
    is_chosen: bool


def count_votes(facts: SelectionFacts) -> list[TallyRow]:
    """Return the distinct answers, the one with the largest weight first, then the completions without one."""
    groups: dict[int | None, list[int]] = {}
    for position, candidate in enumerate(facts.candidates):
        groups.setdefault(candidate.group, []).append(position)
    if groups.keys() == {None}:
        return []
    total = sum(max(0.0, candidate.weight) for candidate in facts.candidates if candidate.group is not None)
    rows = []
    for group, positions in groups.items():
        members = [facts.candidates[position] for position in positions]
        weight = sum(max(0.0, member.weight) for member in members)
        rows.append(
            TallyRow(
                answer=None if group is None else members[0].answer or "",
                n_votes=len(members),
                weight=weight,
                share=weight / total if total > 0 and group is not None else 0.0,
                probability=members[0].answer_probability,
                verifier_score=members[0].verifier_score,
                is_chosen=facts.winner in positions and group is not None,
            )
        )
    return sorted(rows, key=lambda row: (row.answer is None, -row.weight, -row.n_votes))
