"""Logprobs that were taken after temperature: undone where that is exact.

A server that states log softmax(z / T) (SGLang by default) leaves T · (lp_i - lp_j) = z_i - z_j exact, while the
normaliser over the whole vocabulary is lost. So what reads differences, or the listed tokens alone, is as good as
before; what reads a logprob by itself, or the mass that a list leaves out, is not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from swift_client.features.response import THINKING_PREFIX
from swift_client.features.token_table import SENTINEL_LOGPROB
from swift_client.types import Completion

MIN_TEMPERATURE = 0.05
"""Lowest temperature that is undone: below it, rounding is all that is left."""

SHIFT_INVARIANT_FEATURES = frozenset(
    {
        *("censored", "position", "listed", "log_rank", "gap_to_top", "margin", "renormalised_entropy", "varentropy"),
        *("self_certainty", "decision_entropy", "decision_entropy_change"),
        *("number", "symbol", "starts_word", "characters", "token_hash"),
    }
)
"""Rows of FEATURES that are the same on :func:`untempered` lists as on the raw ones."""
_LENGTH_TERMS = ("log_length", "number_share", "distinct_share")
SHIFT_INVARIANT_TERMS = frozenset(
    {*_LENGTH_TERMS, *(f"{THINKING_PREFIX}{name}" for name in _LENGTH_TERMS), "agreement"}
)
"""The same of RESPONSE_TERMS."""


def undo_temperature(completion: Completion, temperature: float) -> Completion:
    """Return ``completion`` as at temperature 1, normalised over the listed tokens alone.

    With lp_i the logprobs taken after ``temperature`` T > 0, each becomes T·lp_i - log Σ_j exp(T·lp_j), j over the
    listed ones; the chosen token's is moved by the same amount.
    """
    top = completion.top_logprobs.astype(np.float64)
    listed = top > SENTINEL_LOGPROB
    scaled = np.where(listed, top * temperature, -np.inf)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(scaled).sum(axis=1))
    total = np.where(listed.any(axis=1), total, 0.0)
    chosen = completion.logprobs.astype(np.float64) * temperature - total
    return replace(
        completion,
        logprobs=np.minimum(chosen, 0.0).astype(np.float32),
        top_logprobs=np.minimum(scaled - total[:, None], 0.0).astype(np.float32),
        thinking=None if completion.thinking is None else undo_temperature(completion.thinking, temperature),
    )
