"""Stopping in ``best_of``: the completions so far are judged at each arrival, and a rule says whether to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from swift_client.errors import ConfigurationError
from swift_client.models import HeadArtifact
from swift_client.sampling import AbortMonitor, EarlyAbort, SampleResult
from swift_client.scoring.streaming import StreamingScore
from swift_client.stopping import StoppingRule, Verdict, Votes, stopping_rule
from swift_client.types import Completion, Selection, Stopped

StoppingSpec = str | StoppingRule | None

WAVE_SIZES = (1, 1, 1, 1, 2, 2, 4)
"""How many completions are asked for at once: one by one at first, where most questions end, then more, so that hard
ones do not take sixteen turns. The last number repeats."""


def resolve_rule(stopping: StoppingSpec) -> StoppingRule | None:
    """Return the rule that ``best_of(stopping=...)`` names. Raises ConfigurationError for what is none."""
    if stopping is None or isinstance(stopping, StoppingRule):
        return stopping
    if not isinstance(stopping, str):
        raise ConfigurationError(
            f"stopping= takes the name of a rule or a StoppingRule, not {type(stopping).__name__}.",
            hint='Use stopping="auto".',
        )
    return stopping_rule(stopping)


def create_abort_monitor(abort: EarlyAbort | None, scorer: object) -> AbortMonitor | None:
    """Return what closes a draw's streams. Raises ConfigurationError where the head is to say so and there is none."""
    if abort is None:
        return None
    if abort.by != "head":
        return AbortMonitor(abort)
    if not isinstance(scorer, HeadArtifact):
        raise ConfigurationError(
            'abort="head" needs a head on logprobs, and none scores.', hint='Train one, or use abort="deepconf".'
        )
    return AbortMonitor(abort, partial(StreamingScore, scorer))


class StoppingMonitor:
    """Asks one rule about one draw, and remembers what it said last."""

    def __init__(self, rule: StoppingRule, n: int, select: Callable[[Sequence[Completion]], Selection]) -> None:
        self._rule, self._n, self._select = rule, n, select
        self._last_evaluation: tuple[int, Selection, Verdict] | None = None

    async def should_stop(self, completions: Sequence[Completion]) -> bool:
        """Say whether the draw may end. Judging is numpy and may compare formulas: not on the loop."""
        return (await asyncio.to_thread(self._evaluate, completions)).stop

    def _evaluate(self, completions: Sequence[Completion]) -> Verdict:
        selection = self._select(completions)
        verdict = self._rule(build_votes(selection, n=self._n))
        self._last_evaluation = len(completions), selection, verdict
        return verdict

    def select(self, completions: Sequence[Completion]) -> Selection:
        """Return the choice among all that came: the one last looked at, where nothing came after it."""
        if self._last_evaluation and self._last_evaluation[0] == len(completions):
            return self._last_evaluation[1]
        return self._select(completions)

    def describe_stop(self, result: SampleResult) -> Stopped:
        """Return why the draw ended."""
        drawn, paid = len(result.completions), len(result.completions) + result.n_cancelled
        verdict = self._last_evaluation[2] if self._last_evaluation else Verdict(stop=False, posterior=None, reason="")
        ended = verdict.stop or drawn >= self._n
        left = max(0, self._n - paid) if ended else 0
        return Stopped(
            rule=str(self._rule),
            after=drawn,
            planned=self._n,
            posterior=verdict.posterior,
            reason=verdict.reason if ended else f"Only {drawn} of {self._n} completions came.",
            saved_tokens=round(result.mean_completion_tokens * left),
        )


def build_votes(selection: Selection, *, n: int) -> Votes:
    """Return what a rule sees of a choice. Where it was no vote, answers say nothing."""
    vote = selection.method == "vote"
    candidates = [(each, each.completion.complete) for each in selection.candidates]
    calibrated = any(each.probability is not None for each in selection.candidates)
    return Votes.from_lists(
        [each.group if vote and whole else None for each, whole in candidates],
        n=max(n, len(candidates)),
        probabilities=[each.probability if whole else None for each, whole in candidates] if calibrated else None,
        scores=[each.score if whole else None for each, whole in candidates],
    )
