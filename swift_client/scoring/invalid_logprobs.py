"""Signals that lie, caught before anything is scored, and one rung down for what it catches.

What one completion shows is a row of :mod:`swift_client.logprobs.checks`; what no single one can show is asked here:
whether the lists fit the tokens that were drawn from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client.adapters import Capabilities
from swift_client.logprobs.checks import lie_of, without_logprobs
from swift_client.logprobs.goodness_of_fit import fit
from swift_client.types import Completion

_FAR = -8.0
"""Standard deviations: true lists do not get there in a lifetime of questions."""
_DEFICIT = 0.5
"""Nats a token: below this, a gateway that rounds or a changed sampler is as good an explanation."""
_ENOUGH = 64
"""Tokens of a question; with fewer, one odd token would speak for all."""
_HARMLESS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "max_completion_tokens"),
        *("reasoning_effort", "reasoning", "thinking", "user", "metadata", "store", "service_tier", "provider"),
    }
)
"""Fields that leave the stated distribution be, or make the drawn tokens likelier than it says."""


@dataclass(frozen=True)
class Origin:
    """How completions were drawn, as far as it bears on what their logprobs mean."""

    temperature: float | None = None
    """None: not known."""
    tempered: bool = False
    """Whether the logprobs were taken after temperature (or what else shapes sampling)."""
    plain: bool = False
    """Whether nothing could have drawn tokens that are less likely than their lists say."""
    cut: bool = False
    """Whether the distribution was cut before its logprobs were taken: temperature cannot be undone then."""

    @classmethod
    def of(cls, known: Capabilities, fields: Mapping[str, Any]) -> Origin:
        """Return the origin of what a model of these capabilities draws for a request with these ``fields``."""
        given = fields.get("temperature")
        warmth = float(given) if isinstance(given, (int, float)) and given >= 0 else None
        after = known.logprob_space == "after_temperature"
        return cls(
            temperature=1.0 if given is None and not after else warmth,
            tempered=after,
            plain=fields.keys() <= _HARMLESS and (after or given is None or (warmth is not None and warmth <= 1.0)),
            cut=any(fields.get(name) not in (None, 1, 0) for name in ("top_p", "top_k", "min_p")),
        )

    @property
    def distorted(self) -> bool:
        """Whether the logprobs are those of another temperature than 1, or may be."""
        return self.tempered and self.temperature != 1.0


UNKNOWN = Origin()
"""Nothing is known, as of a reply that somebody else drew."""


def honest(completions: Sequence[Completion], origin: Origin) -> tuple[list[Completion], tuple[str, ...]]:
    """Return the completions without the logprobs that cannot be true, and one note for each kind of lie."""
    caught = Counter(lie.sentence for completion in completions if (lie := lie_of(completion)))
    kept = [without_logprobs(completion) if lie_of(completion) else completion for completion in completions]
    notes = [
        f"Logprobs of {count} of {len(completions)} completions {sentence}; they are left out."
        for sentence, count in caught.items()
    ]
    if origin.plain and (misfit := _misfit(kept)):
        return [without_logprobs(completion) for completion in kept], (*notes, misfit)
    return kept, tuple(notes)


def _misfit(completions: Sequence[Completion]) -> str | None:
    """Say where the drawn tokens cannot have come from the lists beside them; None where they can."""
    lists = [each for each in completions if each.top_logprobs.size and each.projections is None]
    if not lists:
        return None
    width = max(each.top_logprobs.shape[1] for each in lists)
    padded = [
        np.pad(each.top_logprobs, ((0, 0), (0, width - each.top_logprobs.shape[1])), constant_values=-np.inf)
        for each in lists
    ]
    found = fit(
        np.concatenate([each.logprobs for each in lists]),
        np.concatenate(padded),
        np.concatenate([each.censored for each in lists]),
    )
    if found.tokens < _ENOUGH or found.z > _FAR or found.expected - found.score < _DEFICIT:
        return None
    return (
        f"The logprobs do not fit their own samples ({found.score:.2f} nats a token where they promise "
        f"{found.expected:.2f}); they are left out."
    )
