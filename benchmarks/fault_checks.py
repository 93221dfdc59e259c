"""The checks of benchmarks/faults.py: what a call returned or raised, against what the server sent."""

from __future__ import annotations

import asyncio
import pickle
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.fault_calls import REPEAT, Outcome, find_references
from swift_client import Selection
from swift_client.errors import SwiftClientError

GRACE = 0.3
"""Seconds after the deadline that a call may take."""
FROZEN = 15.0
"""Seconds after which a call without a deadline counts as past it."""
_TIMELY = frozenset({None, "late_answer", "quota_headers", "odd_success", "indented"})
"""Faults whose replies are sent at once, so that a call that is cut short afterwards has all of them."""


@dataclass
class Findings:
    """What is wrong with some calls."""

    examples: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """A description of each violation, by its kind and call."""
    lateness: list[float] = field(default_factory=list)
    """Seconds after the deadline, per call that has one."""
    n_leaks: int = 0

    @property
    def wrong_calls(self) -> set[tuple[str, int]]:
        """Kinds of violations, with the calls that have them."""
        return set(self.examples)

    def add(self, name: str, outcome: Outcome, example: str) -> None:
        """Count one violation."""
        batch, call = outcome.batch, outcome.call
        where = (
            f"{call.fault} {batch.client} {batch.row} {batch.hazard} n={call.n} deadline={call.deadline} {call.options}"
        )
        text = f"{name}: call {call.number} ({where}): {example}"
        self.examples.setdefault((name, call.number % REPEAT), []).append(text)

    def keep(self, repeated: Findings, names: Sequence[str]) -> None:
        """Drop violations of these kinds that did not come again; add all others of the repetition."""
        kept = {key: texts for key, texts in self.examples.items() if key[0] not in names or key in repeated.examples}
        others = {key: texts for key, texts in repeated.examples.items() if key[0] not in names}
        self.examples = {**kept, **others}
        self.n_leaks += repeated.n_leaks

    def merge(self, other: Findings) -> None:
        """Add the findings about other calls."""
        self.examples |= other.examples
        self.lateness += other.lateness
        self.n_leaks += other.n_leaks


def check(outcome: Outcome, arrived: Mapping[int, list[tuple[str, float]]], key: str, findings: Findings) -> None:
    """Check one outcome."""
    call, value = outcome.call, outcome.value
    # 1. A Selection or a typed error.
    is_cancelled = isinstance(value, asyncio.CancelledError) and outcome.was_cut
    if isinstance(value, Selection):
        if not value.candidates or not 0 <= value.winner < len(value.candidates):
            findings.add("untyped_errors", outcome, "a Selection without a winner")
    elif not isinstance(value, SwiftClientError) and not is_cancelled:
        text = "".join(traceback.format_exception(value))[-1500:]
        findings.add("untyped_errors", outcome, text)
    # 2. Errors that can be shown, logged and sent to other processes.
    for error in _errors(value):
        text = f"{error} {error!r} {vars(error)}"
        if key in re.sub(r"[^\x21-\x7e]", "", text) or key[:20] in text:
            findings.add("keys_shown", outcome, text[:500])
        if not is_cancelled and isinstance(error, SwiftClientError) and not _survives(error):
            findings.add("unsafe_errors", outcome, repr(error)[:500])
    if isinstance(value, Selection) and key[:20] in " ".join(value.notes):
        findings.add("keys_shown", outcome, " ".join(value.notes)[:500])
    # 3. In time.
    limit = FROZEN if call.deadline is None else call.deadline + GRACE
    if call.deadline is not None:
        findings.lateness.append(outcome.seconds - call.deadline)
    if outcome.seconds > limit:
        findings.add("past_deadline", outcome, f"{outcome.seconds:.2f} s; {type(value).__name__} {str(value)[:300]}")
    # 4. Nothing lost that was paid for.
    is_cut = outcome.was_cut or (call.deadline is not None and outcome.seconds > call.deadline - 0.05)
    end = outcome.ended_at - (GRACE if is_cut or call.options.get("stopping") else 0)
    expected = {reference for reference, sent_at in arrived.get(call.number, ()) if sent_at < end}
    if outcome.was_cut:
        if not isinstance(value, Selection) and (not outcome.stored or call.fault not in _TIMELY):
            return
        received = set(outcome.stored) | set(_received(value))
    else:
        received = set(_received(value))
    if lost := expected - received:
        example = (
            f"{len(lost)} of {len(expected)}: {type(value).__name__} {str(value)[:600]} {getattr(value, 'notes', '')}"
        )
        findings.add("paid_lost", outcome, example)


def _errors(value: Selection | BaseException) -> Iterator[BaseException]:
    """Yield the error of a call, and all errors inside it."""
    waiting: list[BaseException] = (
        [failure.error for failure in value.failures] if isinstance(value, Selection) else [value]
    )
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        waiting += [*getattr(error, "causes", ()), *(one for one in (error.__cause__, error.__context__) if one)]


def _survives(error: SwiftClientError) -> bool:
    """Return whether an error can be pickled and printed."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return False
    text = str(error)
    return str(copy) == text and not any(char < " " and char not in "\n\t" for char in text) and "\x7f" not in text


def _received(value: Selection | BaseException) -> Iterator[str]:
    """Yield the references of all completions in a result, or in an error."""
    if isinstance(value, Selection):
        for candidate in value.candidates:
            yield from find_references(candidate.completion.text)
        return
    for error in _errors(value):
        for completion in getattr(error, "completions", ()):
            yield from find_references(completion.text)
        for name in ("best", "selection"):
            if isinstance(selection := getattr(error, name, None), Selection):
                yield from _received(selection)
