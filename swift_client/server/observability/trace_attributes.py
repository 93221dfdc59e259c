"""The attributes of spans. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from swift_client.server.observability.record import RequestRecord
from swift_client.types import Event

# OpenTelemetry's names of providers, if they are not ours.
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "openai-responses": "openai",
        "openai-completions": "openai",
        "azure": "azure.ai.openai",
        "gemini": "gcp.gemini",
        "vertex": "gcp.vertex_ai",
        "xai": "x_ai",
        "mistral": "mistral_ai",
        "bedrock": "aws.bedrock",
    }
)


def call_attributes(event: Event, n: int, address: tuple[str, int | None] | None) -> dict[str, str | int | float]:
    """Return the attributes of one call upstream.

    Args:
        event: the end of the call.
        n: completions that it asked for.
        address: host and port; None if they are not known.
    """
    provider = event.provider or "-"
    attributes: dict[str, str | int | float | None] = {
        "gen_ai.operation.name": "embeddings" if event.phase == "consensus" else "chat",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.request.model": event.model,
        "gen_ai.request.choice.count": n if n != 1 else None,
        "http.response.status_code": event.status,
        "swift.phase": event.phase,
        "swift.cost_usd": event.cost,
    }
    if address is not None:
        attributes |= {"server.address": address[0], "server.port": address[1]}
    if event.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = event.usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = event.usage.completion_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = event.usage.cached_prompt_tokens or None
    if event.error is not None:
        attributes["error.type"] = str(event.status or type(event.error).__name__)
    return {name: value for name, value in attributes.items() if value is not None}


def request_attributes(record: RequestRecord) -> dict[str, str | int | float | bool]:
    """Return the attributes of a request that has ended, without content."""
    attributes: dict[str, str | int | float | bool | None] = {
        "http.route": record.endpoint,
        "http.response.status_code": record.status,
        "swift.key": record.key,
    }
    if record.has_failed:
        attributes["error.type"] = type(record.error).__name__ if record.error else str(record.status)
    if record.n:
        attributes |= {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": record.model,
            "gen_ai.request.stream": record.is_stream,
            "swift.n": record.n,
            "swift.tokens": record.tokens,
            "swift.cost_usd": record.cost,
            "swift.selection.id": record.selection_id,
        }
    selection = record.selection
    if selection is not None:
        attributes |= {
            "swift.method": selection.method,
            "swift.signal": selection.signal,
            "swift.candidates": len(selection.candidates),
            "swift.failures": len(selection.failures),
            "swift.accepted": selection.accepted,
            "swift.stopped": None if selection.stopped is None else selection.stopped.rule.partition(":")[0],
        }
    return {name: value for name, value in attributes.items() if value is not None}


def content_attributes(record: RequestRecord) -> dict[str, str]:
    """Return the prompt and the chosen answer as JSON, in the form of the conventions; images are left out."""
    attributes = {}
    if record.logged_messages:
        attributes["gen_ai.input.messages"] = json.dumps([_message(message) for message in record.logged_messages])
    if record.selection is not None and record.logged_answer is not None:
        finish_reason = record.selection.best.completion.finish_reason
        answer = {"role": "assistant", "parts": [_text(record.logged_answer)], "finish_reason": finish_reason}
        attributes["gen_ai.output.messages"] = json.dumps([answer])
    return attributes


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts: list[dict[str, Any]] = []
    if isinstance(content, str):
        parts.append(_text(content))
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            kind = part.get("type") if isinstance(part, dict) else None
            parts.append(_text(text) if isinstance(text, str) else {"type": str(kind)})
    return {"role": str(message.get("role")), "parts": parts}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "content": text}
