"""A completion as the assistant's message of a chat.completion, for whoever answers in OpenAI's format. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.reply import canonical_tool_calls
from swift_client.types import Completion, FinishReason, ToolCall, Usage

# OpenAI has no word for some endings. A refusal ends with "stop" there, and the refusal is its text.
_FINISH_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "stop",
        "error": "length",
        "unknown": "stop",
    }
)


def message_dict(completion: Completion, reply_id: str, choice: int = 0) -> dict[str, Any]:
    """Return the message of choice ``choice``; ids of its tool calls follow from ``reply_id``."""
    content, refusal, calls = visible_parts(completion)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if calls:
        message["tool_calls"] = [tool_call_dict(call, reply_id, choice, i) for i, call in enumerate(calls)]
    if thinking := thinking_text(completion):
        message["reasoning_content"] = thinking
    return message


def finish_reason(completion: Completion) -> str:
    """Return OpenAI's word for the reason why a completion ended."""
    if completion.finish_reason == "refusal" and not completion.text:
        return "content_filter"
    return _FINISH_REASONS[completion.finish_reason]


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Return tokens as OpenAI reports usage."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
    }


def visible_parts(completion: Completion) -> tuple[str | None, str | None, tuple[ToolCall, ...]]:
    """Return the content, the refusal and the tool calls of a completion; the first two None if there are none."""
    text = completion.text.encode("utf-8", "replace").decode()  # lone surrogates are not JSON
    if completion.finish_reason == "refusal":
        return None, text, ()
    calls = completion.tool_calls
    only_calls = calls and completion.text in ("", canonical_tool_calls(_call_dicts(calls)))
    return (None if only_calls else text), None, calls


def thinking_text(completion: Completion) -> str:
    """Return the thinking that the provider shows; empty without any."""
    return "" if completion.thinking is None else (completion.thinking.text or "").encode("utf-8", "replace").decode()


def tool_call_dict(call: ToolCall, reply_id: str, choice: int, position: int) -> dict[str, Any]:
    """Return one tool call, with an id that is unique in the conversation."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{reply_id[:20]}_{choice}_{position}", "type": "function", "function": function}


def _call_dicts(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": call.arguments} for call in calls]
