"""Conversion of a trained network to a head: of logprobs, of hidden states, or of both."""

from __future__ import annotations

from typing import Any

from swift_client.models import GatedLinearHead, HeadArtifact, HiddenHead, Standardizer
from swift_client.store import StateLayout
from swift_client.training.folds import Dataset
from swift_client.training.network import Network
from swift_client.training.recipes import Recipe


def build_logprob_head(network: Network, recipe: Recipe, data: Dataset, **facts: Any) -> HeadArtifact:
    """Return the head of a recipe that reads logprobs only; ``facts`` are further fields of the head."""
    head, response = network.export()
    return HeadArtifact(
        features=recipe.features,
        width=data.k_max,
        standardizer=network.token_standardizer,
        head=head,
        response_terms=recipe.terms,
        response=response,
        k_min=data.k_min,
        k_max=data.k_max,
        **facts,
    )


def build_hidden_head(
    network: Network, recipe: Recipe, data: Dataset, layout: StateLayout, *, provider: str, model: str, **facts: Any
) -> HiddenHead:
    """Return the head of a recipe whose first columns are hidden states, described by ``layout``.

    Standardizing is folded into the weights, w·(x - mean)/scale = (w/scale)·x - w·mean/scale, since local models
    project raw states. The recipe's other columns become ``logprob_head``; the bias stays in the first one.
    """
    head, response = network.export()
    states, columns = slice(layout.columns), network.token_standardizer
    gate, reward = (weight[states] / columns.scale[states] for weight in (head.gate_weight, head.reward_weight))
    state_head = GatedLinearHead(
        gate_weight=gate,
        gate_bias=head.gate_bias - gate @ columns.mean[states],
        reward_weight=reward,
        reward_bias=head.reward_bias - reward @ columns.mean[states],
    )
    # The remaining columns keep their standardizer, as in a head of logprobs alone.
    logprob_head = None
    if recipe.features or recipe.terms:
        rest = slice(layout.columns, None)
        logprob_head = HeadArtifact(
            features=recipe.features,
            width=data.k_max,
            standardizer=Standardizer(mean=columns.mean[rest], scale=columns.scale[rest]),
            head=GatedLinearHead(
                gate_weight=head.gate_weight[rest],
                gate_bias=0.0,
                reward_weight=head.reward_weight[rest],
                reward_bias=0.0,
            ),
            response_terms=recipe.terms,
            response=response,
            provider=provider,
            model=model,
            k_min=data.k_min,
            k_max=data.k_max,
        )
    return HiddenHead(
        head=state_head,
        layers=layout.layers,
        width=layout.width or layout.vocabulary,
        moment=layout.moment,
        logprob_head=logprob_head,
        provider=provider,
        model=model,
        **facts,
    )
