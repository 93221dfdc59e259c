"""External scores, such as a reward model's, fused with the scorer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.scoring.fusion import fuse, parse_fusion
from swift_client.scoring.judge import JudgeFunction, call_judge
from swift_client.scoring.result import ScoredCompletions
from swift_client.types import Message


class ExternalScorer:
    """Asks for a second score per completion and fuses it with the first.

    Args:
        function: from (messages, completions) to N numbers, higher is better.
        fusion: a row of ``fusion.FUSIONS``, such as "mean" or "weighted:share=0.3".
        timeout: seconds that it may take for one question.

    Raises:
        ConfigurationError: ``function`` cannot be called, or there is no such fusion.
    """

    def __init__(self, function: JudgeFunction, *, fusion: str, timeout: float) -> None:
        if not callable(function):
            raise ConfigurationError(
                f"external= takes a function of (messages, completions), not {type(function).__name__}.",
                hint="Such as adapters.reward_model.RewardModel, or your own function that asks a server.",
            )
        parse_fusion(fusion)
        self._function, self._fusion, self._timeout = function, fusion, timeout

    async def rescore(
        self, scored: ScoredCompletions, messages: Sequence[Message], *, seconds_left: float | None
    ) -> ScoredCompletions:
        """Return the fused scores, 0..1, which weigh votes too; without external scores, ``scored`` with a note.

        Probabilities stay those of the head. Arguments as :meth:`.Judge.rescore`.
        """
        reply = await call_judge(
            self._function,
            "The external scorer",
            messages,
            scored.completions,
            timeout=self._timeout,
            seconds_left=seconds_left,
        )
        if isinstance(reply, str):
            return scored.with_rescoring_note(f"{reply[:-1]}: the choice is by our scores alone.")
        scores = scored.scores
        fused = fuse(scores.values.astype(np.float64), reply.values.astype(np.float64), self._fusion).astype(np.float32)
        name = f"{scores.name} + {reply.name} ({self._fusion})"
        return replace(scored, scores=replace(scores, values=fused, name=name), vote_weights=fused)
