"""User-supplied judges and external scorers, which replace a scorer's scores or are fused with them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from swift_client.adapters.user_threads import UserThreads
from swift_client.errors import ConfigurationError
from swift_client.scoring import scorers
from swift_client.scoring.fusion import fuse, parse_fusion
from swift_client.scoring.result import ScoredCompletions, Scores
from swift_client.types import Completion, Message

# From the question's messages and N completions to N numbers, higher is better, None or NaN for no
# score. It may be sync (then it runs in a thread) or async.
JudgeFunction = Callable[[list[Message], list[Completion]], ArrayLike | Awaitable[ArrayLike]]

logger = logging.getLogger(__name__)

MIN_FUSED_WEIGHT = 1e-3  # smallest weight of a vote by fused scores, also without any score


class Judge:
    """A judge, whose scores replace the scorer's.

    Args:
        function: from (messages, completions) to N numbers.
        always_ask: call it for every question, not only if there are no usable logprobs.
        timeout: seconds per question, the wait for a free thread included; a sync function that takes longer is left
            to end in its thread.

    Raises:
        ConfigurationError: ``function`` cannot be called.
    """

    def __init__(self, function: JudgeFunction, *, always_ask: bool, timeout: float) -> None:
        _check_callable(function, "judge", hint="It returns one number per completion, higher is better.")
        self._function, self._always_ask, self._timeout = function, always_ask, timeout
        self._threads = UserThreads()

    async def rescore(
        self, scored: ScoredCompletions, messages: Sequence[Message], *, seconds_left: float | None
    ) -> ScoredCompletions:
        """Return the judge's scores in place of the scorer's; if it returns none, ``scored`` with a note.

        Args:
            scored: the completions with the scorer's scores.
            messages: the question.
            seconds_left: seconds until the deadline; None: no deadline.
        """
        if not (self._always_ask or scored.signal == "text"):
            return scored
        scores = await call_judge(
            self._function,
            "The judge",
            messages,
            scored.completions,
            threads=self._threads,
            timeout=self._timeout,
            seconds_left=seconds_left,
        )
        if isinstance(scores, str):
            return scored.with_rescoring_note(scores)
        return replace(scored, scores=scores, vote_weights=None, vote_note=None, signal="judge")


class ExternalScorer:
    """A second scorer, such as a reward model, whose scores are fused with the first one's.

    Args:
        function: from (messages, completions) to N numbers, higher is better.
        fusion: a row of ``fusion.FUSIONS``, such as "mean" or "weighted:share=0.3".
        timeout: seconds per question.

    Raises:
        ConfigurationError: ``function`` cannot be called, or the fusion is unknown.
    """

    def __init__(self, function: JudgeFunction, *, fusion: str, timeout: float) -> None:
        hint = "Use adapters.reward_model.RewardModel, or your own function that calls a server."
        _check_callable(function, "external", hint=hint)
        parse_fusion(fusion)
        self._function, self._fusion, self._timeout = function, fusion, timeout
        self._threads = UserThreads()

    async def rescore(
        self, scored: ScoredCompletions, messages: Sequence[Message], *, seconds_left: float | None
    ) -> ScoredCompletions:
        """Return the fused scores, 0..1, which weigh votes too; without external scores, ``scored`` with a note.

        Probabilities stay those of the head. Arguments as ``Judge.rescore()``.
        """
        label, completions = "The external scorer", scored.completions
        external = await call_judge(
            self._function,
            label,
            messages,
            completions,
            threads=self._threads,
            timeout=self._timeout,
            seconds_left=seconds_left,
        )
        if isinstance(external, str):
            return scored.with_rescoring_note(f"{external[:-1]}: the choice uses our scores only.")
        scores = scored.scores
        fused = fuse(scores.values.astype(np.float64), external.values.astype(np.float64), self._fusion)
        values = fused.astype(np.float32)
        name = f"{scores.name} + {external.name} ({self._fusion})"
        weights = np.fmax(fused, MIN_FUSED_WEIGHT)
        new_scores = replace(scores, values=values, name=name)
        return replace(scored, scores=new_scores, vote_weights=weights, vote_note=None)


def _check_callable(function: object, argument: str, *, hint: str) -> None:
    if not callable(function):
        name = type(function).__name__
        raise ConfigurationError(f"{argument}= takes a function of (messages, completions), not {name}.", hint=hint)


async def call_judge(
    function: JudgeFunction,
    label: str,
    messages: Sequence[Message],
    completions: Sequence[Completion],
    *,
    threads: UserThreads,
    timeout: float,
    seconds_left: float | None,
) -> Scores | str:
    """Call a user-supplied function on a question's completions; return its scores, or a note if it returns none.

    Args:
        function: sync (then in a thread) or async.
        label: its name at the start of the note.
        messages: the question.
        completions: N completions.
        threads: the threads of sync functions.
        timeout: seconds that it may take, the wait for a free thread included; a sync function that takes longer is
            left to end in its thread.
        seconds_left: seconds until the deadline; None: no deadline.
    """
    limit = timeout if seconds_left is None else max(0.0, min(timeout, seconds_left))
    try:
        async with asyncio.timeout(limit):
            # A sync function may call a model and must not block the event loop.
            result = await threads.call(function, list(messages), list(completions))
            values = await result if inspect.isawaitable(result) else result
        scores = scorers.score(completions, lambda _: values)
    except TimeoutError:
        return f"{label} took longer than {limit:.3g} s and was ignored."
    except Exception as error:  # a user's function may raise anything; paid completions must not be lost for it
        logger.warning("%s failed with %s", label, type(error).__name__)
        logger.debug("its error", exc_info=True)
        return f"{label} failed ({type(error).__name__}: {error}) and was ignored."
    if np.isnan(scores.values).all():
        return f"{label} returned no scores."
    return replace(scores, name=getattr(function, "__name__", type(function).__name__))
