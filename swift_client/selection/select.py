"""From completions to a Selection: scores, answers, choice, and what they rest on. Nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from swift_client import answers
from swift_client.errors import ConfigurationError
from swift_client.features import listed_ranks
from swift_client.logprobs.checks import drop_invalid_logprobs
from swift_client.logprobs.temperature import UNKNOWN_SAMPLING, SamplingInfo
from swift_client.models import AnyHead, HiddenHead
from swift_client.scoring import scorers
from swift_client.scoring.external import ExternalScores
from swift_client.scoring.fusion import fuse
from swift_client.scoring.judge import JudgeScores
from swift_client.scoring.temperature import correct_temperature
from swift_client.selection import choose
from swift_client.structured.field_agreement import describe_fields, field_support
from swift_client.structured.schema import ParsedAnswer, ResponseSchema
from swift_client.types import F32, Candidate, Completion, Selection

Scorer = str | scorers.ScorerFunction | AnyHead
Method = Literal["auto", "best", "vote"]

FALLBACK_SCORER = "mean_logprob"
"""The scorer where there is no head: one number per token, which every provider with logprobs gives, whatever its k."""


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """How completions become a choice. Wrong rules are refused here, before anything is paid for.

    Raises:
        ConfigurationError: an unknown scorer, answer reader or method.
    """

    scorer: Scorer = FALLBACK_SCORER
    answer: answers.Spec = "auto"
    select: Method = "auto"
    force_head: bool = False
    """Whether a head scores lists shorter than it was trained on too."""
    notes: tuple[str, ...] = ()
    """What every Selection says first."""
    external_scores: ExternalScores | None = None
    """Further scores of these very completions, fused with the scorer's: candidates' scores are then the fused ones,
    0..1, and weigh votes too; probabilities stay the head's."""
    sampling_info: SamplingInfo = UNKNOWN_SAMPLING
    """How the completions were drawn, which says what their logprobs may mean."""
    response_schema: ResponseSchema | None = None
    """What answers have to fit; then whole objects are compared, whatever ``answer`` says."""

    @property
    def reads_token_ids(self) -> bool:
        """Whether completions need ``top_ids``."""
        return isinstance(self.scorer, AnyHead) and self.scorer.reads_token_ids

    @property
    def reads_text_alone(self) -> bool:
        """Whether the scorer looks at no logprob."""
        return isinstance(self.scorer, str) and scorers.SCORERS[self.scorer].min_ranks is None

    def __post_init__(self) -> None:
        if isinstance(self.scorer, str) and self.scorer not in scorers.SCORERS:
            known = ", ".join(scorers.SCORERS)
            raise ConfigurationError(f"There is no scorer {self.scorer!r}.", hint=f"Known: auto, {known}.")
        if not isinstance(self.scorer, str | AnyHead) and not callable(self.scorer):
            raise ConfigurationError(
                f"scorer= takes a name, a callable or a HeadArtifact, not {type(self.scorer).__name__}."
            )
        answers.get_reader(self.answer)
        if self.select not in ("auto", "best", "vote"):
            raise ConfigurationError(
                f"select={self.select!r} is not a way to choose.", hint='Use "auto", "best" or "vote".'
            )


def select_best(completions: Sequence[Completion], config: SelectionConfig) -> Selection:
    """Choose among completions of one question. Usage, failures and the like are left to the caller to fill in.

    Candidates are numbered 0..N-1: in the order of ``Completion.index`` where the indices differ, so that the order of
    the list does not matter, else (a pool of several replies) in the order given.

    Raises:
        ConfigurationError: there are no completions, or a scorer of the user's returns no N numbers.
    """
    ordered, caught = drop_invalid_logprobs(_reindex(completions), config.sampling_info)
    read, fits = _read_answers(ordered, config)
    scorer, doubts = _usable_head(config, ordered)
    shown, limits = correct_temperature(ordered, scorer, config.sampling_info)
    if shown is None:
        scorer, shown = FALLBACK_SCORER, ordered
    scored = scorers.score(shown, scorer, groups=read.groups)
    if scored.out_of_distribution:
        doubts = (*doubts, _out_of_distribution_note(scored.name, force_head=config.force_head))
        if not config.force_head:
            scorer, scored = FALLBACK_SCORER, scorers.score(ordered, FALLBACK_SCORER)
    values, weights, name = scored.values, scored.probabilities, scored.name
    if config.external_scores:
        pair = values.astype(np.float64), config.external_scores.values.astype(np.float64)
        values = weights = fuse(*pair, config.external_scores.fuse).astype(np.float32)
        name = f"{name} + {config.external_scores.name} ({config.external_scores.fuse})"
    choice = choose.choose(
        ordered, values, probabilities=weights, answers=read, method=config.select, **_choice_options(fits, read)
    )
    believed = _answer_probabilities(read.groups, scored.probabilities)
    return Selection(
        candidates=tuple(
            Candidate(
                completion=completion,
                score=_float_or_none(values, at),
                probability=None if scored.probabilities is None else _float_or_none(scored.probabilities, at),
                answer=read.values[at] if completion.complete else None,
                group=read.groups[at],
                answer_probability=believed.get(read.groups[at]),
                weight=choice.weights[at],
            )
            for at, completion in enumerate(ordered)
        ),
        winner=choice.winner,
        signal=_signal(ordered, scored.values, scorer),
        scorer=name,
        method=choice.method,
        notes=(*config.notes, *caught, *doubts, *limits, *scored.notes, *choice.notes),
        **_winner_fields(ordered, fits, choice),
    )


def _read_answers(
    completions: Sequence[Completion], config: SelectionConfig
) -> tuple[answers.Answers, tuple[ParsedAnswer | None, ...]]:
    """Read N answers, and where they have a shape their objects."""
    if config.response_schema:
        fits, read = config.response_schema.parse_all(completions)
        return read, fits
    # What was cut cannot vote, and must not count as unreadable either.
    return answers.read([each.text if each.complete else "" for each in completions], config.answer), ()


def _choice_options(parsed_answers: Sequence[ParsedAnswer | None], grouped_answers: answers.Answers) -> dict[str, Any]:
    """Say how to choose among objects: what fits none does not win, and where no two agree their members vote."""
    if not parsed_answers:
        return {}
    numbers = [number for number in grouped_answers.groups if number is not None]
    alone = len(set(numbers)) == len(numbers)
    return {"require_answer": True, "support": partial(field_support, parsed_answers) if alone else None}


def _winner_fields(
    completions: Sequence[Completion], parsed_answers: Sequence[ParsedAnswer | None], choice: choose.Choice
) -> dict[str, Any]:
    fit = parsed_answers[choice.winner] if parsed_answers else None
    if fit is None:
        return {}
    weights = choice.weights if any(choice.weights) else [1.0] * len(parsed_answers)  # "best" counts no votes
    return {"parsed": fit.parsed, "fields": describe_fields(completions, parsed_answers, weights, choice.winner)}


def _answer_probabilities(groups: Sequence[int | None], probabilities: F32 | None) -> dict[int | None, float]:
    """Average probabilities (N,) within each group of equal answers, NaN left out; a group without any is absent."""
    if probabilities is None:
        return {}
    members: dict[int | None, list[float]] = {}
    for group, probability in zip(groups, probabilities.tolist(), strict=True):
        if group is not None and not math.isnan(probability):
            members.setdefault(group, []).append(probability)
    return {group: math.fsum(values) / len(values) for group, values in members.items()}


def _usable_head(config: SelectionConfig, completions: Sequence[Completion]) -> tuple[Scorer, tuple[str, ...]]:
    """Put a head aside that its own training found of no help, or that was not trained for these lists; say so."""
    head = config.scorer
    if not isinstance(head, AnyHead):
        return head, ()
    if not head.beats_majority:
        return FALLBACK_SCORER, (
            f"{head.name} was no better than majority on its validation questions: votes count 1 each, without it.",
        )
    if isinstance(head, HiddenHead):
        if any(each.projections is not None or each.hidden_states is not None for each in completions):
            return head, ()
        return FALLBACK_SCORER, (f"{head.name} needs hidden states and none came: {FALLBACK_SCORER} scores instead.",)
    thought = any(each.thinking is not None and each.thinking.tokens for each in completions)
    if head.reads_thinking and not thought and not config.force_head:
        return FALLBACK_SCORER, (f"{head.name} reads thinking tokens and none came: {FALLBACK_SCORER} scores instead.",)
    longest = max((listed_ranks(each) for each in completions if each.tokens), default=head.k_min)
    if longest < head.k_min and not config.force_head:
        return FALLBACK_SCORER, (
            f"{head.name} needs {head.k_min} alternatives a token and {longest} came: {FALLBACK_SCORER} scores instead.",
        )
    return head, ()


def _out_of_distribution_note(name: str, *, force_head: bool) -> str:
    then = "its scores may mislead." if force_head else f"{FALLBACK_SCORER} scores instead."
    return f"These answers are unlike those that {name} was trained on: {then}"


def _reindex(completions: Sequence[Completion]) -> list[Completion]:
    distinct = len({completion.index for completion in completions}) == len(completions)
    ordered = sorted(completions, key=lambda completion: completion.index) if distinct else list(completions)
    return [
        completion if completion.index == at else replace(completion, index=at) for at, completion in enumerate(ordered)
    ]


def _signal(completions: Sequence[Completion], values: F32, scorer: Scorer) -> str:
    if isinstance(scorer, HiddenHead) and not np.isnan(values).all():
        return "hidden"
    if isinstance(scorer, JudgeScores) and not np.isnan(values).all():
        return "judge"
    text_alone = isinstance(scorer, str) and scorers.SCORERS[scorer].min_ranks is None
    if text_alone or np.isnan(values).all() or not any(completion.tokens for completion in completions):
        return "text"
    ranks = max(listed_ranks(completion) for completion in completions)
    return f"logprobs:k={ranks}" if ranks else "logprobs:chosen"


def _float_or_none(values: F32, index: int) -> float | None:
    return None if np.isnan(values[index]) else float(values[index])
