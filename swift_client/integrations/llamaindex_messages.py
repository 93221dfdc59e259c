"""Messages and tools of LlamaIndex in OpenAI's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.integrations.openai_format import named_tool_choice
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Message

with peer_package("llama-index-core"):
    from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock


def message_dicts(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return messages in OpenAI's format; ConfigurationError for blocks but text, thinking and tool calls."""
    return [_message_dict(message) for message in messages]


def chat_arguments(
    tools: Sequence[Any],
    user_msg: ChatMessage | str | None = None,
    chat_history: Sequence[ChatMessage] | None = None,
    verbose: bool = False,
    allow_parallel_tool_calls: bool = False,
    tool_required: bool = False,
    tool_choice: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the arguments of ``chat()`` for a question with tools; the parameters are LlamaIndex's."""
    question = [ChatMessage(user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []
    fields["messages"] = [*(chat_history or ()), *question]
    if tools:
        fields["tools"] = [tool.metadata.to_openai_tool() for tool in tools]
        fields["tool_choice"] = named_tool_choice(tool_choice or ("required" if tool_required else None))
    return fields


def _message_dict(message: ChatMessage) -> Message:
    calls = []
    for block in message.blocks:
        if isinstance(block, ToolCallBlock):
            arguments = block.tool_kwargs if isinstance(block.tool_kwargs, str) else json.dumps(block.tool_kwargs)
            function = {"name": block.tool_name, "arguments": arguments}
            calls.append({"id": block.tool_call_id, "type": "function", "function": function})
        elif not isinstance(block, TextBlock | ThinkingBlock):
            raise ConfigurationError(
                f"{type(block).__name__} is not supported: SwiftLLM sends text and tool calls.",
                hint="Use the LLM OpenAILike with `swift-client serve`, which passes all content on.",
            )
    fields = {"tool_calls": calls or None, "tool_call_id": message.additional_kwargs.get("tool_call_id")}
    content = message.content or (None if calls else "")
    return {"role": message.role.value, "content": content} | {k: v for k, v in fields.items() if v is not None}
