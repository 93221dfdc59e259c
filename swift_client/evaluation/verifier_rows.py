"""Rows of the evaluation table for verifiers: alone, with votes, with the head, and more samples for the same calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.methods import NO_HEAD_SCORER, Method
from swift_client.evaluation.pool_table import PoolTable
from swift_client.models import AnyHead
from swift_client.verify.modes import MODES, mode_of


def comparable_verifiers(pools: PoolTable) -> tuple[list[str], list[str]]:
    """Return the identities of the verifiers whose judgements hold for any subset of the samples, and notes on others.

    Comparisons of answers depend on which others there are.
    """
    verifiers, notes = [], []
    for verifier in sorted(pools.verifiers):
        if MODES[mode_of(verifier)].holds_votes:
            notes.append(f"{verifier} compared all samples of a question with each other: it is left out.")
        else:
            verifiers.append(verifier)
    return verifiers, notes


def head_method(verifier: str, exponent: float, missing: float | None = None, label: str = "") -> Method:
    """Return the method that chooses by the head's votes and the judgements; arguments as of ``Method``."""
    return Method(
        name=f"head_verifier:{verifier}",
        label=label,
        kind="vote",
        scorer="head",
        rule="default",
        needs_labels=True,
        verifier=verifier,
        exponent=exponent,
        missing=missing,
    )


def verifier_methods(verifiers: Sequence[str], head: AnyHead | None) -> tuple[Method, ...]:
    """Return the rows of each verifier: alone, with votes without labels, and with the head."""
    terms = {} if head is None else {term.verifier: term for term in head.verifier_terms}
    rows: list[Method] = []
    for number, verifier in enumerate(verifiers, 1):
        name = _label(number, verifiers)
        votes = Method(
            name=f"verifier_vote:{verifier}",
            label=f"{name} and votes",
            kind="vote",
            scorer=NO_HEAD_SCORER,
            rule="default",
            verifier=verifier,
        )
        alone = replace(votes, name=f"verifier:{verifier}", label=f"{name} alone", kind="single", exponent=math.inf)
        rows += [alone, votes]
        if head is not None:
            term = terms.get(verifier)
            exponent, missing = (1.0, None) if term is None else (term.exponent, term.mean_log_odds)
            rows.append(head_method(verifier, exponent, missing, f"{name} and head, w = {exponent:g}"))
    return tuple(rows)


def insert_rows(rows: Sequence[Method], more: Sequence[Method]) -> tuple[Method, ...]:
    """Return all rows, each of ``more`` after the last of its kind."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    return tuple(row for kind in kinds for row in (*rows, *more) if row.kind == kind)


def _label(number: int, verifiers: Sequence[str]) -> str:
    return "Verifier" if len(verifiers) == 1 else f"Verifier {number}"


def add_equal_calls(
    comparison: Comparison, verifiers: Sequence[str], vote: Method, *, ns: Sequence[int]
) -> dict[str, Mapping[int, float]]:
    """Add a row of ``vote`` over more samples for each verifier, and return its mean calls per question at each n.

    A sample and a verdict count as one call each.
    """
    calls: dict[str, Mapping[int, float]] = {}
    for number, verifier in enumerate(verifiers, 1):
        judging = Method(name="", label="", scorer=vote.scorer, rule="default", verifier=verifier)
        calls_per_answer = MODES[mode_of(verifier)].max_calls(1, 1)
        calls[verifier] = {n: calls_per_answer * comparison.mean_judged_answers(judging, n) for n in ns}
        row = Method(
            name=f"more_samples:{verifier}",
            label="More samples for its calls" if len(verifiers) == 1 else f"More samples for {number}'s calls",
            kind="vote",
            scorer=vote.scorer,
            rule=vote.rule,
            needs_labels=vote.needs_labels,
        )
        comparison.add_larger_draws(row, {n: n + round(calls[verifier][n]) for n in ns})
    return calls


def cost_notes(calls: Mapping[str, Mapping[int, float]], pools: PoolTable) -> list[str]:
    """Return what each verifier cost, and what the row of more samples could draw."""
    most = pools.max_size
    notes = []
    for number, (verifier, means) in enumerate(calls.items(), 1):
        counts = ", ".join(f"{mean:.1f} at n = {n}" for n, mean in means.items())
        larger = ", ".join(str(min(most, n + round(mean))) for n, mean in means.items())
        note = (
            f"{_label(number, list(calls))} is {verifier}. Calls per question: {counts}. For as many calls the votes "
            f"have {larger} samples"
        )
        short = any(n + round(mean) > most for n, mean in means.items())
        notes.append(f"{note}; there are no more than {most}." if short else f"{note}.")
        n_judged = pools.judged[verifier]
        if n_judged < len(pools):
            notes.append(f"It judged {n_judged} of {len(pools)} questions; on the others its rows are votes alone.")
    return notes
