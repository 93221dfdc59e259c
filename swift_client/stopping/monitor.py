"""The stopping monitor of ``best_of``: evaluates the completions at each arrival and asks a rule whether to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import accumulate, chain, repeat, takewhile

from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead, HeadArtifact
from swift_client.sampling import AbortMonitor, EarlyAbort, SampleResult
from swift_client.scoring.result import ScoredCompletions
from swift_client.scoring.streaming import StreamingScore
from swift_client.selection.select import build_selection, select
from swift_client.stopping import StoppingRule, Verdict, Votes
from swift_client.types import Completion, Method, Selection, Stopped, completeness

StoppingSpec = str | StoppingRule | None

# Completions requested at once: one by one at first, since most questions end early, then more, so
# hard questions do not take sixteen rounds. The last number repeats.
WAVE_SIZES = (1, 1, 1, 1, 2, 2, 4)


def arrival_counts(n: int, waves: Sequence[int] = WAVE_SIZES) -> list[int]:
    """Return the numbers of completions after which a rule is asked, n last; the last wave repeats."""
    counts = accumulate(chain(waves, repeat(waves[-1])))
    return [*takewhile(lambda count: count < n, counts), n]


def create_abort_monitor(abort: EarlyAbort | None, scorer: object) -> AbortMonitor | None:
    """Return the monitor that closes one question's streams, or None without ``abort=``.

    Raises:
        ConfigurationError: ``abort="head"`` without a head on logprobs.
    """
    if abort is None:
        return None
    if abort.by != "head":
        return AbortMonitor(abort)
    if not isinstance(scorer, HeadArtifact):
        raise ConfigurationError(
            'abort="head" needs a head on logprobs, and there is none.', hint='Train one, or use abort="deepconf".'
        )
    return AbortMonitor(abort, partial(StreamingScore, scorer))


class StoppingMonitor:
    """Applies one rule to one question's completions, and keeps the last result."""

    def __init__(
        self,
        rule: StoppingRule,
        n: int,
        score: Callable[[Sequence[Completion]], Awaitable[ScoredCompletions]],
        *,
        method: Method,
        scorer: object = None,
    ) -> None:
        self._rule, self._n, self._score, self._method, self._scorer = rule, n, score, method, scorer
        self._last_evaluation: tuple[int, ScoredCompletions, Verdict] | None = None

    async def should_stop(self, completions: Sequence[Completion]) -> bool:
        """Return True if the completions are enough."""
        scored = await self._score(completions)
        verdict = await asyncio.to_thread(self._apply_rule, scored)  # numpy: not on the event loop
        self._last_evaluation = len(completions), scored, verdict
        return verdict.stop

    def _apply_rule(self, scored: ScoredCompletions) -> Verdict:
        selection = build_selection(scored, select(scored, self._method))
        groups = [candidate.group for candidate in selection.candidates]
        levels = [groups]
        # Where tools' names are voted on first, the name has to be decided, and then the calls with that name.
        if parents := scored.answers.parents:
            pairs = list(zip(parents, groups, strict=True))
            winner = parents[selection.winner]
            levels = [list(parents), [group if parent == winner else None for parent, group in pairs]]
        verdicts = [self._rule(build_votes(selection, level, n=self._n, scorer=self._scorer)) for level in levels]
        return next((verdict for verdict in verdicts if not verdict.stop), verdicts[-1])

    async def score(self, completions: Sequence[Completion]) -> ScoredCompletions:
        """Score all completions; the last evaluation did so already, unless more arrived after it."""
        if self._last_evaluation and self._last_evaluation[0] == len(completions):
            return self._last_evaluation[1]
        return await self._score(completions)

    def describe_stop(self, result: SampleResult) -> Stopped:
        """Return why sampling ended, and how many tokens that saved."""
        n_sampled = len(result.completions)
        verdict = self._last_evaluation[2] if self._last_evaluation else Verdict(stop=False, posterior=None, reason="")
        has_ended = verdict.stop or n_sampled >= self._n
        n_saved = max(0, self._n - n_sampled - result.n_cancelled) if has_ended else 0
        return Stopped(
            rule=str(self._rule),
            after=n_sampled,
            planned=self._n,
            posterior=verdict.posterior,
            reason=verdict.reason if has_ended else f"Only {n_sampled} of {self._n} completions arrived.",
            saved_tokens=round(result.mean_completion_tokens * n_saved),
        )


def build_votes(selection: Selection, groups: Sequence[int | None] | None = None, *, n: int, scorer: object) -> Votes:
    """Return a selection by ``scorer`` as input of a rule. Answers count only if the selection was made by vote.

    ``groups`` (N,) replace the candidates' groups.
    """
    is_vote = selection.method == "vote"
    complete = completeness(candidate.completion for candidate in selection.candidates)
    candidates = list(zip(selection.candidates, complete, strict=True))
    if groups is None:
        groups = [candidate.group for candidate in selection.candidates]
    votes = zip(groups, complete, strict=True)
    is_calibrated = any(candidate.probability is not None for candidate in selection.candidates)
    probabilities = [candidate.probability if complete else None for candidate, complete in candidates]
    return Votes.from_lists(
        [group if is_vote and complete else None for group, complete in votes],
        n=max(n, len(candidates)),
        probabilities=probabilities if is_calibrated else None,
        scores=[candidate.score if complete else None for candidate, complete in candidates],
        vote_weights=[candidate.weight for candidate in selection.candidates] if is_vote else None,
        beta=scorer.beta if isinstance(scorer, AnyHead) else 1.0,
        costs=scorer.stopping_costs if isinstance(scorer, AnyHead) else (),
    )
