"""What trained heads make of completions: their files read, their features computed, their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from swift_client.features import (
    ResponseTerms,
    TokenFeatures,
    TokenTable,
    response_columns,
    token_columns,
)
from swift_client.features.segments import segment_offsets
from swift_client.models import HeadArtifact, HiddenHead
from swift_client.scoring.out_of_distribution import is_out_of_distribution
from swift_client.scoring.result import CommonTopK, Scores, common_top_k
from swift_client.types import Completion


def score_with_head(
    completions: Sequence[Completion], artifact: HeadArtifact, groups: Sequence[int | None] | None
) -> Scores:
    """Score N completions with a head on logprobs; ``groups`` as :func:`.scorers.score` takes them."""
    read = _compute_inputs(completions, artifact, artifact.name, groups)
    scores = artifact.scores(read.features.values, read.features.offsets, read.terms.values)
    values = np.where(read.common_top_k.readable_mask, scores, np.nan)
    probabilities = None if artifact.calibration is None else artifact.calibration(values).astype(np.float32)
    return Scores(
        values=values.astype(np.float32),
        probabilities=probabilities,
        name=artifact.name,
        notes=read.common_top_k.notes,
        out_of_distribution=is_out_of_distribution(artifact, read.terms.values, read.common_top_k.readable_mask),
    )


def score_with_hidden_head(
    completions: Sequence[Completion], head: HiddenHead, groups: Sequence[int | None] | None
) -> Scores:
    """Score from the projections that came with the completions, else from their captured hidden states."""
    rows = [
        head.project(each.hidden_states)
        if each.projections is None and each.hidden_states is not None
        else np.zeros((0, 2), np.float32)
        if each.projections is None
        else each.projections
        for each in completions
    ]
    without = sum(not len(each) for each in rows)
    notes = [f"{without} of {len(rows)} completions have no score, for want of hidden states."] if without else []
    outside = False
    if head.logprob_head is None:
        values = head.scores(np.concatenate([np.zeros((0, 2), np.float32), *rows]), segment_offsets(map(len, rows)))
    else:
        read = _compute_inputs(completions, head.logprob_head, head.name, groups)
        notes += read.common_top_k.notes
        outside = is_out_of_distribution(head, read.terms.values, read.common_top_k.readable_mask)
        lengths = np.diff(read.features.offsets)
        joined = [part if len(part) else np.zeros((size, 2)) for part, size in zip(rows, lengths, strict=True)]
        if any(len(part) != size for part, size in zip(joined, lengths, strict=True)):
            raise ValueError(f"the {head.name} needs the logprobs of the tokens whose states it has.")
        scored = read.common_top_k.readable_mask & np.array([len(each) > 0 for each in rows], np.bool_)
        joined.append(np.zeros((0, 2)))
        scores = head.scores(np.concatenate(joined), read.features.offsets, read.features.values, read.terms.values)
        values = np.where(scored, scores, np.nan)
    probabilities = None if head.calibration is None else head.calibration(values).astype(np.float32)
    return Scores(
        values=values.astype(np.float32),
        probabilities=probabilities,
        name=head.name,
        notes=tuple(notes),
        out_of_distribution=outside,
    )


class _HeadInputs(NamedTuple):
    """N completions as a head on logprobs reads them."""

    common_top_k: CommonTopK
    features: TokenFeatures
    terms: ResponseTerms


def _compute_inputs(
    completions: Sequence[Completion], artifact: HeadArtifact, name: str, groups: Sequence[int | None] | None
) -> _HeadInputs:
    """Compute the features; ``name`` is whose, for the notes."""
    depth = common_top_k(completions, artifact.k_min, max_ranks=artifact.k_max)
    if not depth.readable_mask.any():
        depth = common_top_k(completions, 0, max_ranks=artifact.k_max)
        if depth.readable_mask.any():
            outside = f"{name} was trained on {artifact.k_min} alternatives a token or more, not on {depth.k}."
            depth = depth._replace(notes=(outside, *depth.notes))
    if artifact.reads_token_ids:
        named = np.array([completion.top_ids is not None for completion in completions], np.bool_)
        if (depth.readable_mask & ~named).any():
            unnamed = f"{name} reads which tokens the alternatives are, and not every completion says so."
            depth = depth._replace(readable_mask=depth.readable_mask & named, notes=(*depth.notes, unnamed))
    if groups is None and "agreement" in artifact.response_terms:
        unread = f"{name} counts agreement, but no answers were compared."
        depth = depth._replace(notes=(*depth.notes, unread))
    table = TokenTable(completions, width=artifact.width, k=depth.k, groups=groups)
    return _HeadInputs(depth, token_columns(table, artifact.features), response_columns(table, artifact.response_terms))
