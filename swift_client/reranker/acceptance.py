"""Acceptance: decide whether an answer is sure enough, and handle one that is not.

The threshold comes from the head: ``swift-client calibrate`` learned it on labelled questions for one number of
completions, stopping rule and way to choose. For other settings it says nothing, and neither does this module.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from swift_client.errors import ConfigurationError, RejectedError, SwiftClientError
from swift_client.models import Acceptance, AnyHead
from swift_client.models.resolve_head import ResolvedHead
from swift_client.pricing import add_costs
from swift_client.reranker.config import RunOptions
from swift_client.reranker.pipeline import Outcome, SelectionPipeline
from swift_client.sampling import SampleRequest
from swift_client.selection.select import SelectionConfig
from swift_client.selection.voting import MIN_WEIGHT
from swift_client.stopping import StoppingRule
from swift_client.stopping.monitor import build_votes
from swift_client.types import Completion, Message, Selection, Shadow, Verification
from swift_client.verify.modes import MODES
from swift_client.verify.verification import identity

logger = logging.getLogger(__name__)

# The note on an accepted answer if an earlier one was not accepted.
HARD_QUESTION_NOTE = (
    "The stated risk was measured on all questions, and this one is among the hard ones: more of their accepted "
    "answers may be wrong."
)


_MIN_PROBABILITY = 1e-15  # least distance of a probability from 0 and 1 before it becomes log odds

# Identity of a verifier and its ``when``; None without one.
VerifierSetting = tuple[str, str] | None

# The end of a sentence on a head of an earlier version, whose thresholds were left out.
VOID_REASON = " calibrated for other weights of votes than today's: calibrate it again"


async def run_with_acceptance(
    pipeline: SelectionPipeline,
    request: SampleRequest,
    options: RunOptions,
    existing_completions: Sequence[Completion] = (),
) -> Selection:
    """Run the pipeline and decide whether its answer is accepted."""
    deadline_at = request.deadline_at()
    outcome = await pipeline.run(request, options, existing_completions)
    selection, question_id = outcome.selection, outcome.samples.question_id
    if isinstance(pipeline.config.selection.scorer, AnyHead):  # others accept nothing
        selection = await asyncio.to_thread(
            with_acceptance,
            selection,
            pipeline.config.selection,
            n=request.n,
            stopping=options.stopping,
            messages=request.messages,
            out_of_distribution=outcome.scored.scores.out_of_distribution,
        )
    if pipeline.config.shadow is not None:
        shadow = await asyncio.to_thread(
            _shadow_choice, pipeline.config.shadow, selection, outcome, request=request, options=options
        )
        selection = replace(selection, shadow=shadow)
    if drift := pipeline.config.drift:
        check = partial(
            drift.check,
            selection,
            n=request.n,
            stopping=options.stopping,
            has_schema=options.response_schema is not None,
            fingerprints=outcome.samples.result.fingerprints,
            is_new=not existing_completions,
        )
        selection = await asyncio.to_thread(check) if drift.scores_again else check()
    store = pipeline.config.store
    if question_id is None or store is None or store.selections is None:
        return selection
    from swift_client.reranker.feedback import record_selection
    from swift_client.store.records import user_digests

    return await record_selection(
        store.selections,
        selection,
        question_id,
        messages=request.messages,
        served_as=options.served_as,
        users=user_digests(request.sampling, options.client_key),
        deadline_at=deadline_at,
    )


def _shadow_choice(
    head: ResolvedHead, selection: Selection, outcome: Outcome, *, request: SampleRequest, options: RunOptions
) -> Shadow:
    """Return the choice of the shadow head. Its failure is one of its facts and never that of the call."""
    from swift_client.reranker.shadow import choose_by_shadow, describe_failure, describe_shadow

    try:
        choice, rules, out_of_distribution = choose_by_shadow(head, outcome.scored, outcome.samples.config)
        choice = with_acceptance(
            choice,
            rules,
            n=request.n,
            stopping=options.stopping,
            messages=request.messages,
            out_of_distribution=out_of_distribution,
        )
        return describe_shadow(head, choice, selection)
    except Exception as error:  # a head that is only tried out must not cost an answer that is paid for
        logger.warning("The shadow head failed: %s: %s", type(error).__name__, error)
        return describe_failure(head, error)


async def run_with_escalation(pipeline: SelectionPipeline, request: SampleRequest, options: RunOptions) -> Selection:
    """Run the pipeline, and do with an answer that is not accepted what ``options.on_reject`` says.

    Raises:
        ConfigurationError: ``on_reject`` cannot be done; nothing was sent.
        RejectedError: ``on_reject`` is "abstain" and the answer is not accepted.
    """
    on_reject = options.on_reject
    if on_reject == "escalate" and options.stopping is None:
        raise ConfigurationError(
            'on_reject="escalate" has nothing left to ask: without stopping= all n completions are sampled anyway.',
            hint='Pass stopping="auto" too, or ask a stronger model: Cascade([reranker, stronger]).',
        )
    if on_reject != "return":
        require_acceptance(f'on_reject="{on_reject}"', pipeline, n=request.n, stopping=options.stopping)

    selection = await run_with_acceptance(pipeline, request, options)
    # ``accepted`` None is not accepted either: nothing is known about the risk.
    if on_reject == "return" or selection.accepted:
        return selection
    if on_reject == "abstain":
        raise rejection_error(selection)
    return await _sample_the_rest(pipeline, request, options, selection)


async def _sample_the_rest(
    pipeline: SelectionPipeline, request: SampleRequest, options: RunOptions, selection: Selection
) -> Selection:
    """Sample the completions that a stopping rule left out and choose again; if that fails, keep ``selection``."""
    completions = [candidate.completion for candidate in selection.candidates]
    if len(completions) >= request.n:  # the rule did not stop early, or the provider sent more than n
        return selection
    seconds_left = None if request.deadline is None else request.deadline - selection.elapsed
    if seconds_left is not None and seconds_left <= 0:
        return with_note(selection, "The answer was not accepted, and the deadline left no time to sample the others.")
    # Ask again for all n; the completions that arrived already count and are not paid for twice.
    try:
        new_selection = await run_with_acceptance(
            pipeline, replace(request, deadline=seconds_left), replace(options, stopping=None), completions
        )
    except SwiftClientError as error:
        return with_note(selection, f"The answer was not accepted, and sampling the others failed: {error}")
    note = f"The answer of {len(completions)} completions was not accepted: the others were sampled."
    return merge_selections(with_note(selection, note), new_selection)


def merge_selections(previous_selection: Selection, new_selection: Selection) -> Selection:
    """Return the new selection with the cost, failures and notes of both."""
    notes = (*previous_selection.notes, *new_selection.notes)
    if new_selection.accepted:
        notes = (*notes, HARD_QUESTION_NOTE)
    return replace(
        new_selection,
        usage=previous_selection.usage + new_selection.usage,
        cost=add_costs(previous_selection.cost, new_selection.cost),
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
    """Return the natural log odds that the chosen answer is right; None without probabilities.

    After a vote they are those of ``answer_probability``, which grows with the votes that agree, unlike their mean
    probability, and with the head's scores, unlike their share. Else they are those of the chosen completion.
    """
    if selection.probability is None:
        return None
    probability = selection.answer_probability if selection.method == "vote" else None
    if probability is None:
        probability = min(max(selection.probability, MIN_WEIGHT), 1 - MIN_WEIGHT)
    # Judgements may leave 0 or 1 after rounding.
    probability = min(max(probability, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(probability / (1 - probability))


def with_acceptance(
    selection: Selection,
    config: SelectionConfig,
    *,
    n: int,
    stopping: StoppingRule | None = None,
    messages: Sequence[Message] = (),
    out_of_distribution: bool = False,
) -> Selection:
    """Return the selection with ``accepted`` filled in, or with a note if the calibration does not apply to it.

    Args:
        selection: a choice.
        config: the rules by which it was made.
        n: the number of completions that were planned.
        stopping: the stopping rule that may have ended sampling earlier.
        messages: the question; empty if it is unknown.
        out_of_distribution: whether the completions are unlike those of the head's training.
    """
    head = config.scorer
    if not isinstance(head, AnyHead) or selection.scorer != head.name:
        return selection
    verifier = _verifier_setting(selection.verification, head)
    if not head.acceptances:
        reason = _find_acceptance(config, n=n, stopping=stopping, verifiers=[verifier])
        note = f"It is unknown whether the answer is accepted: {reason}."
        return with_note(selection, note) if head.has_void_acceptances else selection
    acceptance = _find_acceptance(config, n=n, stopping=stopping, verifiers=[verifier])
    count = len(selection.candidates)
    # A smaller number of completions is calibrated only if the stopping rule itself stopped there.
    if isinstance(acceptance, str):
        reason = acceptance
    elif count != n and not (stopping and count < n and stopping(build_votes(selection, n=n, scorer=head)).stop):
        reason = f"{head.name} was calibrated for {n} completions and {count} arrived"
    elif verifier and selection.verification and _lacks_judgements(selection.verification):
        reason = f"{selection.verification.judge} judged {selection.verification.judged} of the "
        reason += f"{selection.verification.answers} answers"
    elif out_of_distribution:
        reason = f"these answers are unlike those that {head.name} was trained on"
    elif problem := kind_problem(head, messages):
        reason = problem
    else:
        log_odds = answer_log_odds(selection)
        return replace(selection, accepted=log_odds is not None and log_odds >= acceptance.threshold)
    return with_note(selection, f"It is unknown whether the answer is accepted: {reason}.")


def kind_problem(head: AnyHead, messages: Sequence[Message]) -> str | None:
    """Return the reason why a question is not of the kind that the head was trained on; None if it is.

    Args:
        head: a head; without a sketch of its questions it judges them all.
        messages: the question; empty if it is unknown.
    """
    if head.sketch is None:
        return None
    if not messages:
        return f"the question was not given (prompt=), and {head.name} accepts only questions like its training's"
    if head.sketch.covers(messages):
        return None
    return f"the question is unlike those that {head.name} was trained on"


def require_acceptance(purpose: str, pipeline: SelectionPipeline, *, n: int, stopping: StoppingRule | None) -> None:
    """Raise ConfigurationError if no answer could be rejected, since the head has no calibration for these settings."""
    verifiers = _possible_settings(pipeline)
    reason = _find_acceptance(pipeline.config.selection, n=n, stopping=stopping, verifiers=verifiers)
    if isinstance(reason, str):
        option = "" if stopping is None else f" --stopping {stopping}"
        option += f" --verifier auto --when {verifiers[0][1]}" if verifiers[0] else ""
        raise ConfigurationError(
            f"{purpose} needs a head that was calibrated to a risk: {reason}.",
            hint=f"Run `swift-client calibrate HEAD SAMPLES --risk 0.05 --n {n}{option}` and use that head.",
        )


def require_any_acceptance(purpose: str, pipeline: SelectionPipeline, *, n: int | None) -> None:
    """Raise ConfigurationError if the head has no calibration for ``n`` completions; None: for any number."""
    head = pipeline.config.selection.scorer
    if not isinstance(head, AnyHead) or not any(n in (None, acceptance.n) for acceptance in head.acceptances):
        require_acceptance(purpose, pipeline, n=n or 16, stopping=None)


def _verifier_setting(verification: Verification | None, head: AnyHead) -> VerifierSetting:
    """Return the verifier that may have changed the choice; one that the head set aside never does."""
    if verification is None or _is_set_aside(verification.verifier, head):
        return None
    return verification.verifier, verification.when


def _is_set_aside(verifier: str, head: AnyHead) -> bool:
    return any(term.verifier == verifier and not term.helps for term in head.verifier_terms)


def _possible_settings(pipeline: SelectionPipeline) -> list[VerifierSetting]:
    """Return the settings that selections of a pipeline may have; the mode "auto" depends on the answers."""
    verifier, judge, head = pipeline.config.verifier, pipeline.judge, pipeline.config.selection.scorer
    if verifier is None or judge is None or not isinstance(head, AnyHead):
        return [None]
    identities = [
        identity(verifier, judge.name, mode) for mode in ([verifier.mode] if verifier.mode != "auto" else MODES)
    ]
    return [None if _is_set_aside(name, head) else (name, verifier.when) for name in identities]


def _lacks_judgements(verification: Verification) -> bool:
    """Return True if an answer was not judged that calibration counts as judged."""
    return verification.judged < verification.answers or (verification.when == "always" and not verification.judged)


def _find_acceptance(
    config: SelectionConfig, *, n: int, stopping: StoppingRule | None, verifiers: Sequence[VerifierSetting]
) -> Acceptance | str:
    """Return the head's calibration for exactly these settings, with any of ``verifiers``, or why there is none."""
    head, select = config.scorer, config.select
    if not isinstance(head, AnyHead):
        return "there is none"
    if not head.acceptances:
        return f"{head.name} was{VOID_REASON if head.has_void_acceptances else ' not'}"
    answer = config.answer if config.answer is None or isinstance(config.answer, str) else "custom"
    rule = None if stopping is None else str(stopping)
    for acceptance in head.acceptances:
        same_stopping = acceptance.stopping == rule or n == 1  # one completion cannot stop early
        same_plan = (acceptance.n, acceptance.select, acceptance.answer) == (n, select, answer)
        if same_stopping and same_plan and _setting_of(acceptance) in verifiers:
            return acceptance
    calibrated = " or ".join(
        f"n={acceptance.n}, stopping={acceptance.stopping}, select={acceptance.select}, answer={acceptance.answer}"
        + _describe_verifier(_setting_of(acceptance))
        for acceptance in head.acceptances
    )
    settings = f"n={n}, stopping={rule}, select={select}, answer={answer}{_describe_verifier(verifiers[0])}"
    return f"{head.name} was calibrated for {calibrated}, not for {settings}"


def _setting_of(acceptance: Acceptance) -> VerifierSetting:
    if acceptance.verifier is None or acceptance.when is None:
        return None
    return acceptance.verifier, acceptance.when


def _describe_verifier(setting: VerifierSetting) -> str:
    return "" if setting is None else f", verifier={setting[0]}, when={setting[1]}"
