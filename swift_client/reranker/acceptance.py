"""Whether a choice may be taken without a look: how sure it is, against the threshold that lies in the head.

``swift-client calibrate`` learned the threshold on labelled questions that were asked and judged in one way; for any
other way it says nothing, and neither does this.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.models import Acceptance, AnyHead
from swift_client.selection.choose import MIN_WEIGHT
from swift_client.selection.select import SelectionConfig
from swift_client.stopping import StoppingRule, vote_log_odds
from swift_client.stopping.monitor import build_votes
from swift_client.types import Selection

OnReject = Literal["return", "abstain", "escalate"]


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


def check_on_reject(on_reject: str, config: SelectionConfig, *, n: int, stopping: StoppingRule | None) -> None:
    """Check ``on_reject`` before anything is sent. Raises ConfigurationError where it cannot be done."""
    if on_reject not in get_args(OnReject):
        raise ConfigurationError(f"on_reject={on_reject!r} is unknown.", hint='Use "return", "abstain" or "escalate".')
    if on_reject == "escalate" and stopping is None:
        raise ConfigurationError(
            'on_reject="escalate" has nothing left to ask: all n completions are drawn anyway.',
            hint='Give stopping="auto" too, or ask a stronger model: Cascade([reranker, stronger]).',
        )
    if on_reject != "return":
        require_acceptance(f'on_reject="{on_reject}"', config, n=n, stopping=stopping)


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
