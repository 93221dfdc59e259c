"""Conversion of a trained network to a head: of logprobs, of hidden states, or of both."""

from __future__ import annotations

from typing import Any

from swift_client.models import AnyHead, GatedLinearHead, HeadArtifact, HiddenHead, Standardizer
from swift_client.store import StateLayout
from swift_client.training.optimize import TrainedNetwork


def build_head(
    trained: TrainedNetwork, layout: StateLayout | None, *, provider: str, model: str, **facts: Any
) -> AnyHead:
    """Return the head of a trained network; ``facts`` are further fields of the head.

    If the recipe reads hidden states, the first columns are the states that ``layout`` describes. Their standardizing
    is folded into the weights, w·(x - mean)/scale = (w/scale)·x - w·mean/scale, since local models project raw states.
    The other columns become ``logprob_head``, which has no bias of its own.
    """
    recipe, parts = trained.recipe, trained.parts
    head, response = trained.network.export()
    columns = trained.network.token_standardizer

    def logprob_head(weights: GatedLinearHead, standardizer: Standardizer, **facts: Any) -> HeadArtifact:
        return HeadArtifact(
            features=recipe.features,
            width=parts.k_max,
            standardizer=standardizer,
            head=weights,
            response_terms=recipe.terms,
            response=response,
            provider=provider,
            model=model,
            k_min=parts.k_min,
            k_max=parts.k_max,
            **facts,
        )

    if recipe.states is None or layout is None:
        return logprob_head(head, columns, **facts)
    # Fold the standardizing of the states into their weights.
    states, rest = slice(layout.columns), slice(layout.columns, None)
    gate, reward = (weight[states] / columns.scale[states] for weight in (head.gate_weight, head.reward_weight))
    state_head = GatedLinearHead(
        gate_weight=gate,
        gate_bias=head.gate_bias - gate @ columns.mean[states],
        reward_weight=reward,
        reward_bias=head.reward_bias - reward @ columns.mean[states],
    )
    # The other columns keep theirs, as in a head of logprobs alone.
    other_head = GatedLinearHead(
        gate_weight=head.gate_weight[rest], gate_bias=0.0, reward_weight=head.reward_weight[rest], reward_bias=0.0
    )
    other_columns = Standardizer(mean=columns.mean[rest], scale=columns.scale[rest])
    return HiddenHead(
        head=state_head,
        layers=layout.layers,
        width=layout.width or layout.vocabulary,
        moment=layout.moment,
        logprob_head=logprob_head(other_head, other_columns) if recipe.features or recipe.terms else None,
        provider=provider,
        model=model,
        **facts,
    )
