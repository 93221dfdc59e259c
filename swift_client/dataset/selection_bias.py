"""Selection bias of feedback: which choices get feedback, and weights that make those stand for all choices.

Choices are divided into strata by what people could see of them: the virtual model, whether the answer was accepted,
and its confidence. Within a stratum feedback is taken for a random sample (missing at random, Rubin 1976), so a choice
with feedback weighs 1 / share of its stratum that has feedback (Horvitz & Thompson 1952; strata: Rosenbaum & Rubin
1984). Where nobody gives feedback no weight helps: such strata are without overlap, and nothing is known about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.types import Bool

BINS = 10  # strata of equally many choices per kind, by confidence
MIN_CHOICES = 50  # choices of a stratum; kinds with fewer per bin get fewer bins
MAX_WEIGHT = 10.0  # weights are clipped at this many times their mean, for training and estimates
# A run of choices without feedback, in order of confidence, is a stratum of its own if chance makes it less often.
GAP_CHANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class ShownChoice:
    """Appearance of a choice to people who gave feedback on it, or did not.

    Attributes:
        served_as: Name of a service's virtual model; None for a call of the library.
        accepted: ``Selection.accepted``.
        measure: What the confidence is: "probability", "votes" (share of the candidates with this answer), or "none".
        confidence: 0..1; 0 for the measure "none".
    """

    served_as: str | None
    accepted: bool | None
    measure: str
    confidence: float

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], served_as: str | None) -> ShownChoice:
        """Read it from ``StoredSelection.facts``."""
        accepted = facts.get("accepted")
        names = ("answer_probability", "probability")
        values = [value for name in names if isinstance(value := facts.get(name), float | int) and 0 <= value <= 1]
        measure, confidence = ("probability", float(values[0])) if values else _vote_share(facts)
        return cls(
            served_as=served_as,
            accepted=accepted if isinstance(accepted, bool) else None,
            measure=measure,
            confidence=confidence,
        )


def _vote_share(facts: Mapping[str, Any]) -> tuple[str, float]:
    """Return the measure and the share of the candidates that have the chosen answer."""
    candidates, winner = facts.get("candidates"), facts.get("winner")
    if not isinstance(candidates, list) or not isinstance(winner, int) or not 0 <= winner < len(candidates):
        return "none", 0.0
    groups = [row.get("group") if isinstance(row, dict) else None for row in candidates]
    if groups[winner] is None:
        return "none", 0.0
    return "votes", groups.count(groups[winner]) / len(groups)


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Choices that looked alike.

    Attributes:
        served_as: As of ``ShownChoice``; ``accepted`` and ``measure`` too.
        lowest: The least confidence, 0..1.
        highest: The greatest confidence, 0..1.
        choices: Number of choices.
        known_count: Those whose answer is known to be right or wrong.
    """

    served_as: str | None
    accepted: bool | None
    measure: str
    lowest: float
    highest: float
    choices: int
    known_count: int

    @property
    def propensity(self) -> float:
        """Share of the choices that are known; 0 without overlap."""
        return self.known_count / self.choices

    def __str__(self) -> str:
        words = {True: "accepted answers", False: "answers not accepted", None: "answers"}[self.accepted]
        if self.measure != "none":
            name = {"probability": "probability", "votes": "share of votes"}[self.measure]
            words += f" with a {name} of {self.lowest:.2f} to {self.highest:.2f}"
        return words + (f" of {self.served_as}" if self.served_as else "")


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectionBias:
    """Strata of choices and the weights of those that are known.

    Attributes:
        strata: Every stratum.
        stratum: (N,) stratum of each choice.
        weights: (N,) of known choices, mean 1, after clipping; 0 for the others.
        clipped_count: Number of weights that were clipped.
    """

    strata: tuple[Stratum, ...]
    stratum: I64
    weights: F64
    clipped_count: int

    @property
    def choices(self) -> int:
        """Number of choices."""
        return len(self.stratum)

    @property
    def known_count(self) -> int:
        """Number of known choices."""
        return sum(stratum.known_count for stratum in self.strata)

    @property
    def without_overlap(self) -> tuple[Stratum, ...]:
        """Strata in which no choice is known, the largest first."""
        return tuple(sorted((s for s in self.strata if not s.known_count), key=lambda s: -s.choices))

    @property
    def effective_size(self) -> float:
        """Number of equally weighted choices that estimate a mean as well: (Σw)² / Σw² (Kish 1965); 0 without any."""
        return float(self.weights.sum() ** 2 / np.square(self.weights).sum()) if self.known_count else 0.0

    @property
    def propensities(self) -> F64:
        """(N,) share of each choice's stratum that is known."""
        return np.array([stratum.propensity for stratum in self.strata])[self.stratum]

    def notes(self) -> list[str]:
        """Return one sentence per fact that a reader of an estimate should know."""
        share = 100 * self.known_count / max(self.choices, 1)
        notes = [
            f"{self.known_count:,} of {self.choices:,} choices ({share:.0f} %) are known to be right or wrong. "
            f"Weighted to stand for all that look alike, they are worth {self.effective_size:,.0f} choices drawn at "
            "random."
        ]
        if self.clipped_count:
            notes.append(
                f"{self.clipped_count:,} weights were clipped at {MAX_WEIGHT:g} times the mean: choices that rarely "
                "get feedback count less than they should."
            )
        if gaps := self.without_overlap:
            count = sum(stratum.choices for stratum in gaps)
            more = f" and {len(gaps) - 3} more groups" if len(gaps) > 3 else ""
            notes.append(
                f"{count:,} choices ({100 * count / self.choices:.0f} %) are of groups without any feedback, so "
                f"nothing is known about them: {'; '.join(map(str, gaps[:3]))}{more}."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "choices": self.choices,
            "known": self.known_count,
            "effective_size": round(self.effective_size, 1),
            "clipped": self.clipped_count,
            "without_overlap": sum(stratum.choices for stratum in self.without_overlap),
            "strata": [asdict(stratum) for stratum in self.strata],
        }


def estimate_bias(choices: Sequence[ShownChoice], is_known: Bool) -> SelectionBias:
    """Divide choices into strata and weigh the known ones.

    Strata depend on what was seen and on which choices are known, never on whether those are right.

    Args:
        choices: N choices, with and without feedback.
        is_known: (N,) True if it is known whether the answer is right.
    """
    kinds: dict[tuple[str | None, bool | None, str], list[int]] = {}
    for position, choice in enumerate(choices):
        kinds.setdefault((choice.served_as, choice.accepted, choice.measure), []).append(position)
    confidence = np.array([choice.confidence for choice in choices], np.float64)
    strata: list[Stratum] = []
    stratum_of = np.zeros(len(choices), np.int64)
    for (served_as, accepted, measure), members in kinds.items():
        positions = np.array(members)
        for part in _divide(confidence[positions], is_known[positions]):
            rows = positions[part]
            stratum_of[rows] = len(strata)
            strata.append(
                Stratum(
                    served_as=served_as,
                    accepted=accepted,
                    measure=measure,
                    lowest=float(confidence[rows].min()),
                    highest=float(confidence[rows].max()),
                    choices=len(rows),
                    known_count=int(is_known[rows].sum()),
                )
            )
    weights, clipped_count = _weigh(strata, stratum_of, is_known)
    return SelectionBias(strata=tuple(strata), stratum=stratum_of, weights=weights, clipped_count=clipped_count)


def _weigh(strata: Sequence[Stratum], stratum_of: I64, is_known: Bool) -> tuple[F64, int]:
    """Return the weights (N,) of ``SelectionBias``, and the number of clipped ones."""
    inverse = np.array([stratum.choices / stratum.known_count if stratum.known_count else 0.0 for stratum in strata])
    weights = np.where(is_known, inverse[stratum_of] if len(strata) else 0.0, 0.0)
    if not is_known.any():
        return weights, 0
    weights = weights / weights[is_known].mean()
    clipped_count = int((weights > MAX_WEIGHT).sum())
    weights = np.minimum(weights, MAX_WEIGHT)
    return weights / weights[is_known].mean(), clipped_count


def _divide(confidence: F64, is_known: Bool) -> Iterator[I64]:
    """Yield the positions of each stratum of one kind of choices; equal confidences (n,) share a stratum."""
    order = np.argsort(confidence, kind="stable")
    _, first, counts = np.unique(confidence[order], return_index=True, return_counts=True)
    known_counts = np.add.reduceat(is_known[order].astype(np.int64), first)
    edges = [0, *_gap_edges(counts, known_counts), len(counts)]
    n_bins = max(1, min(BINS, len(confidence) // MIN_CHOICES))
    size = len(confidence) / n_bins
    for start, end in pairwise(edges):
        if start == end:
            continue
        # Bins of about equally many choices; one without known choices joins a neighbour.
        total = counts[start:end].sum()
        bins = max(1, round(total / size)) if known_counts[start:end].any() else 1
        number = np.minimum((np.cumsum(counts[start:end]) - counts[start:end] / 2) * bins // total, bins - 1)
        cuts = [start, *(start + 1 + np.flatnonzero(np.diff(number))).tolist(), end]
        begin = cuts[0]
        for cut in cuts[1:]:
            rest_is_unknown = cut < end and not known_counts[cut:end].any()
            if (known_counts[begin:cut].any() and not rest_is_unknown) or cut == end:
                yield order[first[begin] : first[cut - 1] + counts[cut - 1]]
                begin = cut


def _gap_edges(counts: I64, known_counts: I64) -> list[int]:
    """Return begin and end of each run of values without known choices that is too long for chance.

    Args:
        counts: (V,) choices with each value of the confidence, in its order.
        known_counts: (V,) those that are known.
    """
    n_before, n_known = np.concatenate([[0], np.cumsum(counts)]), np.concatenate([[0], np.cumsum(known_counts)])
    is_empty = np.concatenate([[False], known_counts == 0, [False]])
    changes = np.flatnonzero(np.diff(is_empty.astype(np.int8)))
    edges: list[int] = []
    for begin, end in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True):
        # Feedback may be rare here without being absent, so the run is compared with about as many choices on either
        # side, less the known choice that ends the run on that side.
        length = n_before[end] - n_before[begin]
        window = max(length, MIN_CHOICES)
        low = np.searchsorted(n_before, n_before[begin] - window)
        high = min(np.searchsorted(n_before, n_before[end] + window), len(counts))
        sides = int(low < begin) + int(high > end)
        neighbours = n_before[high] - n_before[low] - length - sides
        share = (n_known[high] - n_known[low] - sides) / neighbours if neighbours > 0 else 0.0
        # A run could begin at any of the choices.
        if not n_known[-1] or n_before[-1] * (1 - share) ** length < GAP_CHANCE:
            edges += [begin, end]
    return edges
