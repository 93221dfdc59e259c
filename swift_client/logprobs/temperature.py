"""Sampling settings and their effect on logprobs; undoes temperature if that is exact.

A server that returns log softmax(z / T) (SGLang by default) keeps T · (lp_i - lp_j) = z_i - z_j exact, but loses the
normaliser over the whole vocabulary. Features of differences, or of the listed tokens alone, are therefore recovered
exactly. Features of a single logprob, or of the mass outside the list, are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swift_client.features.response import THINKING_PREFIX
from swift_client.features.token_table import SENTINEL_LOGPROB
from swift_client.types import Completion

MIN_TEMPERATURE = 0.05  # lowest temperature that is undone; below it only rounding is left
# Rows of FEATURES that are the same after ``undo_temperature()`` as on the original lists.
SHIFT_INVARIANT_FEATURES = frozenset(
    {
        *("censored", "position", "listed", "log_rank", "gap_to_top", "margin", "renormalised_entropy", "varentropy"),
        *("self_certainty", "decision_entropy", "decision_entropy_change"),
        *("number", "symbol", "starts_word", "characters", "token_hash"),
    }
)
_LENGTH_TERMS = ("log_length", "number_share", "distinct_share")
# Rows of RESPONSE_TERMS that are the same after ``undo_temperature()`` as on the original lists.
SHIFT_INVARIANT_TERMS = frozenset(
    {*_LENGTH_TERMS, *(f"{THINKING_PREFIX}{name}" for name in _LENGTH_TERMS), "agreement"}
)

# Request fields that keep the stated distribution, or make the sampled tokens likelier than it says.
_HARMLESS_FIELDS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "max_completion_tokens"),
        *("reasoning_effort", "reasoning", "thinking", "user", "metadata", "store", "service_tier", "provider"),
    }
)


@dataclass(frozen=True)
class SamplingInfo:
    """The sampling settings that decide what the logprobs of a question mean."""

    temperature: float | None = None  # None: not known
    # Whether the logprobs were taken after temperature (and other sampling settings).
    after_temperature: bool = False
    # Whether no setting could make the sampled tokens less likely than their lists say.
    unmodified: bool = False
    # Whether the distribution was truncated before its logprobs were taken, so that temperature
    # cannot be undone.
    truncated: bool = False

    @classmethod
    def from_request(cls, fields: Mapping[str, Any], *, after_temperature: bool) -> SamplingInfo:
        """Return the settings of a request with these ``fields``.

        ``after_temperature`` tells whether the endpoint takes logprobs after temperature.
        """
        requested = fields.get("temperature")
        temperature = float(requested) if isinstance(requested, (int, float)) and requested >= 0 else None
        return cls(
            temperature=1.0 if requested is None and not after_temperature else temperature,
            after_temperature=after_temperature,
            unmodified=fields.keys() <= _HARMLESS_FIELDS
            and (after_temperature or requested is None or (temperature is not None and temperature <= 1.0)),
            truncated=any(fields.get(name) not in (None, 1, 0) for name in ("top_p", "top_k", "min_p")),
        )

    @property
    def needs_correction(self) -> bool:
        """True if the logprobs are, or may be, those of another temperature than 1."""
        return self.after_temperature and self.temperature != 1.0


UNKNOWN_SAMPLING = SamplingInfo()  # nothing is known, as for a reply that was sampled elsewhere


def undo_temperature(completion: Completion, temperature: float) -> Completion:
    """Return ``completion`` as at temperature 1, normalised over the listed tokens alone.

    With lp_i the logprobs taken after ``temperature`` T > 0, each becomes T·lp_i - log Σ_j exp(T·lp_j), j over the
    listed tokens. The chosen token's logprob is shifted by the same amount.
    """
    top = completion.top_logprobs.astype(np.float64)
    is_listed = top > SENTINEL_LOGPROB
    scaled = np.where(is_listed, top * temperature, -np.inf)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(scaled).sum(axis=1))
    total = np.where(is_listed.any(axis=1), total, 0.0)
    chosen_logprobs = completion.logprobs.astype(np.float64) * temperature - total
    return replace(
        completion,
        logprobs=np.minimum(chosen_logprobs, 0.0).astype(np.float32),
        top_logprobs=np.minimum(scaled - total[:, None], 0.0).astype(np.float32),
        thinking=None if completion.thinking is None else undo_temperature(completion.thinking, temperature),
    )
