"""Wire formats. Each codec turns a request into JSON, and the bytes of a reply into completions."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.types import Message

if TYPE_CHECKING:
    from swift_client.adapters.codecs.assembler import Assembler

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
"""Name of a wire format → the codec module, which is imported on first use."""


class Codec(Protocol):
    """The contract of a codec module. Nothing in a codec does I/O."""

    def request(
        self,
        provider: Provider,
        model: str | None,
        messages: Sequence[Message],
        *,
        n: int,
        top_logprobs: int | None,
        stream: bool = False,
        sampling: Mapping[str, Any] = ...,
    ) -> Request:
        """Build the request for ``n`` completions.

        Args:
            provider: the row of the provider table: how to ask for logprobs, and fields that every request needs.
            model: None means the provider's default model.
            messages: chat messages in OpenAI's format, or in the codec's own.
            n: number of completions. Formats that have no ``n`` return one completion per request.
            top_logprobs: number of alternatives per token; None asks for no logprobs.
            stream: whether the reply arrives as server-sent events.
            sampling: more fields of the body, sent unchanged except for names that the format spells differently.
                They override all other fields.

        Raises:
            ConfigurationError: the format cannot express the request.
        """

    def parse(self, data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
        """Decode a complete reply at once; see :meth:`parse_steps`."""

    def parse_steps(
        self, data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False
    ) -> Generator[None, None, Reply]:
        """Decode a complete reply; yield after each completion, to give other tasks of an event loop a turn.

        Args:
            data: the body of a response with status 200: one JSON value, or a recorded stream.
            top_logprobs: number of columns of every ``top_logprobs``; None means the longest list of each completion.
            token_ids: whether to fill in ``top_ids``.

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
