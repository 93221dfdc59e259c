"""A Selection as a response of OpenAI's Responses API. Pure."""

from __future__ import annotations

from typing import Any

from swift_client.adapters.codecs.openai_chat.message import thinking_text, tool_call_dict, visible_parts
from swift_client.server.http.error_reply import ErrorReply
from swift_client.server.question.reply_parts import ReplyFacts, completion_logprobs, swift_object
from swift_client.types import Completion, Selection


def response_object(selection: Selection, facts: ReplyFacts) -> dict[str, Any]:
    """Return the reply as JSON-ready values; its items are the thinking, the text and the calls of the winner."""
    completion = selection.best.completion
    reason = _incomplete_reason(completion)
    status = "incomplete" if reason else "completed"
    return {
        **_response(facts, status),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output_items(completion, facts, status),
        "usage": _usage(selection),
        "swift": swift_object(selection, facts),
    }


def pending_response(facts: ReplyFacts) -> dict[str, Any]:
    """Return the response as it is before its answer is chosen."""
    return _response(facts, "in_progress")


def failed_response(reply: ErrorReply, facts: ReplyFacts) -> dict[str, Any]:
    """Return the response of a request that failed."""
    error = reply.body["error"]
    return _response(facts, "failed") | {
        "error": {"code": error["code"] or "server_error", "message": error["message"]}
    }


def _response(facts: ReplyFacts, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{facts.id}",
        "object": "response",
        "created_at": facts.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": facts.call.model,
        "output": [],
        **facts.call.repeated,
        "usage": None,
    }


def _output_items(completion: Completion, facts: ReplyFacts, status: str) -> list[dict[str, Any]]:
    content, refusal, calls = visible_parts(completion)
    items: list[dict[str, Any]] = []
    if thinking := thinking_text(completion):
        parts = [{"type": "reasoning_text", "text": thinking}]
        items.append({"id": f"rs_{facts.id}", "type": "reasoning", "summary": [], "content": parts, "status": status})
    part: dict[str, Any] | None = None
    if refusal is not None:
        part = {"type": "refusal", "refusal": refusal}
    elif content is not None:
        logprobs = completion_logprobs(completion)["content"] if facts.call.wants_logprobs else []
        part = {"type": "output_text", "text": content, "annotations": [], "logprobs": logprobs}
    if part is not None:
        message = {"id": f"msg_{facts.id}", "type": "message", "role": "assistant"}
        items.append({**message, "status": status, "content": [part]})
    for position, call in enumerate(calls):
        row = tool_call_dict(call, facts.id, 0, position)
        item = {"id": f"fc_{facts.id}_{position}", "type": "function_call", "call_id": row["id"]}
        items.append({**item, **row["function"], "status": status})
    return items


def _incomplete_reason(completion: Completion) -> str | None:
    """Return OpenAI's word for the reason why a completion is not whole; None for a whole one."""
    match completion.finish_reason:
        case "length" | "error":
            return "max_output_tokens"
        case "content_filter":
            return "content_filter"
        case "refusal" if not completion.text:
            return "content_filter"
    return None


def _usage(selection: Selection) -> dict[str, Any]:
    """Return the tokens of all completions and judgements; the part of the thinking is not known."""
    usage = selection.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
