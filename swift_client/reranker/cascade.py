"""Cascades: a cheap reranker first, a stronger one only if the answer of the cheap one is not accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Self, TypeVar

from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.reranker.acceptance import (
    merge_selections,
    rejection_error,
    require_acceptance,
    require_any_acceptance,
    run_with_acceptance,
    with_note,
)
from swift_client.reranker.best_of import Run
from swift_client.reranker.best_of_many import AsyncBestOfMany, SyncBestOfMany
from swift_client.reranker.client import AsyncSwiftReranker, SwiftReranker
from swift_client.reranker.config import RunOptions
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.sampling import SampleRequest
from swift_client.types import Completion, Selection, Step
from swift_client.validation import require_int

R = TypeVar("R", bound=SwiftReranker | AsyncSwiftReranker)


@dataclass(frozen=True)
class _Member(Generic[R]):
    """One step of a cascade."""

    reranker: R
    n: int | None  # completions to draw; None: as many as ``best_of`` asks for

    @property
    def pipeline(self) -> SelectionPipeline:
        return self.reranker.pipeline

    @property
    def name(self) -> str:
        return self.pipeline.name

    def describe_step(self, n: int, outcome: Selection | SwiftClientError) -> Step:
        """Return this member's entry of ``Selection.path``."""
        step = Step(provider=self.pipeline.config.provider.name, model=self.pipeline.config.model, n=n)
        if isinstance(outcome, SwiftClientError):
            return replace(step, error=outcome)
        return replace(
            step,
            usage=outcome.usage,
            cost=outcome.cost,
            accepted=outcome.accepted,
            answer_probability=outcome.answer_probability,
        )


class _AnyCascade(Generic[R]):
    """The members of a cascade."""

    def __init__(self, kind: type[R], members: Sequence[R | tuple[R, int]]) -> None:
        """Check the members, rerankers of ``kind``; raises ConfigurationError as ``Cascade``."""
        self._members = tuple(self._create_member(kind, member) for member in members)
        self._run: Run = partial(_run_cascade, self._members)
        if len(self._members) < 2:
            raise ConfigurationError(
                f"A cascade has at least two members, not {len(self._members)}.",
                hint="Cascade([cheap, strong]), or Cascade([(reranker, 1), (reranker, 16)]).",
            )
        for member in self._members[:-1]:
            require_any_acceptance(f"In a cascade {member.name}", member.pipeline, n=member.n)

    def _create_member(self, kind: type[R], member: R | tuple[R, int]) -> _Member[R]:
        reranker, n = member if isinstance(member, tuple) and len(member) == 2 else (member, None)
        if not isinstance(reranker, kind):
            raise ConfigurationError(
                f"{type(self).__name__} takes {kind.__name__} objects, or pairs of one and its n, "
                f"not {type(reranker).__name__}."
            )
        if n is not None:
            require_int("n of a member", n, low=1)
        return _Member(reranker, n)

    @property
    def _first_pipeline(self) -> SelectionPipeline:
        return self._members[0].pipeline

    def __repr__(self) -> str:
        names = ", ".join(f"{member.name}{f' n={member.n}' if member.n else ''}" for member in self._members)
        return f"{type(self).__name__}([{names}])"


async def _run_cascade(members: Sequence[_Member[R]], request: SampleRequest, options: RunOptions) -> Selection:
    """Run the members' pipelines in turn until an answer is accepted.

    Raises:
        ConfigurationError: a member was not calibrated for this n and stopping rule; nothing was sent.
        RejectedError: ``options.on_reject`` is "abstain" and no answer is accepted.
        SwiftClientError: no member brought an answer; the last one's error.
    """
    # Every answer that may be rejected needs a calibrated head: all but the last one's, unless that is withheld too.
    n_rejecting = len(members) if options.on_reject == "abstain" else len(members) - 1
    for member in members[:n_rejecting]:
        require_acceptance(
            f"In a cascade {member.name}", member.pipeline, n=member.n or request.n, stopping=options.stopping
        )
    started = time.perf_counter()
    path: list[Step] = []
    failure_notes: list[str] = []
    best: Selection | None = None
    best_member: _Member[R] | None = None
    for member in members:
        seconds_left = None if request.deadline is None else request.deadline - (time.perf_counter() - started)
        if best and seconds_left is not None and seconds_left <= 0:
            best = with_note(best, f"The deadline left no time to ask {member.name}.")
            break
        n = member.n or request.n
        # The same reranker with a larger n: its earlier completions count.
        existing_completions: list[Completion] = []
        if best and best_member and best_member.reranker is member.reranker:
            existing_completions = [candidate.completion for candidate in best.candidates]
        member_request = replace(
            request,
            n=n,
            deadline=seconds_left and max(seconds_left, 1e-3),
            min_completions=min(request.min_completions, n),
        )
        try:
            selection = await run_with_acceptance(member.pipeline, member_request, options, existing_completions)
        except SwiftClientError as error:
            # A wrong argument is the caller's error; after any other failure the next member is asked.
            if best is None and (isinstance(error, ConfigurationError) or member is members[-1]):
                raise
            path.append(member.describe_step(n, error))
            failure_notes.append(f"{member.name} brought no answer: {error}")
            continue
        path.append(member.describe_step(n, selection))
        # Cost, failures and notes add up; the later answer replaces the earlier one.
        if best is not None:
            n_reused = selection.reused + (best.reused if existing_completions else 0)
            selection = replace(merge_selections(best, selection), reused=n_reused)
        best, best_member = selection, member
        if selection.accepted:
            break
    if best is None:  # impossible: the last member's error was raised
        raise AssertionError
    notes = (*best.notes, *failure_notes)
    best = replace(best, notes=notes, path=tuple(path), elapsed=time.perf_counter() - started)
    if options.on_reject == "abstain" and not best.accepted:
        raise rejection_error(best)
    return best


class AsyncCascade(_AnyCascade[AsyncSwiftReranker], AsyncBestOfMany):
    """Asks members in turn until an answer is accepted, on the caller's event loop; see ``Cascade``."""

    def __init__(self, members: Sequence[AsyncSwiftReranker | tuple[AsyncSwiftReranker, int]]) -> None:
        super().__init__(AsyncSwiftReranker, members)

    async def aclose(self) -> None:
        """Close the members' connections of the running event loop."""
        for member in self._members:
            await member.reranker.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class Cascade(_AnyCascade[SwiftReranker], SyncBestOfMany):
    """Asks members in turn until an answer is accepted: strong ones answer only what the cheap ones are unsure of.

    >>> cheap = SwiftReranker("openai/gpt-4.1-nano", head="nano.safetensors")  # calibrated: swift-client calibrate
    >>> strong = SwiftReranker("openai/gpt-4.1")
    >>> with Cascade([(cheap, 4), (strong, 1)]) as cascade:
    ...     selection = cascade.best_of("What is 17 * 24?")
    >>> selection.accepted, selection.path

    If a member fails, the next one is asked, or the answer of the one before is returned; ``notes`` say so.

    ``best_of()`` takes the arguments of ``SwiftReranker.best_of()``. ``n`` is for each member without its own n, and so
    are ``min_completions`` (a member with fewer has failed) and ``stopping``; ``deadline`` and ``budget`` are for all
    members together. If no answer is accepted, ``on_reject="return"`` returns the last one, and "abstain" raises
    RejectedError, which holds it. The Selection has the ``path``: the members asked, what each cost, and whether its
    answer was accepted; its usage, cost, failures and notes are those of all steps.

    Args:
        members: from cheap to strong: rerankers, or pairs of a reranker and its own n. The same reranker may come
            again with a larger n: its earlier completions count, and are not paid for again.

    Raises:
        ConfigurationError: there are fewer than two members, or a member before the last has no head that was
            calibrated to a risk (``swift-client calibrate``), without which no answer can be rejected.
    """

    def __init__(self, members: Sequence[SwiftReranker | tuple[SwiftReranker, int]]) -> None:
        super().__init__(SwiftReranker, members)

    def close(self) -> None:
        """Cancel running calls and close all members."""
        self._background_loop.close()
        for member in self._members:
            member.reranker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
