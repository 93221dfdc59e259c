"""Arguments that every codec takes: a request for completions, and options for decoding its reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from swift_client.adapters.providers.provider import Provider, Request
from swift_client.types import Message


class DecodeOptions(TypedDict, total=False):
    """Options of every function that decodes a reply.

    Attributes:
        top_logprobs: number of columns of every ``top_logprobs``; None means the longest list of each completion.
        token_ids: whether to fill in ``top_ids``; False by default.
    """

    top_logprobs: int | None
    token_ids: bool


@dataclass(frozen=True, eq=False)
class CompletionRequest:
    """A request for ``n`` completions, before a codec writes it in its wire format.

    Attributes:
        provider: the row of the provider table: how to ask for logprobs, and fields that every request needs.
        model: None means the provider's default model.
        messages: chat messages in OpenAI's format, or in the codec's own.
        n: number of completions. Formats that have no ``n`` return one completion per request.
        top_logprobs: number of alternatives per token; None asks for no logprobs.
        stream: whether the reply arrives as server-sent events.
        sampling: more fields of the body, sent unchanged except for names that the format spells differently.
            They override all other fields.
    """

    provider: Provider
    model: str | None
    messages: Sequence[Message]
    n: int = 1
    top_logprobs: int | None = None
    stream: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_name(self) -> str | None:
        """The model, or else the provider's default."""
        return self.model or self.provider.default_model

    @property
    def n_alternatives(self) -> int | None:
        """Number of alternatives per token to ask for, at least 1; None if no logprobs are to be requested."""
        # Never 0: llama.cpp and vLLM then send no logprobs at all (vllm#47838).
        wants_logprobs = self.top_logprobs is not None and self.provider.logprobs_request != "none"
        return max(self.top_logprobs or 0, 1) if wants_logprobs else None

    def rename_sampling(self, aliases: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        """Yield the sampling fields under the format's own names (``aliases``: OpenAI's name → the format's)."""
        for name, value in self.sampling.items():
            name = aliases.get(name, name)
            # OpenAI takes one stop text or a list, Anthropic and Google only a list.
            is_single_stop = name in ("stop_sequences", "stopSequences") and isinstance(value, str)
            yield name, [value] if is_single_stop else value

    def post(self, path: str, body: Mapping[str, Any]) -> Request:
        """Return the HTTP request with this body."""
        return Request(method="POST", path=path, body=body, n=self.n, stream=self.stream)
