"""The two signatures of ``best_of``, sync and async, that clients and cascades share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, TypedDict, TypeVar, Unpack, overload

from swift_client.reranker.config import RunOptions, resolve_call
from swift_client.sampling import Budget, BudgetTracker, SampleRequest
from swift_client.sampling.sync_loop import BackgroundLoop
from swift_client.stopping.monitor import StoppingSpec
from swift_client.types import Message, Selection

T = TypeVar("T")
Run = Callable[[SampleRequest, RunOptions], Coroutine[Any, Any, Selection]]


class CallOptions(TypedDict, total=False):
    """The keyword arguments of ``best_of`` but ``response_model``, so that editors complete them."""

    min_completions: int
    deadline: float | None
    seed: int | None
    stopping: StoppingSpec
    budget: Budget | BudgetTracker | None
    on_reject: str
    reference: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    reasoning_effort: str | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    user: str | None
    extra_body: Mapping[str, Any] | None


class AsyncBestOf:
    """The signature of ``best_of`` on the caller's event loop."""

    _run: Run  # answers one question

    @overload
    async def best_of(
        self, prompt: str | Sequence[Message], n: int = 16, *, response_model: type[T], **options: Unpack[CallOptions]
    ) -> Selection[T]: ...

    @overload
    async def best_of(
        self, prompt: str | Sequence[Message], n: int = 16, *, response_model: type[T], **options: Any
    ) -> Selection[T]: ...

    @overload
    async def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Selection[Any]: ...

    @overload
    async def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Selection[Any]: ...

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
        reference: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[str, float] | None = None,
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        user: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Selection:
        """Ask ``n`` times and return the best answer; arguments and errors as ``SwiftReranker.best_of()``.

        Cancelling the task closes its connections and leaves nothing behind.
        """
        request, options = resolve_call(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed,
            stopping=stopping, budget=budget, on_reject=on_reject, response_model=response_model, reference=reference,
            sampling=sampling, extra_body=extra_body, named={
                "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": stop,
                "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty, "logit_bias": logit_bias,
                "reasoning_effort": reasoning_effort, "tools": tools, "tool_choice": tool_choice,
                "response_format": response_format, "user": user,
            },
        )  # fmt: skip
        return await self._run(request, options)


class SyncBestOf:
    """The signature of ``best_of`` for sync code, which runs on a thread with an event loop of its own."""

    _run: Run  # answers one question

    @cached_property
    def _background_loop(self) -> BackgroundLoop:  # starts its thread with the first call
        return BackgroundLoop()

    @overload
    def best_of(
        self, prompt: str | Sequence[Message], n: int = 16, *, response_model: type[T], **options: Unpack[CallOptions]
    ) -> Selection[T]: ...

    @overload
    def best_of(
        self, prompt: str | Sequence[Message], n: int = 16, *, response_model: type[T], **options: Any
    ) -> Selection[T]: ...

    @overload
    def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Selection[Any]: ...

    @overload
    def best_of(
        self,
        prompt: str | Sequence[Message],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Selection[Any]: ...

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
        reference: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[str, float] | None = None,
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        user: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Selection:
        """Ask ``n`` times and return the best answer.

        Args:
            prompt: a question, or a list of chat messages.
            n: completions to choose from, 1..1024.
            min_completions: with fewer completions than this, an error is raised.
            deadline: seconds from the call after which the best of what has arrived is returned. If the provider
                streams logprobs, calls are streamed, and answers that are finished by then count.
            seed: sent to the provider; the call that brings completion i and the following ones sends seed + i.
            stopping: sample in waves and stop when a rule says that there is enough: "auto", or another name of
                ``swift_client.stopping.STOPPING_RULES``, with parameters as in "beta:threshold=0.9". Running calls are
                cancelled; ``Selection.stopped`` has the reason, the count and the saving. None: all n at once.
            budget: what this call may spend: ``Budget(usd=0.05)``, ``Budget(tokens=4000)``, seconds, calls. Pass
                ``max_tokens`` too. If no further call fits, the best so far is returned, and ``stopped`` and
                ``notes`` say so. ``Budget(...).open()`` is a budget that many calls spend together.
            on_reject: what to do with an answer that is not accepted at the risk that the head was calibrated to
                (``swift-client calibrate``): "return" it, with ``accepted`` False; "abstain": raise RejectedError,
                which holds it; "escalate": sample the completions that a stopping rule left out, and choose again.
            response_model: a pydantic model class, or a JSON schema dict (extra "schema"), that answers have to match:
                their text, a ```json block in it, or the arguments of their one tool call. The schema is sent if the
                wire format has a field for it and the request does not set one. Completions that do not match neither
                vote nor win. Votes are for whole objects; if no two are equal, for their members. The chosen object is
                ``Selection.parsed``, and ``Selection.fields`` describes its members.
            reference: notes for the verifier's judge on this question, such as a rubric or a known good answer.
            temperature: a field of the request, as are the following ones; None: not sent.
            top_p: share of the probability that tokens are drawn from.
            max_tokens: maximum length of one answer.
            stop: texts that end an answer.
            presence_penalty: penalty of tokens that have occurred.
            frequency_penalty: penalty per occurrence of a token.
            logit_bias: bias of tokens by their id.
            reasoning_effort: "none", "low", "medium", "high", ..., as the provider knows them.
            tools: tools that the model may call.
            tool_choice: "auto", "none", "required", or the tool to call.
            response_format: format of the answer, such as ``{"type": "json_object"}``.
            user: identifies your user to the provider.
            extra_body: fields of the request that may have any name, also one that is refused in ``sampling``, such as
                OpenAI's ``store``. They win over all others.
            sampling: further fields of the request, sent to the provider unchanged: ``top_k``, ``min_p``, ... Arguments
                of the constructor and misspelled fields are refused.

        Returns:
            The choice, with every candidate, its cost (``usage``), the calls that failed, and notes on everything that
            did not go as asked.

        Raises:
            ConfigurationError: an argument is wrong; nothing was sent.
            BudgetExceededError: the budget ended before ``min_completions`` arrived; the best so far is inside.
            NoCompletionError: too few completions arrived, or none matches ``response_model``; every cause is inside.
            RejectedError: ``on_reject="abstain"``, and the answer is not accepted.
            VerificationError: the verifier is required and no judgement arrived; the choice without it is inside.
            LogprobsUnavailableError: ``require_logprobs=True`` and none come.
            ProviderError: the single cause of all failures, if no retry can help.
        """
        request, options = resolve_call(
            prompt, n, min_completions=min_completions, deadline=deadline, seed=seed,
            stopping=stopping, budget=budget, on_reject=on_reject, response_model=response_model, reference=reference,
            sampling=sampling, extra_body=extra_body, named={
                "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": stop,
                "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty, "logit_bias": logit_bias,
                "reasoning_effort": reasoning_effort, "tools": tools, "tool_choice": tool_choice,
                "response_format": response_format, "user": user,
            },
        )  # fmt: skip
        return self._background_loop.run(lambda: self._run(request, options))
