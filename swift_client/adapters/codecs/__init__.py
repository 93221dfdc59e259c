"""Wire formats. Each codec turns a request into JSON, and the bytes of a reply into completions."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Unpack, cast

from swift_client.adapters.providers.provider import Provider, Reply, Request

if TYPE_CHECKING:
    from swift_client.adapters.codecs.assembler import Assembler
    from swift_client.adapters.codecs.options import CompletionRequest, DecodeOptions

# Name of a wire format → the codec module, which is imported on first use.
CODECS: Mapping[str, str] = MappingProxyType(
    {
        "openai_chat": "swift_client.adapters.codecs.openai_chat",
        "openai_responses": "swift_client.adapters.codecs.openai_responses",
        "gemini": "swift_client.adapters.codecs.gemini",
        "anthropic": "swift_client.adapters.codecs.anthropic",
        "by_shape": "swift_client.adapters.codecs.detect",
        "openai_completions": "swift_client.adapters.codecs.openai_completions",
    }
)


class Codec(Protocol):
    """The contract of a codec module. Nothing in a codec does I/O."""

    def request(self, call: CompletionRequest) -> Request:
        """Write a request for completions in this format.

        Raises:
            ConfigurationError: the format cannot express the request.
        """

    def parse(self, data: bytes, **options: Unpack[DecodeOptions]) -> Reply:
        """Decode a complete reply at once; see ``parse_steps()``."""

    def parse_steps(self, data: bytes, **options: Unpack[DecodeOptions]) -> Generator[None, None, Reply]:
        """Decode a complete reply; yield after each completion, to give other tasks of an event loop a turn.

        Args:
            data: the body of a response with status 200: one JSON value, or a recorded stream.
            options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions`` in ``options``.

        Raises:
            ResponseDecodeError: the data is not a reply of this format.
            ProviderError: the reply contains an error and no completion.
        """

    @property
    def StreamAssembler(self) -> type[Assembler[Any]]:
        """The class that decodes a stream chunk by chunk."""


def load_codec(provider: Provider) -> Codec:
    """Import the codec module of a provider."""
    return cast(Codec, importlib.import_module(CODECS[provider.codec]))
