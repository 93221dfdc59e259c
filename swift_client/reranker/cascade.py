"""A cheap reranker first, a strong one only where the cheap answer is not accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, get_args

from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.reranker.acceptance import OnReject, require_acceptance, require_any_acceptance
from swift_client.reranker.client import AsyncSwiftReranker, SwiftReranker
from swift_client.reranker.cost import resolve_budget
from swift_client.reranker.escalation import merge_selections, rejection_error, with_note
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.reranker.sync_loop import BackgroundLoop
from swift_client.sampling import Budget, BudgetTracker, SampleRequest, create_sample_request
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import StoppingSpec, resolve_rule
from swift_client.structured.schema import ResponseSchema, create_response_schema
from swift_client.types import Message, Selection, Step
from swift_client.validation import require_int

R = TypeVar("R", bound=SelectionPipeline)


@dataclass(frozen=True)
class _Member(Generic[R]):
    reranker: R
    n: int | None
    """Completions to draw; None: as many as ``best_of`` is asked for."""

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.reranker._provider.name, self.reranker._model)))


class _Cascade(Generic[R]):
    """What both faces share.

    Args:
        members: from cheap to strong: rerankers, or pairs of a reranker and its own n. The same reranker may come
            again with a larger n: then the completions that there are count, and are not paid again.

    Raises:
        ConfigurationError: fewer than two members, or one but the last has a head that was not calibrated to a risk
            (``swift-client calibrate``), so that none of its answers could be rejected.
    """

    _member_type: type[R]

    def __init__(self, members: Sequence[R | tuple[R, int]]) -> None:
        self._members = tuple(self._parse_member(each) for each in members)
        if len(self._members) < 2:
            raise ConfigurationError(
                f"A cascade has at least two members, not {len(self._members)}.",
                hint="Cascade([cheap, strong]), or Cascade([(reranker, 1), (reranker, 16)]).",
            )
        for member in self._members[:-1]:
            require_any_acceptance(_purpose(member), member.reranker._selection_config, n=member.n)

    def _parse_member(self, member: R | tuple[R, int]) -> _Member[R]:
        reranker, n = member if isinstance(member, tuple) and len(member) == 2 else (member, None)
        if not isinstance(reranker, self._member_type):
            raise ConfigurationError(
                f"{type(self).__name__} takes {self._member_type.__name__} objects, or pairs of one and its n, "
                f"not {type(reranker).__name__}."
            )
        if n is not None:
            require_int("n of a member", n, low=1)
        return _Member(reranker, n)

    def _check_members(self, sample_request: SampleRequest, rule: StoppingRule | None, on_reject: str) -> None:
        """Raise ConfigurationError for what cannot be done, before anything is sent."""
        if on_reject not in get_args(OnReject):
            raise ConfigurationError(
                f"on_reject={on_reject!r} is unknown.", hint='Use "return", "abstain" or "escalate".'
            )
        last = len(self._members) - (on_reject != "abstain")
        for member in self._members[:last]:
            require_acceptance(
                _purpose(member), member.reranker._selection_config, n=member.n or sample_request.n, stopping=rule
            )

    async def _run(
        self,
        sample_request: SampleRequest,
        rule: StoppingRule | None,
        tracker: BudgetTracker | None,
        on_reject: str,
        response_schema: ResponseSchema | None,
    ) -> Selection:
        self._check_members(sample_request, rule, on_reject)
        started = time.perf_counter()
        path: list[Step] = []
        best: Selection | None = None
        source: R | None = None
        lost: list[tuple[_Member[R], SwiftClientError]] = []
        for member in self._members:
            left = (
                None if sample_request.deadline is None else sample_request.deadline - (time.perf_counter() - started)
            )
            if best and left is not None and left <= 0:
                best = with_note(best, f"The deadline left no time to ask {member.name}.")
                break
            n = member.n or sample_request.n
            begun = [each.completion for each in best.candidates] if best and member.reranker is source else []
            ordered = replace(
                sample_request,
                n=n,
                deadline=left and max(left, 1e-3),
                min_completions=min(sample_request.min_completions, n),
            )
            try:
                came = await member.reranker._select_with_schema(
                    ordered, rule, tracker, begun, response_schema=response_schema
                )
            except SwiftClientError as error:
                if best is None and (isinstance(error, ConfigurationError) or member is self._members[-1]):
                    raise
                path.append(_step(member, n, error=error))
                lost.append((member, error))
                continue
            path.append(_step(member, n, came))
            if best is not None:
                came = replace(merge_selections(best, came), reused=came.reused + (best.reused if begun else 0))
            source, best = member.reranker, came
            if came.accepted:
                break
        if best is None:  # the last member's error was raised
            raise AssertionError
        for member, cause in lost:
            best = with_note(best, f"{member.name} brought no answer: {cause}")
        best = replace(best, path=tuple(path), elapsed=time.perf_counter() - started)
        if on_reject == "abstain" and not best.accepted:
            raise rejection_error(best)
        return best

    def __repr__(self) -> str:
        members = ", ".join(f"{each.name}{f' n={each.n}' if each.n else ''}" for each in self._members)
        return f"{type(self).__name__}([{members}])"


def _purpose(member: _Member[R]) -> str:
    return f"In a cascade {member.name}"


def _step(
    member: _Member[R], n: int, selection: Selection | None = None, error: SwiftClientError | None = None
) -> Step:
    step = Step(provider=member.reranker._provider.name, model=member.reranker._model, n=n, error=error)
    if selection is None:
        return step
    return replace(
        step,
        usage=selection.usage,
        cost=selection.cost,
        accepted=selection.accepted,
        answer_probability=selection.answer_probability,
    )


class AsyncCascade(_Cascade[AsyncSwiftReranker]):
    """Asks members in turn until an answer is accepted, on the caller's event loop; see :class:`Cascade`."""

    _member_type = AsyncSwiftReranker

    async def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        min_completions: int = 1,
        deadline: float | None = None,
        seed: int | None = None,
        stopping: StoppingSpec = None,
        budget: Budget | BudgetTracker | None = None,
        on_reject: str = "return",
        response_model: object | None = None,
        **sampling: Any,
    ) -> Selection:
        """Return the first accepted answer, else the last; arguments and errors as :meth:`Cascade.best_of`."""
        question = create_sample_request(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed, sampling=sampling
        )
        rule, account = resolve_rule(stopping), resolve_budget(budget)
        return await self._run(question, rule, account, on_reject, create_response_schema(response_model))

    async def aclose(self) -> None:
        """Close the members' connections that were opened on the running loop."""
        for member in self._members:
            await member.reranker.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Cascade(_Cascade[SwiftReranker]):
    """Asks members in turn until an answer is accepted: the strong ones answer only what the cheap ones are unsure of.

    >>> cheap = SwiftReranker("openai/gpt-4.1-nano", head="nano.safetensors")  # calibrated: swift-client calibrate
    >>> strong = SwiftReranker("openai/gpt-4.1")
    >>> with Cascade([(cheap, 4), (strong, 1)]) as cascade:
    ...     selection = cascade.best_of("What is 17 * 24?")
    >>> selection.accepted, selection.path

    A member that fails costs no answer that has come: the one before is returned, and ``notes`` say so. The arguments
    are those of the base class.
    """

    _member_type = SwiftReranker

    def __init__(self, members: Sequence[SwiftReranker | tuple[SwiftReranker, int]]) -> None:
        super().__init__(members)
        self._background_loop = BackgroundLoop()  # starts nothing before its first call

    def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        min_completions: int = 1,
        deadline: float | None = None,
        seed: int | None = None,
        stopping: StoppingSpec = None,
        budget: Budget | BudgetTracker | None = None,
        on_reject: str = "return",
        response_model: object | None = None,
        **sampling: Any,
    ) -> Selection:
        """Return the first accepted answer, else that of the last member; arguments as :meth:`SwiftReranker.best_of`.

        Args:
            prompt: a question, or a list of chat messages.
            n: completions of each member that has no n of its own.
            min_completions: with fewer than these a member has failed.
            deadline: seconds for all members together; the best of what has arrived is returned.
            seed: sent to the providers.
            stopping: for each member.
            budget: what all members may spend together.
            on_reject: "return" the last answer where none is accepted; "abstain": raise RejectedError, which holds it.
                "escalate" is what a cascade does anyway.
            response_model: as of :meth:`SwiftReranker.best_of`; a member whose answers do not fit has failed.
            sampling: further fields of the requests.

        Returns:
            The choice, with ``path``: who was asked, at what cost, and whether the answer was accepted. ``usage``,
            ``cost``, ``failures`` and ``notes`` are those of all steps.

        Raises:
            ConfigurationError: a wrong argument, or a member was not calibrated for this n; nothing was sent.
            RejectedError: ``on_reject="abstain"``, and no answer is accepted.
            SwiftClientError: no member brought an answer; what the last one said.
        """
        question = create_sample_request(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed, sampling=sampling
        )
        rule, account, shape = resolve_rule(stopping), resolve_budget(budget), create_response_schema(response_model)
        return self._background_loop.run(lambda: self._run(question, rule, account, on_reject, shape))

    def close(self) -> None:
        """Cancel what runs, and close all members."""
        self._background_loop.close()
        for member in self._members:
            member.reranker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
