r"""Codec of ``/completions``, the legacy text door of OpenAI, vLLM, SGLang, llama.cpp, Fireworks and others.

It takes a text instead of messages: a base model's, or one that a chat template was applied to. Replies differ from
chat's in where the text stands and, but for llama.cpp, in logprobs as parallel arrays; :mod:`openai_choice` reads both
shapes. Its own quirks:

- Lists are dicts keyed by text, so tokens of equal text merge; pieces of a character are "bytes:\xe2", U+FFFD or "".
- ``echo`` puts the prompt before the answer. Its first token has no logprob (null); what the prompt's tokens spell is
  no part of the answer, except where nothing else came (``max_tokens=0`` scores the prompt itself).
- vLLM's ``return_tokens_as_token_ids`` writes "token_id:123" in place of texts.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.codecs.reply import run_steps
from swift_client.adapters.providers.provider import Provider, Reply, Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

StreamAssembler = partial(openai_chat.StreamAssembler, echo=True)
"""As :class:`openai_chat.StreamAssembler`."""


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
    """Describe the call that asks for ``n`` completions; arguments as in :func:`openai_chat.request`.

    ``messages`` is one message, whose content is the prompt. Which template turns several into a text is the model's
    own business, and guessing it would change every answer in silence.

    Raises:
        ConfigurationError: there are several messages, or one whose content is no text.
    """
    prompt = messages[0].get("content") if len(messages) == 1 else None
    if not isinstance(prompt, str):
        raise ConfigurationError(
            "Legacy completions take one text, not a list of messages.",
            hint="Pass the prompt as one str, with the model's chat template applied where it needs one.",
            provider=provider.name,
        )
    chat = openai_chat.request(provider, model, [], n=n, top_logprobs=None, stream=stream)
    body = {**chat.body, "prompt": prompt}
    del body["messages"]
    if top_logprobs is not None and provider.logprobs_request != "none":
        body["logprobs"] = max(top_logprobs, 1)
    return Request(method="POST", path="/completions", body={**body, **sampling}, n=n, stream=stream)


def parse(data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False) -> Reply:
    """Decode a whole reply at once; see :func:`parse_steps`."""
    return run_steps(parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids))


def parse_steps(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False
) -> Generator[None, None, Reply]:
    """Decode a whole reply as :func:`openai_chat.parse_steps` does, and drop an echoed prompt."""
    return openai_chat.parse_steps(data, top_logprobs=top_logprobs, token_ids=token_ids, echo=True)
