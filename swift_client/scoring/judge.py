"""User-supplied judges: they score completions when there are no usable logprobs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.scoring import scorers
from swift_client.scoring.result import ScoredCompletions, Scores
from swift_client.types import F32, Completion, Message

JudgeFunction = Callable[[list[Message], list[Completion]], ArrayLike | Awaitable[ArrayLike]]
"""From the question's messages and N completions to N numbers, higher is better, None or NaN for no opinion; sync (it
runs in a thread) or async."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class JudgeScores:
    """A judge's scores of the completions of one question."""

    values: F32
    """(N,) float32, NaN for no opinion."""
    name: str
    """The judge's."""


class Judge:
    """Asks a judge, whose scores replace the scorer's.

    Args:
        function: from (messages, completions) to N numbers.
        always_ask: ask for every question, and not only when nothing but texts is left.
        timeout: seconds that it may take; a sync function that takes longer is left to end in its thread.

    Raises:
        ConfigurationError: ``function`` cannot be called.
    """

    def __init__(self, function: JudgeFunction, *, always_ask: bool, timeout: float) -> None:
        if not callable(function):
            raise ConfigurationError(
                f"judge= takes a function of (messages, completions), not {type(function).__name__}.",
                hint="It returns one number per completion, higher is better.",
            )
        self._function, self._always_ask, self._timeout = function, always_ask, timeout

    async def rescore(
        self, scored: ScoredCompletions, messages: Sequence[Message], *, seconds_left: float | None
    ) -> ScoredCompletions:
        """Return the judge's scores in place of the scorer's; if it gives none, ``scored`` with a note.

        Args:
            scored: the completions as the scorer sees them.
            messages: the question.
            seconds_left: until the deadline; None: no deadline.
        """
        if not (self._always_ask or scored.signal == "text"):
            return scored
        reply = await call_judge(
            self._function, "The judge", messages, scored.completions, timeout=self._timeout, seconds_left=seconds_left
        )
        if isinstance(reply, str):
            return scored.with_rescoring_note(reply)
        return replace(scored, scores=Scores(values=reply.values, name=reply.name), vote_weights=None, signal="judge")


async def call_judge(
    function: JudgeFunction,
    label: str,
    messages: Sequence[Message],
    completions: Sequence[Completion],
    *,
    timeout: float,
    seconds_left: float | None,
) -> JudgeScores | str:
    """Ask a function of the user's about a question's completions; where it has no opinion return why, for a note.

    Args:
        function: sync (then in a thread) or async.
        who: what to call it, to begin a sentence.
        messages: the question.
        completions: what it reads, N of them.
        timeout: seconds that it may take; a sync one that takes longer is left to end in its thread.
        left: seconds until the deadline; None: none.
    """
    name = getattr(function, "__name__", type(function).__name__)
    limit = timeout if seconds_left is None else max(0.0, min(timeout, seconds_left))
    try:
        async with asyncio.timeout(limit):
            # A sync function may call a model: not on the loop.
            said = await asyncio.to_thread(function, list(messages), list(completions))
            values = await said if inspect.isawaitable(said) else said
        opinion = JudgeScores(scorers.score(completions, lambda _: values).values, name)
    except TimeoutError:
        return f"{label} took longer than {limit:.3g} s and was not heard."
    except Exception as error:  # the user's may raise anything; paid completions are not lost over it
        logger.warning("%s failed with %s", label, type(error).__name__)
        logger.debug("its error", exc_info=True)
        return f"{label} failed ({type(error).__name__}: {error}) and was not heard."
    return f"{label} had no opinion." if bool((opinion.values != opinion.values).all()) else opinion
