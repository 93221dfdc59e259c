"""What may read logprobs that were taken after temperature, and in which form."""

from __future__ import annotations

from collections.abc import Sequence

from swift_client.logprobs.temperature import (
    MIN_TEMPERATURE,
    SHIFT_INVARIANT_FEATURES,
    SHIFT_INVARIANT_TERMS,
    SamplingInfo,
    undo_temperature,
)
from swift_client.models import HeadArtifact
from swift_client.scoring.scorers import SCORERS, ScorerFunction
from swift_client.types import Completion

_EXACT_SCORERS = frozenset({"self_certainty"})
"""Rows of SCORERS that are the same on untempered lists as on raw ones."""


def correct_temperature(
    completions: Sequence[Completion], scorer: str | ScorerFunction | object, sampling_info: SamplingInfo
) -> tuple[Sequence[Completion] | None, tuple[str, ...]]:
    """Return the completions as ``scorer`` may read them, None where it may not, and a note on that.

    Within one question all completions have one temperature, so that plain scorers still compare them; a head was
    trained on other numbers, and its probabilities would mean nothing.
    """
    if not sampling_info.needs_correction or not any(completion.tokens for completion in completions):
        return completions, ()
    warmth = sampling_info.temperature or 0.0
    known = "a temperature that is not known" if sampling_info.temperature is None else f"temperature {warmth:g}"
    taken = f"The logprobs were taken after {known}"
    undone = warmth >= MIN_TEMPERATURE and not sampling_info.truncated
    if isinstance(scorer, HeadArtifact):
        gaps = SHIFT_INVARIANT_FEATURES.issuperset(scorer.features) and SHIFT_INVARIANT_TERMS.issuperset(
            scorer.response_terms
        )
        if not (undone and gaps):
            return None, (f"{taken}, which {scorer.name} cannot read; temperature=1 makes them those of the model.",)
    elif not (isinstance(scorer, str) and scorer in _EXACT_SCORERS and undone):
        reads = not isinstance(scorer, str) or SCORERS[scorer].min_ranks is not None
        return completions, (f"{taken}: scores compare within this question only.",) if reads else ()
    return [undo_temperature(completion, warmth) for completion in completions], (f"{taken}, which is undone.",)
