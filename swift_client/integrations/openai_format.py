"""A Selection, and a choice of tools, in the format of OpenAI's chat completions. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from swift_client.adapters.codecs.openai_chat.message import finish_reason, message_dict, usage_dict
from swift_client.types import Selection

ToolChoice = str | Mapping[str, Any] | None


def chat_completion(selection: Selection) -> dict[str, Any]:
    """Return a Selection as OpenAI's chat.completion; its member ``swift`` is ``selection.to_dict()``."""
    completion = selection.best.completion
    message, reason = message_dict(completion, selection.id), finish_reason(completion)
    return {
        "id": f"chatcmpl-{selection.id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": selection.model or selection.provider or "",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": usage_dict(selection.usage),
        "swift": selection.to_dict(),
    }


def named_tool_choice(choice: ToolChoice) -> ToolChoice:
    """Return a choice of tools as OpenAI writes it; "any" is "required" there, and other words are a tool's name."""
    if choice in (None, "auto", "none", "required") or not isinstance(choice, str):
        return choice
    return "required" if choice == "any" else {"type": "function", "function": {"name": choice}}
