r"""Codec of ``/completions``, the legacy text endpoint of OpenAI, vLLM, SGLang, llama.cpp, Fireworks and others.

It takes a text instead of messages: for a base model, or with a chat template applied. Replies differ from chat's in
the field of the text and, except for llama.cpp, in logprobs as parallel arrays; :mod:`openai_chat.tokens` decodes both
shapes. Quirks:

- Lists are dicts keyed by text, so tokens of equal text merge; pieces of a character are "bytes:\xe2", U+FFFD or "".
- ``echo`` puts the prompt before the answer. Its first token has no logprob (null). The prompt is cut off unless
  nothing follows it (``max_tokens=0`` scores the prompt itself).
- vLLM's ``return_tokens_as_token_ids`` writes "token_id:123" instead of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.providers.provider import Provider, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]


class StreamAssembler(openai_chat.StreamAssembler):
    """Decodes one reply, and cuts off a prompt that the server put before the answer."""

    echo = True


parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


def request(
    provider: Provider,
    model: str | None,
    messages: Sequence[Message],
    *,
    n: int,
    top_logprobs: int | None,
    stream: bool = False,
    sampling: Mapping[str, Any] = MappingProxyType({}),
) -> Request:
    """Build the request for ``n`` completions; see :class:`~swift_client.adapters.codecs.Codec`.

    ``messages`` is one message whose content is the prompt. Several would need the model's chat template; guessing it
    would silently change every answer.

    Raises:
        ConfigurationError: there are several messages, or one whose content is not text.
    """
    prompt = messages[0].get("content") if len(messages) == 1 else None
    if not isinstance(prompt, str):
        raise ConfigurationError(
            "Legacy completions take one text, not a list of messages.",
            hint="Pass the prompt as one str, with the model's chat template applied if it needs one.",
            provider=provider.name,
        )
    chat = openai_chat.request(provider, model, [], n=n, top_logprobs=None, stream=stream)
    body = {**chat.body, "prompt": prompt}
    del body["messages"]
    if top_logprobs is not None and provider.logprobs_request != "none":
        body["logprobs"] = max(top_logprobs, 1)
    return Request(method="POST", path="/completions", body={**body, **sampling}, n=n, stream=stream)
