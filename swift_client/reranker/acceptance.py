"""Whether a choice may be taken without a look: how sure it is, against the threshold that lies in the head.

``swift-client calibrate`` learned the threshold on labelled questions that were asked and judged in one way; for any
other way it says nothing, and neither does this.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swift_client.errors import ConfigurationError, RejectedError, SwiftClientError
from swift_client.models import Acceptance, AnyHead
from swift_client.reranker.config import RunOptions
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.sampling import SampleRequest
from swift_client.selection.select import SelectionConfig
from swift_client.selection.voting import MIN_WEIGHT
from swift_client.stopping import StoppingRule, vote_log_odds
from swift_client.stopping.monitor import build_votes
from swift_client.types import Completion, Selection

HARD_QUESTION_NOTE = (
    "The stated risk was measured on all questions, and this one was picked for being hard: among such, more of the "
    "accepted answers may be wrong."
)
"""The note on an answer that was accepted after an earlier one was not."""


async def run_with_acceptance(
    pipeline: SelectionPipeline,
    request: SampleRequest,
    options: RunOptions,
    existing_completions: Sequence[Completion] = (),
) -> Selection:
    """Run the pipeline and decide whether its answer is accepted."""
    selection = await pipeline.run(request, options, existing_completions)
    return await asyncio.to_thread(
        with_acceptance, selection, pipeline.config.selection, n=request.n, stopping=options.stopping
    )


async def run_with_escalation(pipeline: SelectionPipeline, request: SampleRequest, options: RunOptions) -> Selection:
    """Run the pipeline, and do with an answer that is not accepted what ``options.on_reject`` says.

    Raises:
        ConfigurationError: ``on_reject`` cannot be done; nothing was sent.
        RejectedError: ``on_reject`` is "abstain" and the answer is not accepted.
    """
    on_reject = options.on_reject
    if on_reject == "escalate" and options.stopping is None:
        raise ConfigurationError(
            'on_reject="escalate" has nothing left to ask: all n completions are drawn anyway.',
            hint='Pass stopping="auto" too, or ask a stronger model: Cascade([reranker, stronger]).',
        )
    if on_reject != "return":
        require_acceptance(
            f'on_reject="{on_reject}"', pipeline.config.selection, n=request.n, stopping=options.stopping
        )
    selection = await run_with_acceptance(pipeline, request, options)
    if on_reject == "return" or selection.accepted:
        return selection
    if on_reject == "abstain":
        raise rejection_error(selection)
    return await _draw_the_rest(pipeline, request, options, selection)


async def _draw_the_rest(
    pipeline: SelectionPipeline, request: SampleRequest, options: RunOptions, selection: Selection
) -> Selection:
    """Draw the completions that a stopping rule left out and choose again; if that fails, return ``selection``."""
    completions = [candidate.completion for candidate in selection.candidates]
    if len(completions) >= request.n:
        return selection
    seconds_left = None if request.deadline is None else request.deadline - selection.elapsed
    if seconds_left is not None and seconds_left <= 0:
        return with_note(selection, "The answer was not accepted, and the deadline left no time to draw the others.")
    try:
        new_selection = await run_with_acceptance(
            pipeline, replace(request, deadline=seconds_left), replace(options, stopping=None), completions
        )
    except SwiftClientError as error:
        return with_note(selection, f"The answer was not accepted, and drawing the others failed: {error}")
    note = f"The answer of {len(completions)} completions was not accepted: the others were drawn."
    return merge_selections(with_note(selection, note), new_selection)


def merge_selections(previous_selection: Selection, new_selection: Selection) -> Selection:
    """Return the new selection with the cost, failures and notes of both."""
    costs = previous_selection.cost, new_selection.cost
    notes = (*previous_selection.notes, *new_selection.notes)
    if new_selection.accepted:
        notes = (*notes, HARD_QUESTION_NOTE)
    return replace(
        new_selection,
        usage=previous_selection.usage + new_selection.usage,
        cost=None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        failures=(*previous_selection.failures, *new_selection.failures),
        notes=tuple(dict.fromkeys(notes)),
        reused=previous_selection.reused + new_selection.reused,
        elapsed=previous_selection.elapsed + new_selection.elapsed,
    )


def with_note(selection: Selection, note: str) -> Selection:
    """Return the selection with one more note."""
    return replace(selection, notes=(*selection.notes, note))


def rejection_error(selection: Selection) -> RejectedError:
    """Return the error for an answer that is withheld."""
    reason = "is not sure enough for the calibrated risk" if selection.accepted is False else "cannot be judged"
    last_note = "" if selection.accepted is False or not selection.notes else f" {selection.notes[-1]}"
    return RejectedError(
        f"The best of {len(selection.candidates)} answers {reason}.{last_note}",
        selection=selection,
        hint="It is in the error's .selection; ask a person, or a stronger model (Cascade).",
    )


def answer_log_odds(selection: Selection) -> float | None:
    """Return the natural log odds that the chosen answer is right; None where the head has no probability for it.

    Each vote with probability c adds log((K - 1) c / (1 - c)) to its answer, K being the answers given and one more
    for all others (CGES, arXiv 2511.02603, as ``stopping.weights.posterior``); the sum of the chosen answer stands
    against those of all others. It grows with the number of votes that agree, unlike their mean probability, and
    with what the head says of them, unlike their share. Of a choice without a vote, log(c / (1 - c)) of the chosen one.
    """
    if selection.probability is None:
        return None
    if selection.method == "best":
        chance = min(max(selection.probability, MIN_WEIGHT), 1 - MIN_WEIGHT)
        return math.log(chance / (1 - chance))
    seen = build_votes(selection, n=len(selection.candidates))
    sums = seen.totals(vote_log_odds(seen, clip=MIN_WEIGHT))[0]
    others = np.where(seen.totals()[0] > 0, sums, -np.inf)
    chosen = seen.answers[0, selection.winner]
    others[chosen] = 0.0  # that none of the answers given is right
    return float(sums[chosen] - np.logaddexp.reduce(others))


def find_acceptance(config: SelectionConfig, *, n: int, stopping: StoppingRule | None) -> Acceptance | None:
    """Return what the head was calibrated to for questions that are asked and judged so; None where it was not."""
    if not isinstance(config.scorer, AnyHead):
        return None
    rule = None if stopping is None else str(stopping)
    for each in config.scorer.acceptances:
        drawn_alike = each.n == n and (each.stopping == rule or n == 1)  # of one there is nothing to stop
        if drawn_alike and (each.select, each.answer) == (config.select, _answer_name(config)):
            return each
    return None


def with_acceptance(
    selection: Selection, config: SelectionConfig, *, n: int, stopping: StoppingRule | None = None
) -> Selection:
    """Return the choice with ``accepted`` filled in, and a note where the head's acceptance says nothing of it."""
    head = config.scorer
    if not isinstance(head, AnyHead) or not head.acceptances or selection.scorer != head.name:
        return selection
    found = find_acceptance(config, n=n, stopping=stopping)
    came = len(selection.candidates)
    if found is None:
        why = f"was calibrated for {_describe_acceptances(head)}, not for {_describe_settings(n, stopping, config)}"
    elif came != n and not (stopping and came < n and stopping(build_votes(selection, n=n)).stop):
        why = f"was calibrated for {n} completions and {came} came"
    else:
        sure = answer_log_odds(selection)
        return replace(selection, accepted=sure is not None and sure >= found.threshold)
    return replace(selection, notes=(*selection.notes, f"Accepted or not is unknown: {head.name} {why}."))


def require_acceptance(purpose: str, config: SelectionConfig, *, n: int, stopping: StoppingRule | None) -> None:
    """Raise ConfigurationError where nothing could be rejected for want of a calibration."""
    if find_acceptance(config, n=n, stopping=stopping):
        return
    head = config.scorer
    if not isinstance(head, AnyHead):
        why = "there is none"
    elif head.acceptances:
        why = f"{head.name} was calibrated for {_describe_acceptances(head)}, not for {_describe_settings(n, stopping, config)}"
    else:
        why = f"{head.name} was not"
    raise ConfigurationError(
        f"{purpose} needs a head that was calibrated to a risk: {why}.",
        hint=f"Run `swift-client calibrate HEAD SAMPLES --risk 0.05 --n {n}{_stopping_option(stopping)}` and give that head.",
    )


def require_any_acceptance(purpose: str, config: SelectionConfig, *, n: int | None) -> None:
    """Raise ConfigurationError where the head was calibrated for no way of asking with ``n``, None being any."""
    head = config.scorer
    if not isinstance(head, AnyHead) or not any(n in (None, each.n) for each in head.acceptances):
        require_acceptance(purpose, config, n=n or 16, stopping=None)


def _describe_acceptances(head: AnyHead) -> str:
    return " or ".join(_format_settings(each.n, each.stopping, each.select, each.answer) for each in head.acceptances)


def _describe_settings(n: int, stopping: StoppingRule | None, config: SelectionConfig) -> str:
    return _format_settings(n, None if stopping is None else str(stopping), config.select, _answer_name(config))


def _answer_name(config: SelectionConfig) -> str | None:
    return config.answer if config.answer is None or isinstance(config.answer, str) else "custom"


def _format_settings(n: int, stopping: str | None, select: str, answer: str | None) -> str:
    return f"n={n}, stopping={stopping}, select={select}, answer={answer}"


def _stopping_option(stopping: StoppingRule | None) -> str:
    return "" if stopping is None else f" --stopping {stopping}"
