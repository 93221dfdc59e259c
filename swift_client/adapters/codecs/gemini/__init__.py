"""Codec of Google's ``generateContent``, on AI Studio and on Vertex AI, which differ in address and key only.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from swift_client.adapters.codecs.gemini.response import StreamAssembler
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Request
from swift_client.errors import ConfigurationError
from swift_client.types import Message

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

# Fields of the request that are not part of ``generationConfig``.
_TOP_LEVEL_FIELDS = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "labels", "store"}
)
# OpenAI's names of fields with the same meaning.
_FIELD_ALIASES = {
    "max_tokens": "maxOutputTokens", "max_completion_tokens": "maxOutputTokens", "top_p": "topP", "top_k": "topK",
    "stop": "stopSequences", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}  # fmt: skip
_ROLES = {"user": "user", "assistant": "model", "model": "model"}

parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps


def request(call: CompletionRequest) -> Request:
    """Build the request for ``n`` candidates; see ``Codec``.

    ``model`` may be a path such as "tunedModels/mine". "system" and "developer" messages become the system instruction;
    a message with ``parts`` is in Google's own format and sent as it is. Sampling fields may have OpenAI's names if the
    meaning is the same (``max_tokens``).

    Raises:
        ConfigurationError: there is no model, or a message has no equivalent in Google's format.
    """
    model = call.model_name
    if not model:
        raise ConfigurationError("generateContent needs a model.", hint="Pass model=.")
    config: dict[str, Any] = {"candidateCount": call.n} if call.n > 1 else {}
    if k := call.n_alternatives:
        config |= {"responseLogprobs": True, "logprobs": k}
    body = _build_contents(call.messages) | dict(call.provider.extra_body)
    # Sampling fields belong to the body, or to generationConfig.
    for name, value in call.rename_sampling(_FIELD_ALIASES):
        if name in _TOP_LEVEL_FIELDS:
            body[name] = value
        elif name == "generationConfig":
            config |= value
        else:
            config[name] = value
    if config:
        body["generationConfig"] = {**body.get("generationConfig", {}), **config}
    resource = quote(model if "/" in model else f"models/{model}", safe="/")
    method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return call.post(f"/{resource}:{method}", body)


def _build_contents(messages: Sequence[Message]) -> dict[str, Any]:
    contents: list[Any] = []
    system: list[Any] = []
    for message in messages:
        role = message.get("role", "user")
        parts = message["parts"] if "parts" in message else _to_parts(message.get("content"))
        if role in ("system", "developer"):
            system += parts
        elif role in _ROLES or "parts" in message:
            contents.append({"role": _ROLES.get(role, role), "parts": parts})
        else:
            raise ConfigurationError(
                f"A message of role {role!r} has no equivalent in Google's format.",
                hint='Write it in Google\'s format: {"role": ..., "parts": [...]}.',
            )
    return {"contents": contents, **({"systemInstruction": {"parts": system}} if system else {})}


def _to_parts(content: object) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content}]
    parts = []
    for part in content if isinstance(content, list) else [content]:
        if not (isinstance(part, dict) and part.get("type", "text") == "text"):
            raise ConfigurationError(
                "Message content that is not text has no equivalent in Google's format.",
                hint='Write it in Google\'s format: {"role": "user", "parts": [{"inlineData": ...}]}.',
            )
        parts.append({"text": part["text"]} if "type" in part else part)
    return parts
