"""The two faces, async and sync, over one implementation."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from swift_client.reranker.cost import resolve_budget
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.sampling import Budget, BudgetTracker, create_sample_request
from swift_client.stopping.monitor import StoppingSpec, resolve_rule
from swift_client.structured.schema import create_response_schema
from swift_client.types import Message, Selection


class AsyncSwiftReranker(SelectionPipeline):
    """Best-of-N on the caller's event loop; the arguments are those of the base class.

    One instance may serve many tasks, and several loops one after another or at once. Use it as
    ``async with AsyncSwiftReranker("openai") as reranker:``, or call :meth:`aclose` at the end.
    """

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
        """Ask ``n`` times and return the best answer; arguments and errors as :meth:`SwiftReranker.best_of`.

        Cancelling the task closes its connections and leaves nothing behind.
        """
        question = create_sample_request(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed, sampling=sampling
        )
        rule, account = resolve_rule(stopping), resolve_budget(budget)
        return await self._run(question, rule, account, on_reject, create_response_schema(response_model))

    async def aclose(self) -> None:
        """Close the connections that were opened on the running loop."""
        await self._transports.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class SwiftReranker(SelectionPipeline):
    """Best-of-N for sync code: scripts, notebooks, handlers, threads; the arguments are those of the base class.

    One instance may serve many threads. It starts a daemon thread of its own with the first call, also after a fork,
    and ends it with :meth:`close`, with the ``with`` block, or at exit.
    """

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
        """Ask ``n`` times and return the best answer.

        Args:
            prompt: a question, or a list of chat messages.
            n: completions to choose from, 1..1024.
            min_completions: with fewer than these an error is raised instead.
            deadline: seconds from the call after which the best of what has arrived is returned. Calls are then
                streamed where the provider streams logprobs, so that answers which are finished by then count.
            seed: sent to the provider; the call that brings completion i and the following ones sends seed + i.
            stopping: draw in waves and end where a rule says that there is enough: "auto", or another row of
                ``swift_client.stopping.STOPPING_RULES``, with parameters as in "beta:threshold=0.9". Calls under way
                are cancelled; ``Selection.stopped`` says why, after how many, and what that saved. None: all n at once.
            budget: what this call may spend: ``Budget(usd=0.05)``, ``Budget(tokens=4000)``, seconds, calls. Give
                ``max_tokens`` with it. Where no further call fits, the best so far is returned, and ``stopped`` and
                ``notes`` say so. ``Budget(...).open()`` is a budget that many calls spend together.
            on_reject: what to do with an answer that is not accepted at the risk which the head was calibrated to
                (``swift-client calibrate``): "return" it, ``accepted`` being False; "abstain": raise RejectedError,
                which holds it; "escalate": draw the completions that a stopping rule left out, and choose again.
            response_model: a pydantic model class, or a JSON schema dict (extra "schema"), that answers have to fit:
                their text, a ```json block in it, or the arguments of their one tool call. The provider is told
                where its wire format has a field for it, and ``sampling`` has no such field of yours. What does not
                fit does not vote and does not win; the vote is over whole objects, and where no two are equal, over
                their members. The choice is ``Selection.parsed``, and ``Selection.fields`` tells of its members.
            sampling: further fields of the request, sent to the provider untouched: ``temperature``, ``max_tokens``,
                ``stop``, ...

        Returns:
            The choice, with every candidate, what it cost (``usage``), which calls failed, and notes on all that did
            not go as asked.

        Raises:
            ConfigurationError: a wrong argument; nothing was sent.
            BudgetExceededError: the budget ended before ``min_completions`` came; the best so far is inside.
            NoCompletionError: too few completions came, or none fits ``response_model``; every cause is inside.
            RejectedError: ``on_reject="abstain"``, and the answer is not accepted.
            LogprobsUnavailableError: ``require_logprobs=True`` and none come.
            ProviderError: the only cause of all failures, where no retry can help.
        """
        question = create_sample_request(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed, sampling=sampling
        )
        rule, account, shape = resolve_rule(stopping), resolve_budget(budget), create_response_schema(response_model)
        return self._background_loop.run(lambda: self._run(question, rule, account, on_reject, shape))

    def close(self) -> None:
        """Cancel what runs, close the connections and end the thread."""
        self._background_loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
