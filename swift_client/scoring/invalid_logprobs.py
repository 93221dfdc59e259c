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
from swift_client.logprobs.checks import drop_logprobs, failed_check
from swift_client.logprobs.goodness_of_fit import run_fit_test
from swift_client.types import Completion

_Z_THRESHOLD = -8.0
"""Standard deviations: true lists do not get there in a lifetime of questions."""
_MIN_DEFICIT = 0.5
"""Nats a token: below this, a gateway that rounds or a changed sampler is as good an explanation."""
_MIN_TOKENS = 64
"""Tokens of a question; with fewer, one odd token would speak for all."""
_HARMLESS_FIELDS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "max_completion_tokens"),
        *("reasoning_effort", "reasoning", "thinking", "user", "metadata", "store", "service_tier", "provider"),
    }
)
"""Fields that leave the stated distribution be, or make the drawn tokens likelier than it says."""


@dataclass(frozen=True)
class SamplingInfo:
    """How completions were drawn, as far as it bears on what their logprobs mean."""

    temperature: float | None = None
    """None: not known."""
    after_temperature: bool = False
    """Whether the logprobs were taken after temperature (or what else shapes sampling)."""
    unmodified: bool = False
    """Whether nothing could have drawn tokens that are less likely than their lists say."""
    truncated: bool = False
    """Whether the distribution was cut before its logprobs were taken: temperature cannot be undone then."""

    @classmethod
    def from_request(cls, capabilities: Capabilities, fields: Mapping[str, Any]) -> SamplingInfo:
        """Return the origin of what a model of these capabilities draws for a request with these ``fields``."""
        given = fields.get("temperature")
        warmth = float(given) if isinstance(given, (int, float)) and given >= 0 else None
        after = capabilities.logprob_space == "after_temperature"
        return cls(
            temperature=1.0 if given is None and not after else warmth,
            after_temperature=after,
            unmodified=fields.keys() <= _HARMLESS_FIELDS
            and (after or given is None or (warmth is not None and warmth <= 1.0)),
            truncated=any(fields.get(name) not in (None, 1, 0) for name in ("top_p", "top_k", "min_p")),
        )

    @property
    def needs_correction(self) -> bool:
        """Whether the logprobs are those of another temperature than 1, or may be."""
        return self.after_temperature and self.temperature != 1.0


UNKNOWN_SAMPLING = SamplingInfo()
"""Nothing is known, as of a reply that somebody else drew."""


def drop_invalid_logprobs(
    completions: Sequence[Completion], sampling_info: SamplingInfo
) -> tuple[list[Completion], tuple[str, ...]]:
    """Return the completions without the logprobs that cannot be true, and one note for each kind of lie."""
    caught = Counter(lie.sentence for completion in completions if (lie := failed_check(completion)))
    kept = [drop_logprobs(completion) if failed_check(completion) else completion for completion in completions]
    notes = [
        f"Logprobs of {count} of {len(completions)} completions {sentence}; they are left out."
        for sentence, count in caught.items()
    ]
    if sampling_info.unmodified and (misfit := _misfit_note(kept)):
        return [drop_logprobs(completion) for completion in kept], (*notes, misfit)
    return kept, tuple(notes)


def _misfit_note(completions: Sequence[Completion]) -> str | None:
    """Say where the drawn tokens cannot have come from the lists beside them; None where they can."""
    lists = [each for each in completions if each.top_logprobs.size and each.projections is None]
    if not lists:
        return None
    width = max(each.top_logprobs.shape[1] for each in lists)
    padded = [
        np.pad(each.top_logprobs, ((0, 0), (0, width - each.top_logprobs.shape[1])), constant_values=-np.inf)
        for each in lists
    ]
    found = run_fit_test(
        np.concatenate([each.logprobs for each in lists]),
        np.concatenate(padded),
        np.concatenate([each.censored for each in lists]),
    )
    if found.token_count < _MIN_TOKENS or found.z > _Z_THRESHOLD or found.expected - found.score < _MIN_DEFICIT:
        return None
    return (
        f"The logprobs do not fit their own samples ({found.score:.2f} nats a token where they promise "
        f"{found.expected:.2f}); they are left out."
    )
