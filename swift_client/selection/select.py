"""The three steps from completions to a Selection: score, select, build. Sends nothing."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.errors import ConfigurationError
from swift_client.features import listed_ranks
from swift_client.features.segments import F64
from swift_client.logprobs.checks import drop_invalid_logprobs
from swift_client.logprobs.temperature import UNKNOWN_SAMPLING, SamplingInfo
from swift_client.models import AnyHead, HiddenHead
from swift_client.models.artifact import describe_verdict
from swift_client.scoring import scorers
from swift_client.scoring.result import ScoredCompletions, Scores, UserSimilarity
from swift_client.selection import choose
from swift_client.selection.voting import (
    LABEL_FREE_WEIGHTS,
    answer_probabilities,
    label_free_weights,
    odds_weights,
)
from swift_client.structured.field_agreement import describe_fields, field_support
from swift_client.structured.schema import ParsedAnswer, ResponseSchema
from swift_client.types import F32, Candidate, Completion, Method, Selection, completeness

logger = logging.getLogger(__name__)

Scorer = str | scorers.ScorerFunction | AnyHead

# The scorer without a head: it reads chosen logprobs only, which every provider with logprobs returns.
FALLBACK_SCORER = "mean_logprob"
FALLBACK_CLAUSE = f"the {FALLBACK_SCORER} scorer is used instead."  # the end of notes


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """The rules of a choice, checked before anything is paid for.

    Raises:
        ConfigurationError: an unknown scorer, answer reader, method or similarity.
    """

    scorer: Scorer = FALLBACK_SCORER
    answer: answers.Spec = "auto"
    select: Method = "auto"
    # The similarity of a consensus: a name, or a function of texts; None: the default one.
    similarity: str | UserSimilarity | None = None
    force_head: bool = False  # whether a head scores even lists shorter than those it was trained on
    notes: tuple[str, ...] = ()  # the first notes of every Selection
    # The sampling settings, which decide what the logprobs mean.
    sampling_info: SamplingInfo = UNKNOWN_SAMPLING
    # The schema that answers have to fit; whole objects are then compared and ``answer`` is ignored.
    response_schema: ResponseSchema | None = None
    # The end of the comparison of formulas, in seconds of ``time.monotonic()``; None: no deadline.
    deadline_at: float | None = None

    @property
    def calls_user_code(self) -> bool:
        """True if the scorer, the reader of answers or a schema's validator is the user's, which may hang."""
        own_reader = isinstance(self.answer, str | re.Pattern) or self.answer is None
        return not (isinstance(self.scorer, str | AnyHead) and own_reader and self.response_schema is None)

    def without_user_code(self) -> SelectionConfig:
        """Return the rules with FALLBACK_SCORER and no reader in place of functions of the user.

        With a schema no answer is read, so that no completion counts as an object that fits.
        """
        scorer = self.scorer if isinstance(self.scorer, str | AnyHead) else FALLBACK_SCORER
        answer = self.answer if isinstance(self.answer, str | re.Pattern) and not self.response_schema else None
        return replace(self, scorer=scorer, answer=answer, response_schema=None)

    @property
    def reads_token_ids(self) -> bool:
        """True if completions need ``top_ids``."""
        return isinstance(self.scorer, AnyHead) and self.scorer.reads_token_ids

    @property
    def reads_text_alone(self) -> bool:
        """True if the scorer reads no logprobs."""
        return _reads_text_alone(self.scorer)

    def __post_init__(self) -> None:
        if isinstance(self.scorer, str) and self.scorer not in scorers.SCORERS:
            names = ", ".join(scorers.SCORERS)
            raise ConfigurationError(f"Unknown scorer {self.scorer!r}.", hint=f"Known: auto, {names}.")
        if not isinstance(self.scorer, str | AnyHead) and not callable(self.scorer):
            raise ConfigurationError(
                f"scorer= takes a name, a callable or a HeadArtifact, not {type(self.scorer).__name__}."
            )
        answers.get_reader(self.answer)
        choose.check_method(self.select)
        if self.similarity is not None:
            from swift_client.selection.consensus import check_similarity

            check_similarity(self.similarity, self.select)


def select_best(completions: Sequence[Completion], config: SelectionConfig) -> Selection:
    """Score, choose and build a Selection; the caller adds usage, failures and the like.

    Candidates are numbered 0..N-1: in the order of ``Completion.index`` if the indices differ, so that the order of
    the list does not matter, else (a pool of several replies) in the order given.

    Raises:
        ConfigurationError: there are no completions, or a user's scorer does not return N numbers.
    """
    scored = score_completions(completions, config)
    if config.similarity is not None:
        from swift_client.selection.consensus import compare_texts

        scored = compare_texts(scored, config.select)
    return build_selection(scored, select(scored, config.select))


def score_completions(
    completions: Sequence[Completion], config: SelectionConfig, *, answers_of: ScoredCompletions | None = None
) -> ScoredCompletions:
    """Read N answers, unless ``answers_of`` has them, and score the completions; arguments as ``select_best()``."""
    ordered, check_notes = drop_invalid_logprobs(_reindex(completions), config.sampling_info)
    grouped, parsed_answers = _read_answers(ordered, config, answers_of)
    scorer, head_notes = _usable_head(config, ordered)
    corrected, temperature_notes = scorers.correct_temperature(ordered, scorer, config.sampling_info)
    if corrected is None:
        scorer, corrected = FALLBACK_SCORER, ordered
    scores = scorers.score(corrected, scorer, groups=grouped.groups)
    if scores.out_of_distribution:
        consequence = "its scores may mislead." if config.force_head else FALLBACK_CLAUSE
        note = f"These answers are unlike those that {scores.name} was trained on, so {consequence}"
        head_notes = (*head_notes, note)
        if not config.force_head:
            scorer, scores = FALLBACK_SCORER, scorers.score(ordered, FALLBACK_SCORER)
    signal = _signal(ordered, scores.values, scorer)
    weights, vote_note = _weigh_votes(ordered, grouped, scores, scorer, config.select)
    beta = scorer.beta if isinstance(scorer, AnyHead) else 1.0
    return ScoredCompletions(
        completions=tuple(ordered),
        answers=grouped,
        parsed_answers=parsed_answers,
        scores=replace(scores, notes=(*head_notes, *temperature_notes, *scores.notes)),
        vote_weights=weights,
        vote_note=vote_note,
        beta=beta,
        signal=signal,
        no_logprobs_reason=next(iter((*check_notes, *scores.notes)), None) if signal == "text" else None,
        notes=(*config.notes, *check_notes),
        similarity=config.similarity,
    )


def score_or_fall_back(completions: Sequence[Completion], config: SelectionConfig) -> ScoredCompletions:
    """Score completions; when a user's scorer fails, score with FALLBACK_SCORER and say so."""
    try:
        return score_completions(completions, config)
    # A user's function may raise anything, and completions that were paid for must not be lost.
    except BaseException as error:
        is_built_in = isinstance(config.scorer, str | AnyHead)
        # Readers and validators that raise an Exception cost only the completion that they read.
        if is_built_in and (isinstance(error, Exception) or not config.calls_user_code):
            raise
        if is_built_in:
            scored = score_completions(completions, config.without_user_code())
            note = f"{user_functions(config)} raised {type(error).__name__} and was ignored."
            return replace(scored, notes=(note, *scored.notes))
        logger.warning("the scorer failed with %s, so %s", type(error).__name__, FALLBACK_CLAUSE)
        logger.debug("the scorer's error", exc_info=True)
        note = f"The scorer failed ({type(error).__name__}: {error}), so {FALLBACK_CLAUSE}"
        scored = score_completions(completions, replace(config, scorer=FALLBACK_SCORER))
        return replace(scored, notes=(note, *scored.notes))


def user_functions(config: SelectionConfig) -> str:
    """Return the names of the arguments that hold functions of the user."""
    own_config = config.without_user_code()
    names = {"scorer": "scorer=", "response_schema": "response_model="}
    if config.response_schema is None:
        names["answer"] = "answer="
    own = [text for name, text in names.items() if getattr(config, name) is not getattr(own_config, name)]
    return f"The function {' or '.join(own)}"


def select(scored: ScoredCompletions, method: Method) -> choose.Choice:
    """Choose among scored completions.

    If answers have to fit a schema, a completion that does not fit cannot win, and when no two objects are equal, their
    members vote. If answers have parents (the names of tools), these vote first.
    """
    if choose.seeks_consensus(scored, method):
        from swift_client.selection.consensus import choose_by_consensus

        return choose_by_consensus(scored, method)
    groups = [group for group in scored.answers.groups if group is not None]
    has_schema = bool(scored.parsed_answers)
    all_differ = len(set(groups)) == len(groups)
    support: Callable[[Sequence[float]], Sequence[float]] | None = None
    if has_schema and all_differ:
        support = partial(field_support, scored.parsed_answers)
    elif scored.answers.parents:
        support = partial(choose.support_by_level, (scored.answers.parents, scored.answers.groups))
    choice = choose.choose(
        scored.completions,
        scored.scores.values,
        weights=scored.vote_weights,
        answers=scored.answers,
        method=method,
        require_answer=has_schema,
        support=support,
    )
    if choice.method == "vote" and scored.vote_note:
        return replace(choice, notes=(*choice.notes, scored.vote_note))
    return choice


def build_selection(scored: ScoredCompletions, choice: choose.Choice) -> Selection:
    """Describe a choice: its candidates, the fields of the winner's object, and the notes of all steps."""
    scores, grouped = scored.scores, scored.answers
    values = _nan_to_none(scores.values)
    unknown = [None] * len(values)
    complete = completeness(scored.completions)
    probabilities = unknown if scores.probabilities is None else _nan_to_none(scores.probabilities)
    by_answer = _probability_per_answer(scored, complete)
    return Selection(
        candidates=tuple(
            Candidate(
                completion=completion,
                score=values[index],
                probability=probabilities[index],
                answer=grouped.values[index] if complete[index] else None,
                group=grouped.groups[index],
                answer_probability=by_answer.get(grouped.groups[index]),
                weight=choice.weights[index],
                consensus=choice.consensus[index] if choice.consensus else None,
            )
            for index, completion in enumerate(scored.completions)
        ),
        winner=choice.winner,
        signal=scored.signal,
        scorer=scores.name,
        method=choice.method,
        notes=(*scored.notes, *scores.notes, *choice.notes, *scored.rescoring_notes),
        **_winner_fields(scored.completions, scored.parsed_answers, choice),
    )


def _read_answers(
    completions: Sequence[Completion], config: SelectionConfig, answers_of: ScoredCompletions | None
) -> tuple[answers.Answers, tuple[ParsedAnswer | None, ...]]:
    """Read N answers, and their objects if they have to fit a schema; those of ``answers_of`` if it is given."""
    if answers_of:
        return answers_of.answers, answers_of.parsed_answers
    if config.response_schema:
        parsed_answers, grouped = config.response_schema.parse_all(completions)
        return grouped, parsed_answers
    # Incomplete texts cannot vote, and must not count as unreadable either.
    texts, spec = answers.texts_to_read(completions, config.answer)
    pairs = zip(texts, completeness(completions), strict=True)
    texts = [text if is_complete else "" for text, is_complete in pairs]
    grouped = answers.read_by_deadline(texts, spec, config.deadline_at)
    notes = grouped.note, _unread_note(grouped, texts, spec), _call_note(completions, spec)
    return replace(grouped, note=_join_notes(*notes)), ()


def _weigh_votes(
    completions: Sequence[Completion], grouped: answers.Answers, scores: Scores, scorer: Scorer, method: Method
) -> tuple[F64 | None, str | None]:
    """Return the weights of N votes, or of N texts if there are no votes; None for 1 each; and a note on them.

    They come from a head's probabilities and its β, or from the logprobs of the default scorer. The unit of other
    scores is unknown: with them each vote counts 1.
    """
    values = scores.values.astype(np.float64)
    complete = completeness(completions)
    pairs = zip(grouped.groups, complete, strict=True)
    voters = np.array([group is not None and is_complete for group, is_complete in pairs], np.bool_)
    if not voters.any():  # no vote is held, but weights tell which text to trust
        voters = np.array(completeness(completions), np.bool_)
    compares_texts = method == "consensus" or not voters.any()
    if compares_texts:
        voters = np.array(complete, np.bool_) if any(complete) else np.ones(len(completions), np.bool_)
    if isinstance(scorer, AnyHead):
        if scores.probabilities is None:
            return None, None
        return odds_weights(scores.probabilities.astype(np.float64), values, voters, scorer.beta), None
    if scorer != FALLBACK_SCORER or np.isnan(values).all():
        return None, None
    if compares_texts:
        lowest = values[voters & ~np.isnan(values)].min(initial=0.0)
        return np.exp(np.where(np.isnan(values), lowest, values)), None
    lengths = np.array([len(completion.tokens) for completion in completions], np.int64)
    weights, row = label_free_weights(values, lengths, voters)
    differ = len({group for group, votes in zip(grouped.groups, voters, strict=True) if votes}) > 1
    return weights, LABEL_FREE_WEIGHTS[int(row)].note if differ else None


def _unread_note(grouped: answers.Answers, texts: Sequence[str], spec: answers.Spec) -> str | None:
    """Return a note on texts in which the reader that was asked for found no answer."""
    reader = answers.get_reader(spec)
    if not grouped.n_unread or reader is None:
        return None
    n_texts = sum(bool(text.strip()) for text in texts)
    name = reader.name if reader.name.startswith("regex ") else repr(reader.name)
    if grouped.n_unread == n_texts:
        return f"The answer reader {name} found no answer in any of {n_texts} texts: {answers.SCORES_ALONE}."
    return f"The answer reader {name} found no answer in {grouped.n_unread} of {n_texts} texts, which do not vote."


def _call_note(completions: Sequence[Completion], spec: answers.Spec) -> str | None:
    """Return a note if "auto" compares the texts of completions, some of which call tools."""
    n_calls = sum(bool(completion.tool_calls) and completion.complete for completion in completions)
    if spec != "auto" or not n_calls:
        return None
    return f'{n_calls} of {len(completions)} completions call a tool; answer="tool_call" compares calls.'


def _join_notes(*notes: str | None) -> str | None:
    return " ".join(filter(None, notes)) or None


def _winner_fields(
    completions: Sequence[Completion], parsed_answers: Sequence[ParsedAnswer | None], choice: choose.Choice
) -> dict[str, Any]:
    winner = parsed_answers[choice.winner] if parsed_answers else None
    if winner is None:
        return {}
    weights = choice.weights if any(choice.weights) else [1.0] * len(parsed_answers)  # "best" counts no votes
    return {"parsed": winner.parsed, "fields": describe_fields(completions, parsed_answers, weights, choice.winner)}


def _probability_per_answer(scored: ScoredCompletions, complete: Sequence[bool]) -> dict[int | None, float]:
    """Return the probability per group of equal answers, without groups whose completions have none."""
    probabilities = scored.scores.probabilities
    if probabilities is None:
        return {}
    pairs = zip(scored.answers.groups, complete, strict=True)
    groups = np.array([[group if group is not None and is_complete else -1 for group, is_complete in pairs]], np.int64)
    values = answer_probabilities(groups, probabilities.astype(np.float64)[None, :], scored.beta)[0]
    with_probability = set(groups[0, ~np.isnan(probabilities)].tolist()) - {-1}
    return {group: float(values[group]) for group in with_probability}


def _usable_head(config: SelectionConfig, completions: Sequence[Completion]) -> tuple[Scorer, tuple[str, ...]]:
    """Return the scorer that can read these completions, with a note if the head is not used."""
    head = config.scorer
    if not isinstance(head, AnyHead):
        return head, ()
    if not head.beats_majority and not config.force_head:
        return FALLBACK_SCORER, (f"{head.name} {describe_verdict(head.training)}, so {FALLBACK_CLAUSE}",)
    if isinstance(head, HiddenHead):
        has_states = any(
            completion.projections is not None or completion.hidden_states is not None for completion in completions
        )
        missing = "" if has_states else "hidden states and there are none,"
    elif config.force_head:
        missing = ""
    elif head.reads_thinking and not any(c.thinking is not None and c.thinking.tokens for c in completions):
        missing = "thinking tokens and there are none,"
    else:
        ranks = [listed_ranks(completion) for completion in completions if completion.tokens]
        longest = max(ranks, default=head.k_min)
        missing = "" if longest >= head.k_min else f"{head.k_min} alternatives per token and there are {longest},"
    if missing:
        return FALLBACK_SCORER, (f"{head.name} needs {missing} so {FALLBACK_CLAUSE}",)
    return head, ()


def _reindex(completions: Sequence[Completion]) -> list[Completion]:
    """Renumber completions 0..N-1, in the order of their indices if these differ, else in the given order."""
    distinct = len({completion.index for completion in completions}) == len(completions)
    ordered = sorted(completions, key=lambda completion: completion.index) if distinct else list(completions)
    return [
        completion if completion.index == index else replace(completion, index=index)
        for index, completion in enumerate(ordered)
    ]


def _signal(completions: Sequence[Completion], values: F32, scorer: Scorer) -> str:
    """Return the signal behind scores ``values`` (N,), as ``Selection.signal``."""
    if isinstance(scorer, HiddenHead) and not np.isnan(values).all():
        return "hidden"
    if _reads_text_alone(scorer) or np.isnan(values).all() or not any(completion.tokens for completion in completions):
        return "text"
    ranks = max(listed_ranks(completion) for completion in completions)
    return f"logprobs:k={ranks}" if ranks else "logprobs:chosen"


def _reads_text_alone(scorer: Scorer) -> bool:
    return isinstance(scorer, str) and scorers.SCORERS[scorer].min_ranks is None


def _nan_to_none(values: F32) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
