"""Stopping in ``best_of``: the completions so far are judged at each arrival, and a rule says whether to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from swift_client.errors import ConfigurationError
from swift_client.models import HeadArtifact
from swift_client.sampling import Abort, Aborting, Draw
from swift_client.scoring.streaming import RunningScore
from swift_client.stopping import Ballots, StoppingRule, Verdict, stopping_rule
from swift_client.types import Completion, Selection, Stopped

Stopping = str | StoppingRule | None

WAVES = (1, 1, 1, 1, 2, 2, 4)
"""How many completions are asked for at once: one by one at first, where most questions end, then more, so that hard
ones do not take sixteen turns. The last number repeats."""


def rule_of(stopping: Stopping) -> StoppingRule | None:
    """Return the rule that ``best_of(stopping=...)`` names. Raises ConfigurationError for what is none."""
    if stopping is None or isinstance(stopping, StoppingRule):
        return stopping
    if not isinstance(stopping, str):
        raise ConfigurationError(
            f"stopping= takes the name of a rule or a StoppingRule, not {type(stopping).__name__}.",
            hint='Use stopping="auto".',
        )
    return stopping_rule(stopping)


def aborting_of(abort: Abort | None, scorer: object) -> Aborting | None:
    """Return what closes a draw's streams. Raises ConfigurationError where the head is to say so and there is none."""
    if abort is None:
        return None
    if abort.by != "head":
        return Aborting(abort)
    if not isinstance(scorer, HeadArtifact):
        raise ConfigurationError(
            'abort="head" needs a head on logprobs, and none scores.', hint='Train one, or use abort="deepconf".'
        )
    return Aborting(abort, partial(RunningScore, scorer))


class Watch:
    """Asks one rule about one draw, and remembers what it said last."""

    def __init__(self, rule: StoppingRule, n: int, judge: Callable[[Sequence[Completion]], Selection]) -> None:
        self._rule, self._n, self._judge = rule, n, judge
        self._last: tuple[int, Selection, Verdict] | None = None

    async def enough(self, completions: Sequence[Completion]) -> bool:
        """Say whether the draw may end. Judging is numpy and may compare formulas: not on the loop."""
        return (await asyncio.to_thread(self._look, completions)).stop

    def _look(self, completions: Sequence[Completion]) -> Verdict:
        selection = self._judge(completions)
        verdict = self._rule(ballots(selection, n=self._n))
        self._last = len(completions), selection, verdict
        return verdict

    def judged(self, completions: Sequence[Completion]) -> Selection:
        """Return the choice among all that came: the one last looked at, where nothing came after it."""
        if self._last and self._last[0] == len(completions):
            return self._last[1]
        return self._judge(completions)

    def stopped(self, draw: Draw) -> Stopped:
        """Return why the draw ended."""
        drawn, paid = len(draw.completions), len(draw.completions) + draw.cancelled
        verdict = self._last[2] if self._last else Verdict(stop=False, posterior=None, reason="")
        ended = verdict.stop or drawn >= self._n
        left = max(0, self._n - paid) if ended else 0
        return Stopped(
            rule=str(self._rule),
            after=drawn,
            planned=self._n,
            posterior=verdict.posterior,
            reason=verdict.reason if ended else f"Only {drawn} of {self._n} completions came.",
            saved_tokens=round(draw.tokens_each * left),
        )


def ballots(selection: Selection, *, n: int) -> Ballots:
    """Return what a rule sees of a choice. Where it was no vote, answers say nothing."""
    vote = selection.method == "vote"
    candidates = [(each, each.completion.complete) for each in selection.candidates]
    calibrated = any(each.probability is not None for each in selection.candidates)
    return Ballots.of(
        [each.group if vote and whole else None for each, whole in candidates],
        n=max(n, len(candidates)),
        probabilities=[each.probability if whole else None for each, whole in candidates] if calibrated else None,
        scores=[each.score if whole else None for each, whole in candidates],
    )
