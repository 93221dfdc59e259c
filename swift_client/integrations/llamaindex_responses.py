"""A Selection as a response of LlamaIndex, with its tool calls, and as a stream of one chunk."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from swift_client.integrations.openai_format import chat_completion
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Selection

with peer_package("llama-index-core"):
    from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ThinkingBlock, ToolCallBlock
    from llama_index.core.llms.llm import ToolSelection


def chat_response(selection: Selection) -> ChatResponse:
    """Return the chosen message, with the reply in OpenAI's format as ``raw``."""
    reply = chat_completion(selection)
    message = reply["choices"][0]["message"]
    text = message["content"] or message["refusal"] or ""
    blocks: list[Any] = [TextBlock(text=text)]
    if thinking := message.get("reasoning_content"):
        blocks.insert(0, ThinkingBlock(content=thinking))
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"].values()
        blocks.append(ToolCallBlock(tool_call_id=call["id"], tool_name=name, tool_kwargs=_parsed(arguments)))
    return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), raw=reply, delta=text)


def tool_selections(response: ChatResponse, error_on_no_tool_call: bool = True, **fields: Any) -> list[ToolSelection]:
    """Return the tool calls of a response; the parameters are LlamaIndex's.

    Raises:
        ValueError: there are none, and one is required.
    """
    calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if error_on_no_tool_call and not calls:
        raise ValueError("The answer calls no tool.")
    return [
        ToolSelection(tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=call.tool_kwargs)
        for call in calls
    ]


async def stream_of(response: ChatResponse) -> AsyncGenerator[ChatResponse, None]:
    """Yield a whole response as the one chunk of a stream."""
    yield response


def _parsed(arguments: str) -> dict[str, Any] | str:
    """Return the arguments of a tool call; broken JSON stays text, as the model wrote it."""
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    return values if isinstance(values, dict) else arguments
