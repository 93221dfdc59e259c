"""Drift of a reranker's model: each selection is compared with the reference, and alarms change what it may claim."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.models import AnyHead
from swift_client.monitoring.alarm import Alarm
from swift_client.monitoring.guard import DriftGuard
from swift_client.monitoring.profile import with_acceptances
from swift_client.monitoring.statistics import STATISTICS
from swift_client.sampling import EarlyAbort
from swift_client.sampling.context import send_event
from swift_client.scoring.scorers import score
from swift_client.selection.select import FALLBACK_CLAUSE, FALLBACK_SCORER, Scorer, SelectionConfig
from swift_client.stopping import StoppingRule
from swift_client.types import Event, Selection

logger = logging.getLogger(__name__)


class ModelDrift:
    """The comparison of one model with its reference, and what follows from it.

    Args:
        guard: compares; it may be shared with other models.
        provider: name of the provider.
        model: name of the model.
        scorer: the reranker's scorer; scores of others are not compared.
        reads_answers: whether answers are read as they were in the reference; if not, they are not compared.
        abort: the rule that closes streams early; the completions before its first closing are compared.
        on_event: called with the alarms.
    """

    def __init__(
        self,
        guard: DriftGuard,
        provider: str,
        model: str | None,
        *,
        scorer: Scorer,
        reads_answers: bool,
        abort: EarlyAbort | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self.guard = guard
        self._provider, self._model = provider, model
        self._scorer, self._reads_answers = scorer, reads_answers
        self._abort, self._on_event = abort, on_event

    @classmethod
    def create(
        cls,
        drift: object,
        selection: SelectionConfig,
        provider: str,
        model: str | None,
        *,
        abort: EarlyAbort | None,
        on_event: Callable[[Event], None] | None,
    ) -> Self:
        """Check ``drift=`` of a reranker with these rules, whose scorer may be a head with a profile.

        Raises:
            ConfigurationError: it is not a guard or an action, or there is no reference.
        """
        scorer, profile, reads_answers = selection.scorer, None, True
        if isinstance(scorer, AnyHead):
            if scorer.drift_profile is not None:
                profile = with_acceptances(scorer.drift_profile, scorer.acceptances)
            reads_answers = scorer.training.get("answer", "auto") == selection.answer
        guard = drift if isinstance(drift, DriftGuard) else DriftGuard(drift)  # type: ignore[arg-type]  # it checks
        if guard.profile is None and profile is None:
            raise ConfigurationError(
                f"There is no reference with which the answers of {provider}/{model} could be compared.",
                hint="Train the head again: heads of today know the answers that they were trained on. Or give a "
                "DriftGuard with a profile of its own.",
            )
        if profile is not None:
            guard.watch(provider, model, profile)
        return cls(
            guard,
            provider,
            model,
            scorer=scorer,
            reads_answers=guard.profile is not None or reads_answers,
            abort=abort,
            on_event=on_event,
        )

    def adjust(self, selection: SelectionConfig) -> SelectionConfig:
        """Return the rules of a choice without the head, if it is set aside now; else the same rules."""
        drifted = self._setting_aside
        if not drifted or not isinstance(selection.scorer, AnyHead):
            return selection
        note = f"{self._describe(drifted)}, so {FALLBACK_CLAUSE}"
        return replace(selection, scorer=FALLBACK_SCORER, force_head=False, notes=(*selection.notes, note))

    @property
    def evidence(self) -> float:
        """The evidence of the statistic that has changed most, 0..1; 1 is under alarm."""
        return self.guard.evidence(self._provider, self._model)

    @property
    def scores_again(self) -> bool:
        """True if ``check()`` takes as long as scoring: the head is set aside, and only its scores can end that."""
        return bool(self._setting_aside)

    @property
    def _setting_aside(self) -> tuple[str, ...]:
        """The statistics for which the head is set aside now. Without the head no answer could be accepted again."""
        if self.guard.action != "set_aside":
            return ()
        return tuple(name for name in self.guard.drifted(self._provider, self._model) if name != "accepted")

    def check(
        self,
        selection: Selection,
        *,
        n: int,
        stopping: StoppingRule | None,
        has_schema: bool,
        fingerprints: Sequence[str],
        is_new: bool,
    ) -> Selection:
        """Compare a selection with the reference, and return it with notes and what the guard's action changes.

        Args:
            selection: the choice, with ``accepted``.
            n: the number of completions that were planned.
            stopping: the stopping rule that may have ended sampling earlier.
            has_schema: whether whole objects were compared instead of answers.
            fingerprints: models and system fingerprints that the replies name.
            is_new: whether all completions are of this call; others are not compared a second time.
        """
        if is_new and not selection.reused:
            if stopping is not None:  # it lets one completion through for every question
                n = 1
            elif self._abort is not None:
                n = min(n, self._abort.warmup)
            reads_answers = self._reads_answers and not has_schema
            alarms = self._observe(selection, n=n, reads_answers=reads_answers, fingerprints=fingerprints)
            if alarms:
                selection = _with_notes(selection, *[alarm.message for alarm in alarms])
        drifted = self.guard.drifted(self._provider, self._model)
        if not drifted:
            return selection
        if self.guard.action != "note" and selection.accepted:
            note = f"It is unknown whether the answer is accepted: {self._describe(drifted)}."
            return _with_notes(replace(selection, accepted=None), note)
        set_aside = self._setting_aside
        if set_aside and any(note.startswith(self._describe(set_aside)) for note in selection.notes):
            return selection  # a note says already why the head is set aside
        return _with_notes(selection, f"{self._describe(drifted)}.")

    def _observe(
        self, selection: Selection, *, n: int, reads_answers: bool, fingerprints: Sequence[str]
    ) -> tuple[Alarm, ...]:
        candidates = selection.candidates
        completions = [candidate.completion for candidate in candidates]
        groups = [candidate.group for candidate in candidates]
        scores: ArrayLike | None = None
        if selection.scorer == getattr(self._scorer, "name", self._scorer):
            scores = [math.nan if candidate.score is None else candidate.score for candidate in candidates]
        elif self.scores_again and isinstance(self._scorer, AnyHead):
            scores = score(completions, self._scorer, groups=groups).values
        alarms = self.guard.observe(
            completions,
            provider=self._provider,
            model=self._model,
            n=n,
            scores=scores,
            answers=groups if reads_answers else None,
            accepted=None if self._abort else selection.accepted,  # compared at another size than it was calibrated for
            fingerprints=fingerprints,
        )
        for alarm in alarms:
            self._report(alarm, len(candidates))
        return alarms

    def _report(self, alarm: Alarm, n: int) -> None:
        is_statistic = alarm.kind == "statistic"
        logger.log(logging.WARNING if is_statistic else logging.INFO, "%s", alarm.message)
        if self._on_event is None:
            return
        event = Event(
            kind="drift",
            call=0,
            n=n,
            message=alarm.message,
            provider=self._provider,
            model=self._model,
            statistic=alarm.name if is_statistic else None,
        )
        send_event(self._on_event, event)

    def _describe(self, drifted: Sequence[str]) -> str:
        labels = ", ".join(STATISTICS[name].label for name in drifted)
        name = f"{self._provider}/{self._model}" if self._model else self._provider
        return f"{name} no longer answers as in the reference ({labels})"


def _with_notes(selection: Selection, *notes: str) -> Selection:
    return replace(selection, notes=(*selection.notes, *notes))
