"""Local transformers models under their documented name."""

from swift_client.adapters.local.model import HuggingFaceModel

__all__ = ["HuggingFaceModel"]
