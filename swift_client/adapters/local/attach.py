"""What serves a row in this process: a local model, with the weights of the head that reads its hidden states."""

from __future__ import annotations

from swift_client.adapters import CustomProvider, Provider
from swift_client.adapters.local.capture import Projection
from swift_client.adapters.local.model import HuggingFaceModel
from swift_client.errors import ArtifactMismatchError
from swift_client.models import HiddenHead


def resolve_local_provider(
    provider: str | Provider | CustomProvider, provider_entry: Provider, model: str | None, head: object = None
) -> str | Provider | CustomProvider:
    """Return a local model for the row "huggingface", loaded at its first call; any other provider as it is.

    ``head`` is whatever scores; where that is a HiddenHead, the model projects its states by the head's weights.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ArtifactMismatchError: the head reads hidden states, and this provider gives none.
    """
    if (
        isinstance(provider, (str, Provider))
        and provider_entry.name == HuggingFaceModel.provider.name
        and model is not None
    ):
        provider = HuggingFaceModel(model)
    if not isinstance(head, HiddenHead):
        return provider
    if isinstance(provider, HuggingFaceModel):
        return provider.with_projection(projection_of(head))
    if isinstance(provider, (str, Provider)):
        raise ArtifactMismatchError(
            f"The {head.name} reads hidden states, which {provider_entry.name} does not give.",
            hint='Use provider="huggingface", or a head that reads logprobs.',
        )
    return provider


def projection_of(head: HiddenHead) -> Projection:
    """Return a head's weights as a local model takes them."""
    weight, bias = head.matrix()
    return Projection(
        weight=weight, bias=bias, layers=head.layers, width=head.width, name=f"The {head.name}", moment=head.moment
    )
