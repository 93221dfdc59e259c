"""Which hidden states of a local model are wanted, and at which moment. Numpy only; torch reads them elsewhere.

``Moment`` says which state belongs to a token. A decoder reads token t and its state then holds what it knows after
that token: "read", which is what the published SWIFT code takes (arXiv 2505.12225; a second forward pass over the
answer, without shift). One position earlier stands the state from which the token was drawn: "produced", the moment
of the token's logprobs. The published code also reads the end-of-turn token; here it is dropped, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from swift_client.types import F32, StatePosition


@dataclass(frozen=True, eq=False, kw_only=True)
class Capture:
    """Keep the states themselves, float16 (T, L*D)."""

    layers: tuple[int, ...] | None = None
    """As transformers numbers ``hidden_states``: 0 the embedding, the last one behind the final norm; None: all; none
    with ``vocabulary`` alone."""
    moment: StatePosition = "read"
    vocabulary: bool = False
    """Behind the layers' numbers also keep the logprobs of the whole vocabulary, (T, V): those of the distribution that
    produced the token, whatever ``moment`` says. The published code pairs each token with its successor's instead."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Projection:
    """Keep two numbers a token: the gate's and the reward's logit, float32 (T, 2)."""

    weight: F32
    """(2, L*D) float32, gate before reward, layer by layer in the order of ``layers``."""
    bias: F32
    """(2,) float32."""
    layers: tuple[int, ...]
    """L indices, see :class:`Capture`; none: the logprobs of the whole vocabulary are read, at "produced"."""
    width: int
    """D, the width of one state; V for the vocabulary's logprobs, whose ``weight`` is (2, V)."""
    name: str = "The head"
    """Whose weights they are, for errors."""
    moment: StatePosition = "read"
