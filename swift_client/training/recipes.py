"""How a head is trained, one row a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, cast, get_args

from swift_client.dataset.stored import States
from swift_client.errors import ConfigurationError
from swift_client.features import DEFAULT_FEATURES, DEFAULT_RESPONSE_TERMS, THINKING_TERMS

LossName = Literal["bce", "hinge", "pairwise", "both", "infonca", "nca"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of RECIPES."""

    features: tuple[str, ...] = DEFAULT_FEATURES
    """Rows of FEATURES."""
    terms: tuple[str, ...] = ()
    """Rows of RESPONSE_TERMS."""
    states: States | None = None
    """What is read of a local model before the features: its hidden states, or the logprobs of its whole vocabulary."""
    layers: tuple[int, ...] | None = None
    """Which hidden states; None: all that were captured."""
    gate: bool = True
    """Whether tokens weigh differently; without, the score is the plain mean of their rewards."""
    standardize: bool
    """Whether columns are brought to mean 0 and deviation 1; without, features enter as they are."""
    thin: bool
    """Whether each question is also shown with fewer completions and shorter lists: the head then works on those."""
    start: Literal["zero", "linear"]
    """"zero": all weights 0; "linear": torch's own random start of a Linear."""
    loss: LossName
    """Row of LOSSES."""
    precision: Literal["float32", "float64"]
    optimizer: Literal["Adam", "AdamW"]
    learning_rate: float
    weight_decay: float = 0.0
    """AdamW's decoupled decay."""
    prior: float = 0.0
    """λ of a penalty λ/2 · |w|² over the summed loss, so it fades as completions are added; biases go free."""
    states_prior: float = 0.0
    """λ of the hidden states' columns."""
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


_DEFAULT = Recipe(
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
)
_SWIFT = Recipe(
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
)
"""SWIFT as published (arXiv 2505.12225 and its code): one Linear(F, 2) on raw columns, nothing else.

Only the best weights are kept, which its code meant to do.
"""
_SWIFT_STATES = replace(_SWIFT, features=(), states="layers", precision="float32")

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "default": _DEFAULT,
        # What was thought before the answer too, where the provider lists those tokens.
        "thinking": replace(_DEFAULT, terms=(*DEFAULT_RESPONSE_TERMS, *THINKING_TERMS)),
        "swift": _SWIFT,
        "swift-hidden": _SWIFT_STATES,
        "swift-logits": replace(_SWIFT_STATES, states="vocabulary"),
        "swift-top-k": replace(_SWIFT, features=("rank_surprise",)),
        "hidden": replace(
            _DEFAULT, features=(), terms=(), states="layers", states_prior=300.0, thin=False, identity=()
        ),
        # The states know what a token was drawn from; the logprobs, which one was drawn and how surely.
        "hybrid": replace(_DEFAULT, states="layers", states_prior=300.0, thin=False, identity=()),
    }
)


def recipe_of(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    loss: str | None = None,
    gate: bool = True,
) -> Recipe:
    """Return a row of RECIPES with what is given changed.

    Raises ConfigurationError for an unknown name or loss, or layers for a recipe that reads none.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"There is no recipe {name!r}.", hint=f"Known: {', '.join(RECIPES)}.")
    row = RECIPES[name]
    if layers is not None:
        if row.states != "layers":
            known = ", ".join(key for key, each in RECIPES.items() if each.states == "layers")
            raise ConfigurationError(f'The recipe "{name}" reads no hidden states.', hint=f"These do: {known}.")
        row = replace(row, layers=tuple(layers))
    if loss is not None and loss not in get_args(LossName):
        raise ConfigurationError(f"There is no loss {loss!r}.", hint=f"Known: {', '.join(get_args(LossName))}.")
    return replace(row, loss=cast(LossName, loss or row.loss), gate=gate and row.gate)
