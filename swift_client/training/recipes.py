"""Training recipes, one row each."""

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
    """One row of RECIPES.

    Attributes:
        features: Rows of FEATURES.
        terms: Rows of RESPONSE_TERMS.
        states: Captured columns before the features: a local model's hidden states or its whole vocabulary's
            logprobs.
        layers: Hidden states to read; None reads all that were captured.
        gate: True to learn token weights; without, the score is the plain mean of the token rewards.
        standardize: True to scale columns to mean 0 and standard deviation 1; those of hidden states so that the
            means of a question's completions have the variance 1 over all columns together.
        thin: True to also train on a random part of each question's completions with shorter lists
            (``subsample``).
        start: "zero": all weights 0; "linear": torch's random initialization of a Linear.
        loss: Row of LOSSES.
        weight_decay: AdamW's decoupled decay.
        prior: λ of a penalty λ/2 · |w|² on the summed loss, so it fades as completions are added; biases are
            not penalized.
        states_prior: λ of the hidden state columns.
        identity: Rows of FEATURES that identify the token: tried in a second network, kept if they help on
            validation.
        identity_prior: λ of the identity columns.
        batch: Completions per step; a few more or less, since questions are not split.
        steps: Steps after which no new epoch starts, so that many questions take few epochs.
        patience: Epochs without a lower validation loss after which training stops; the best weights are
            kept.
    """

    features: tuple[str, ...] = DEFAULT_FEATURES
    terms: tuple[str, ...] = ()
    states: States | None = None
    layers: tuple[int, ...] | None = None
    gate: bool = True
    standardize: bool
    thin: bool
    start: Literal["zero", "linear"]
    loss: LossName
    precision: Literal["float32", "float64"]
    optimizer: Literal["Adam", "AdamW"]
    learning_rate: float
    weight_decay: float = 0.0
    prior: float = 0.0
    states_prior: float = 0.0
    identity: tuple[str, ...] = ()
    identity_prior: float = 0.0
    batch: int
    epochs: int
    steps: int | None = None
    patience: int


_DEFAULT = Recipe(
    # Not "agreement": it dominates the other columns, and the vote counts it anyway
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
# SWIFT as published (arXiv 2505.12225 and its code): one Linear(F, 2) on raw columns, nothing else.
# It keeps the best weights; the published code means to, but does not.
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
_SWIFT_STATES = replace(_SWIFT, features=(), states="layers", precision="float32")
# The states describe the distribution before a token; the logprobs, which token was drawn from it. Beside states, the
# logprob columns need a stronger prior than alone (docs/log.md, 2026-11-30).
_HYBRID = replace(_DEFAULT, states="layers", thin=False, identity=(), prior=300.0, states_prior=20.0, epochs=100)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "default": _DEFAULT,
        # Also reads the thinking tokens, if the provider returns them.
        "thinking": replace(_DEFAULT, terms=(*DEFAULT_RESPONSE_TERMS, *THINKING_TERMS)),
        "swift": _SWIFT,
        "swift-hidden": _SWIFT_STATES,
        "swift-logits": replace(_SWIFT_STATES, states="vocabulary"),
        "swift-top-k": replace(_SWIFT, features=("rank_surprise",)),
        # Pairwise: cross-entropy would spend thousands of columns on how hard the question is, which helps no choice.
        "hidden": replace(_HYBRID, features=(), terms=(), loss="pairwise"),
        "hybrid": _HYBRID,
    }
)


def recipe_of(name: str, *, layers: Sequence[int] | None = None, loss: str | None = None, gate: bool = True) -> Recipe:
    """Return a row of RECIPES, changed by the other arguments.

    Args:
        name: the row.
        layers: hidden states to read.
        loss: row of LOSSES to train with.
        gate: False to train without token weights.

    Raises:
        ConfigurationError: an unknown name or loss, or layers for a recipe that reads no hidden states.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"There is no recipe {name!r}.", hint=f"Known: {', '.join(RECIPES)}.")
    row = RECIPES[name]
    if layers is not None:
        if row.states != "layers":
            names = ", ".join(key for key, other in RECIPES.items() if other.states == "layers")
            raise ConfigurationError(f'The recipe "{name}" reads no hidden states.', hint=f"These do: {names}.")
        row = replace(row, layers=tuple(layers))
    if loss is not None and loss not in get_args(LossName):
        raise ConfigurationError(f"There is no loss {loss!r}.", hint=f"Known: {', '.join(get_args(LossName))}.")
    return replace(row, loss=cast(LossName, loss or row.loss), gate=gate and row.gate)
