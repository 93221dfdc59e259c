"""Readers of hidden states: keep each decoding step's states as they are, or a head's two numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swift_client.adapters.local.request import Capture, Projection
from swift_client.errors import ArtifactMismatchError, ConfigurationError, ProviderError
from swift_client.types import StatePosition

FLOAT16_MAX = 65504.0  # largest float16; larger states are clamped to it


class CaptureReader:
    """Keeps the states of some layers as float16. Raises ConfigurationError for a layer that does not exist."""

    def __init__(self, capture: Capture, *, n_states: int) -> None:
        self.moment: StatePosition = capture.moment
        self._layers = resolve_layers(capture, n_states=n_states)
        missing = [layer for layer in self._layers if not 0 <= layer < n_states]
        if missing or not self._layers:
            raise ConfigurationError(
                f"The model has no hidden state {missing[0] if missing else ''}: it has {n_states}, numbered from 0.",
                hint="0 is the embedding; the last one comes after the final norm.",
            )

    def __call__(self, states: Sequence[Tensor], logits: Tensor) -> Tensor:
        """Return (B, L*D) float16 for the (B, 1, D) states of one step."""
        return _to_float16(torch.cat([states[layer][:, -1] for layer in self._layers], -1))


class VocabularyReader:
    """Keeps the logprobs of the whole vocabulary as float16, for the token drawn from them."""

    moment: StatePosition = "produced"

    def __call__(self, states: Sequence[Tensor], logits: Tensor) -> Tensor:
        """Return (B, V) float16 for the (B, V) logits of one step."""
        return _to_float16(logits.log_softmax(-1))


class ProjectionReader:
    """Multiplies each step's states by a head's weights, to keep only two numbers per token.

    Raises ArtifactMismatchError for a head trained on other layers or another width.
    """

    def __init__(self, projection: Projection, *, n_states: int, hidden_size: int, device: torch.device) -> None:
        fits = hidden_size == projection.width and all(0 <= layer < n_states for layer in projection.layers)
        if projection.layers and not fits:
            layers = ", ".join(map(str, projection.layers))
            raise ArtifactMismatchError(
                f"{projection.name} reads hidden states {layers} of width {projection.width}; "
                f"the model has {n_states}, numbered from 0, of width {hidden_size}.",
                hint="Train a head on this model's own hidden states.",
            )
        self.moment: StatePosition = projection.moment
        self._projection = projection
        self._weight = torch.from_numpy(projection.weight).to(device)
        self._bias = torch.from_numpy(projection.bias).to(device)

    def __call__(self, states: Sequence[Tensor], logits: Tensor) -> Tensor:
        """Return (B, 2) float32 for the (B, 1, D) states and the (B, V) logits of one step.

        Raises ArtifactMismatchError for a head on another vocabulary.
        """
        name, layers, width = self._projection.name, self._projection.layers, self._projection.width
        if not layers and logits.shape[-1] != width:
            raise ArtifactMismatchError(
                f"{name} reads the logprobs of {width:,} tokens; the model has {logits.shape[-1]:,}.",
                hint="Train a head on this model's own logprobs.",
            )
        joined = torch.cat([states[layer][:, -1] for layer in layers], -1) if layers else logits.log_softmax(-1)
        return torch.addmm(self._bias, joined.float(), self._weight.T)


StateReader = CaptureReader | VocabularyReader | ProjectionReader


def resolve_layers(capture: Capture, *, n_states: int) -> tuple[int, ...]:
    """Return the indices of the hidden states to capture, numbered from 0."""
    if capture.layers is None:
        return tuple(range(n_states))
    return tuple(layer + n_states if -n_states <= layer < 0 else layer for layer in capture.layers)


def _to_float16(values: Tensor) -> Tensor:
    return values.clamp(-FLOAT16_MAX, FLOAT16_MAX).to(torch.float16).cpu()  # NaN stays NaN


def non_finite_error(label: str) -> ProviderError:
    """Return the error for a model whose values are NaN or infinite."""
    return ProviderError(
        f"The model's {label} are not numbers (NaN).",
        hint='Weights or activations overflow: load it with dtype="float32" or "bfloat16", and check the files.',
    )
