"""The judge's rung: a function of yours that reads the answers where logprobs cannot tell them apart."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.scoring import scorers
from swift_client.types import F32, Completion, Message, Selection

JudgeFunction = Callable[[list[Message], list[Completion]], ArrayLike | Awaitable[ArrayLike]]
"""From the question's messages and N completions to N numbers, higher is better, None or NaN for no opinion; sync (it
runs in a thread) or async."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class JudgeScores:
    """What a judge said of the completions of one question; scores them as a scorer would."""

    values: F32
    """(N,) float32, NaN for no opinion."""
    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, completions: Sequence[Completion]) -> F32:
        """Return the scores; the completions are those that the judge read."""
        return self.values


class Judge:
    """Asks a judge, and does without it where it fails or takes too long.

    Args:
        judge: the function, or None.
        always: ask for every question, and not only where nothing but texts is left.
        timeout: seconds that it may take; a sync one that takes longer is left to end in its thread.

    Raises:
        ConfigurationError: ``judge`` cannot be called, or is wanted and missing.
    """

    def __init__(self, judge: JudgeFunction | None, *, always_ask: bool, timeout: float) -> None:
        if judge is not None and not callable(judge):
            raise ConfigurationError(
                f"judge= takes a function of (messages, completions), not {type(judge).__name__}.",
                hint="It returns one number a completion, higher is better.",
            )
        if always_ask and judge is None:
            raise ConfigurationError('scorer="judge" needs a judge.', hint="Pass judge=, a function of yours.")
        self._function, self._always_ask, self._timeout = judge, always_ask, timeout

    async def rescore(
        self,
        selection: Selection,
        messages: Sequence[Message],
        *,
        seconds_left: float | None,
        choose: Callable[[JudgeScores], Selection],
    ) -> Selection:
        """Return ``selection``, or what the judge's opinion makes of it.

        Args:
            selection: the choice without a judge.
            messages: the question.
            left: seconds until the deadline; None: none.
            choose: chooses among the same completions by an opinion; runs in a thread.
        """
        if self._function is None or not (self._always_ask or selection.signal == "text"):
            return selection
        read = [candidate.completion for candidate in selection.candidates]
        said = await call_judge(
            self._function, "The judge", messages, read, timeout=self._timeout, seconds_left=seconds_left
        )
        return _with_note(selection, said) if isinstance(said, str) else await asyncio.to_thread(choose, said)


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


def _with_note(selection: Selection, note: str) -> Selection:
    return replace(selection, notes=(*selection.notes, note))
