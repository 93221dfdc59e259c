"""How a head is trained, one row a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from swift_client.features import DEFAULT_FEATURES, DEFAULT_RESPONSE_TERMS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of RECIPES."""

    features: tuple[str, ...] = DEFAULT_FEATURES
    """Rows of FEATURES."""
    terms: tuple[str, ...] = ()
    """Rows of RESPONSE_TERMS."""
    standardize: bool
    """Whether columns are brought to mean 0 and deviation 1; without, features enter as they are."""
    thin: bool
    """Whether each question is also shown with fewer completions and shorter lists: the head then works on those."""
    start: Literal["zero", "linear"]
    """"zero": all weights 0; "linear": torch's own random start of a Linear."""
    loss: str
    """Row of LOSSES."""
    precision: Literal["float32", "float64"]
    optimizer: Literal["Adam", "AdamW"]
    learning_rate: float
    weight_decay: float = 0.0
    """AdamW's decoupled decay."""
    prior: float = 0.0
    """λ of a penalty λ/2 · |w|² over the summed loss, so it fades as completions are added; biases go free."""
    identity: tuple[str, ...] = ()
    """Rows of FEATURES that say which token it is: tried in a second head, kept where validation says so."""
    identity_prior: float = 0.0
    """λ of their columns."""
    batch: int
    """Completions a step; questions are not cut, so it may be a few more or less."""
    epochs: int
    steps: int | None = None
    """Steps after which no new epoch begins, so that many questions cost few epochs."""
    patience: int
    """Epochs without a lower validation loss after which training ends; the best weights are kept."""


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "default": Recipe(
            # Not "agreement": it outshouts what tells the completions apart, and majority counts it anyway
            # (docs/decisions/0006-agreement-is-counted-by-the-vote.md).
            terms=DEFAULT_RESPONSE_TERMS,
            standardize=True,
            thin=True,
            start="zero",
            loss="both",
            precision="float32",
            optimizer="Adam",
            learning_rate=1e-2,
            prior=10.0,
            identity=("token_hash", "alternatives_hash"),
            identity_prior=10.0,
            batch=512,
            epochs=60,
            steps=1500,
            patience=8,
        ),
        # SWIFT as published (arXiv 2505.12225 and its code): one Linear(F, 2) on raw features, nothing else. Only the
        # best weights are kept, which its code meant to do.
        "swift": Recipe(
            standardize=False,
            thin=False,
            start="linear",
            loss="bce",
            precision="float64",
            optimizer="AdamW",
            learning_rate=1e-4,
            weight_decay=1e-5,
            batch=16,
            epochs=40,
            patience=3,
        ),
    }
)
