"""Scores of completions from trained heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.features import ResponseTerms, TokenFeatures, TokenTable, response_columns, token_columns
from swift_client.features.segments import F64, segment_offsets
from swift_client.models import AnyHead, HeadArtifact, HiddenHead
from swift_client.scoring.out_of_distribution import is_out_of_distribution
from swift_client.scoring.result import CommonTopK, Scores, common_top_k
from swift_client.types import F32, Completion


def score_with_head(
    completions: Sequence[Completion], artifact: HeadArtifact, groups: Sequence[int | None] | None
) -> Scores:
    """Score N completions with a head on logprobs; ``groups`` as in ``scorers.score()``."""
    common, features, terms = _compute_inputs(completions, artifact, artifact.name, groups)
    scores = artifact.scores(features.values, features.offsets, terms.values)
    values = np.where(common.readable_mask, scores, np.nan)
    return Scores(
        values=values.astype(np.float32),
        probabilities=_probabilities(artifact, values),
        name=artifact.name,
        notes=common.notes,
        out_of_distribution=is_out_of_distribution(artifact, terms.values, common.readable_mask),
    )


def score_with_hidden_head(
    completions: Sequence[Completion], head: HiddenHead, groups: Sequence[int | None] | None
) -> Scores:
    """Score N completions with a head on hidden states; ``groups`` as in ``scorers.score()``.

    Reads the projections that arrived with the completions, else their captured hidden states.
    """
    projections = [_project(completion, head) for completion in completions]
    has_states = np.array([len(rows) > 0 for rows in projections], np.bool_)
    notes: tuple[str, ...] = ()
    if n_missing := int(np.count_nonzero(~has_states)):
        notes = (f"{n_missing} of {len(projections)} completions have no score, because they have no hidden states.",)
    out_of_distribution = False
    empty = np.zeros((0, 2), np.float32)
    if head.logprob_head is None:
        values = head.scores(np.concatenate([empty, *projections]), segment_offsets(map(len, projections)))
    else:
        common, features, terms = _compute_inputs(completions, head.logprob_head, head.name, groups)
        notes += common.notes
        out_of_distribution = is_out_of_distribution(head, terms.values, common.readable_mask)
        # Completions without states get rows of zeros, so that rows and tokens line up; their scores are dropped.
        lengths = np.diff(features.offsets)
        aligned = [
            rows if len(rows) else np.zeros((length, 2)) for rows, length in zip(projections, lengths, strict=True)
        ]
        if any(len(rows) != length for rows, length in zip(aligned, lengths, strict=True)):
            raise ValueError(f"the {head.name} needs the logprobs of the tokens whose states it has.")
        scores = head.scores(np.concatenate([*aligned, empty]), features.offsets, features.values, terms.values)
        values = np.where(common.readable_mask & has_states, scores, np.nan)
    return Scores(
        values=values.astype(np.float32),
        probabilities=_probabilities(head, values),
        name=head.name,
        notes=notes,
        out_of_distribution=out_of_distribution,
    )


def _probabilities(head: AnyHead, scores: F64) -> F32 | None:
    return None if head.calibration is None else head.calibration(scores).astype(np.float32)


def _project(completion: Completion, head: HiddenHead) -> F32:
    """Return a completion's gate and reward logits (T, 2); (0, 2) without hidden states."""
    if completion.projections is not None:
        return completion.projections
    if completion.hidden_states is not None:
        return head.project(completion.hidden_states)
    return np.zeros((0, 2), np.float32)


def _compute_inputs(
    completions: Sequence[Completion], artifact: HeadArtifact, name: str, groups: Sequence[int | None] | None
) -> tuple[CommonTopK, TokenFeatures, ResponseTerms]:
    """Compute the features and response terms that a head on logprobs reads; ``name`` is the head's name in notes."""
    common = common_top_k(completions, artifact.k_min, max_ranks=artifact.k_max)
    # If all lists are too short, they are read anyway: the caller decided that the head is used.
    if not common.readable_mask.any():
        common = common_top_k(completions, 0, max_ranks=artifact.k_max)
        if common.readable_mask.any():
            note = f"{name} was trained on {artifact.k_min} or more alternatives per token, not on {common.k}."
            common = common._replace(notes=(note, *common.notes))
    if artifact.reads_token_ids:
        has_ids = np.array([completion.top_ids is not None for completion in completions], np.bool_)
        if (common.readable_mask & ~has_ids).any():
            note = f"{name} reads the identities of the alternatives, which some completions lack."
            common = common._replace(readable_mask=common.readable_mask & has_ids, notes=(*common.notes, note))
    if groups is None and "agreement" in artifact.response_terms:
        note = f"{name} reads the agreement of answers, but no answers were compared."
        common = common._replace(notes=(*common.notes, note))
    table = TokenTable(completions, width=artifact.width, k=common.k, groups=groups)
    return common, token_columns(table, artifact.features), response_columns(table, artifact.response_terms)
