"""A second score a completion, such as a reward model's, fused with ours; where it fails or is late, ours alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from swift_client.errors import ConfigurationError
from swift_client.scoring.fusion import parse_fusion
from swift_client.scoring.judge import JudgeFunction, JudgeScores, call_judge
from swift_client.types import F32, Message, Selection


@dataclass(frozen=True, eq=False, kw_only=True)
class ExternalScores:
    """The second scores of one question's completions, and how they are fused."""

    values: F32
    """(N,) float32, higher is better, NaN for none."""
    name: str
    fuse: str
    """A row of ``fusion.FUSIONS``."""


class ExternalScorer:
    """Asks for second scores, question by question.

    Args:
        function: from (messages, completions) to N numbers, higher is better; or None.
        fuse: a row of ``fusion.FUSIONS``, as "mean" or "weighted:share=0.3".
        timeout: seconds that it may take for one question.

    Raises:
        ConfigurationError: ``function`` cannot be called, or there is no such fusion.
    """

    def __init__(self, function: JudgeFunction | None, *, fuse: str, timeout: float) -> None:
        if function is not None and not callable(function):
            raise ConfigurationError(
                f"external= takes a function of (messages, completions), not {type(function).__name__}.",
                hint="Such as adapters.reward_model.RewardModel, or a function of yours that asks a server.",
            )
        parse_fusion(fuse)
        self._function, self._fuse, self._timeout = function, fuse, timeout

    async def rescore(
        self,
        selection: Selection,
        messages: Sequence[Message],
        *,
        seconds_left: float | None,
        choose: Callable[[ExternalScores], Selection],
    ) -> Selection:
        """Return ``selection``, or the choice by the fused scores; arguments as :meth:`Bench.heard`."""
        if self._function is None:
            return selection
        who = "The external scorer"
        read = [candidate.completion for candidate in selection.candidates]
        said = await call_judge(self._function, who, messages, read, timeout=self._timeout, seconds_left=seconds_left)
        if isinstance(said, JudgeScores):
            return await asyncio.to_thread(choose, ExternalScores(values=said.values, name=said.name, fuse=self._fuse))
        return replace(selection, notes=(*selection.notes, f"{said[:-1]}: the choice is by our scores alone."))
