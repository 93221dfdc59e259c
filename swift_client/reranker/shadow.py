"""The choice of a shadow head, of the completions that another scorer chose from. It decides nothing."""

from __future__ import annotations

from dataclasses import replace

from swift_client.models.file_format import head_digest
from swift_client.models.resolve_head import ResolvedHead
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.select import SelectionConfig, build_selection, score_completions, select
from swift_client.types import Selection, Shadow


def choose_by_shadow(
    head: ResolvedHead, scored: ScoredCompletions, config: SelectionConfig
) -> tuple[Selection, SelectionConfig, bool]:
    """Return a shadow head's choice, its rules, and whether the completions are unlike those of its training.

    Args:
        head: the shadow head.
        scored: the completions, whose answers and similarities are not computed again.
        config: the rules of the choice that decides.
    """
    rules = replace(config, scorer=head.artifact or config.scorer, force_head=head.force_head, notes=())
    own = score_completions(scored.completions, rules, answers_of=scored)
    own = replace(own, similarity=scored.similarity, similarity_matrix=scored.similarity_matrix)
    return build_selection(own, select(own, rules.select)), rules, own.scores.out_of_distribution


def describe_shadow(head: ResolvedHead, choice: Selection, selection: Selection) -> Shadow:
    """Return a shadow head's choice as facts on the selection that decides."""
    best, decided = choice.best, selection.best
    comparable = best.group is not None or decided.group is not None
    return Shadow(
        scorer=choice.scorer,
        digest=_digest(head),
        winner=choice.winner,
        answer=best.answer,
        agrees=best.group == decided.group if comparable else choice.winner == selection.winner,
        score=best.score,
        probability=best.probability,
        answer_probability=best.answer_probability,
        accepted=choice.accepted,
        scores=tuple(candidate.score for candidate in choice.candidates),
    )


def describe_failure(head: ResolvedHead, error: Exception) -> Shadow:
    """Return the facts of a shadow head that failed."""
    name = "" if head.artifact is None else head.artifact.name
    return Shadow(scorer=name, digest=_digest(head), error=f"{type(error).__name__}: {error}"[:500])


def _digest(head: ResolvedHead) -> str:
    return "" if head.artifact is None else head_digest(head.artifact)
