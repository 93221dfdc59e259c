r"""Codec of ``/completions``, the legacy text endpoint of OpenAI, vLLM, SGLang, llama.cpp, Fireworks and others.

It takes a text instead of messages: for a base model, or with a chat template applied. Replies differ from chat's in
the field of the text and, except for llama.cpp, in logprobs as parallel arrays; ``openai_chat.tokens`` decodes both
shapes. Quirks:

- Lists are dicts keyed by text, so tokens of equal text merge; pieces of a character are "bytes:\xe2", U+FFFD or "".
- ``echo`` puts the prompt before the answer. Its first token has no logprob (null). The prompt is cut off unless
  nothing follows it (``max_tokens=0`` scores the prompt itself).
- vLLM's ``return_tokens_as_token_ids`` writes "token_id:123" instead of texts.
"""

from __future__ import annotations

from dataclasses import replace

from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Request
from swift_client.errors import ConfigurationError

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]


class StreamAssembler(openai_chat.StreamAssembler):
    """Decodes one reply, and cuts off a prompt that the server put before the answer."""

    echo = True


parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


def request(call: CompletionRequest) -> Request:
    """Build the request for ``n`` completions; see ``Codec``.

    ``messages`` is one message whose content is the prompt. Several would need the model's chat template; guessing it
    would silently change every answer.

    Raises:
        ConfigurationError: there are several messages, or one whose content is not text.
    """
    prompt = call.messages[0].get("content") if len(call.messages) == 1 else None
    if not isinstance(prompt, str):
        raise ConfigurationError(
            "Legacy completions take one text, not a list of messages.",
            hint="Pass the prompt as one str, with the model's chat template applied if it needs one.",
            provider=call.provider.name,
        )
    chat = openai_chat.request(replace(call, messages=[], top_logprobs=None, sampling={}))
    body = {**chat.body, "prompt": prompt}
    del body["messages"]
    if k := call.n_alternatives:
        body["logprobs"] = k
    return call.post("/completions", {**body, **call.sampling})
