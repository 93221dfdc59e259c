"""A Selection as a chat.completion of OpenAI, with a ``swift`` object and headers that say how it was chosen. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from swift_client.adapters.codecs.reply import canonical_tool_calls
from swift_client.display import selection_dict
from swift_client.server.chat.request import ChatCall
from swift_client.types import Candidate, Completion, FinishReason, Selection, ToolCall, completeness

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
# Members of ``Selection.to_dict()`` that the reply has elsewhere, or that are the caller's own.
_LEFT_OUT = ("text", "usage", "parsed", "fields", "path")


@dataclass(frozen=True, kw_only=True)
class ReplyFacts:
    """The facts of a reply besides the Selection: its id, its time in Unix seconds, and the call that it answers."""

    id: str
    created: int
    call: ChatCall


def chat_completion(selection: Selection, facts: ReplyFacts) -> dict[str, Any]:
    """Return the reply as JSON-ready values; its choices are the best ``n`` of the request, best first."""
    ranked = rank_candidates(selection)[: facts.call.n_choices]
    return {
        "id": f"chatcmpl-{facts.id}",
        "object": "chat.completion",
        "created": facts.created,
        "model": facts.call.model,
        "choices": [
            {
                "index": index,
                "message": _message(candidate.completion, facts, index),
                "logprobs": completion_logprobs(candidate.completion) if facts.call.wants_logprobs else None,
                "finish_reason": _finish_reason(candidate.completion, facts.call),
            }
            for index, candidate in enumerate(ranked)
        ],
        "usage": usage_dict(selection),
        "swift": swift_object(selection, facts),
    }


def rank_candidates(selection: Selection) -> list[Candidate]:
    """Return the candidates, best first: the chosen one, then the finished ones by what the choice was made by.

    After a vote that is the support of an answer, the summed weight of its votes; after a consensus the similarity to
    the others. Scores, then the order of drawing, decide between equals.
    """
    support: dict[int, float] = {}
    for candidate in selection.candidates:
        if candidate.group is not None:
            support[candidate.group] = support.get(candidate.group, 0.0) + candidate.weight
    finished = completeness(candidate.completion for candidate in selection.candidates)

    def key(index: int) -> tuple[bool, bool, float, float, int]:
        candidate = selection.candidates[index]
        measure = 0.0
        if selection.method == "vote" and candidate.group is not None:
            measure = support[candidate.group]
        elif selection.method == "consensus":
            measure = candidate.consensus or 0.0
        score = candidate.score if candidate.score is not None and not math.isnan(candidate.score) else -math.inf
        return index != selection.winner, not finished[index], -measure, -score, index

    return [selection.candidates[index] for index in sorted(range(len(selection.candidates)), key=key)]


def usage_dict(selection: Selection) -> dict[str, Any]:
    """Return the tokens of all completions and judgements, as OpenAI reports usage."""
    usage = selection.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
    }


def swift_object(selection: Selection, facts: ReplyFacts) -> dict[str, Any]:
    """Return how the answer was chosen: the members of ``Selection.to_dict()`` that the reply does not have elsewhere.

    Candidates have their texts only if the request asks for them (``swift.texts``).
    """
    members = selection_dict(selection)
    for name in _LEFT_OUT:
        del members[name]
    if not facts.call.override.texts:
        members["candidates"] = [
            {name: value for name, value in row.items() if name != "text"} for row in members["candidates"]
        ]
    notes = list(members["notes"])
    if len(selection.candidates) < facts.call.n_choices:
        notes.append(f"Of {facts.call.n_choices} requested choices, {len(selection.candidates)} arrived.")
    return {
        "id": facts.id,
        **members,
        "calls": selection.usage.calls,
        "usage_estimated": selection.usage.estimated,
        "notes": notes,
    }


def swift_headers(selection: Selection) -> dict[str, str]:
    """Return the headers that describe a choice, for clients that show no further fields of the body."""
    headers = {
        "x-swift-method": selection.method,
        "x-swift-signal": selection.signal,
        "x-swift-candidates": str(len(selection.candidates)),
        "x-swift-failures": str(len(selection.failures)),
    }
    if selection.cost is not None:
        headers["x-swift-cost"] = f"{selection.cost:.6f}"
    if selection.stopped is not None:
        headers["x-swift-stopped"] = selection.stopped.rule.partition(":")[0]
    if selection.accepted is not None:
        headers["x-swift-accepted"] = str(selection.accepted).lower()
    return {name: value.encode("ascii", "replace").decode() for name, value in headers.items()}


def completion_logprobs(completion: Completion) -> dict[str, Any]:
    """Return the logprobs of the chosen tokens, nats; alternatives are not kept by name, so their lists are empty."""
    content = []
    for token, logprob in zip(completion.tokens, completion.logprobs.tolist(), strict=True):
        text = token.encode("utf-8", "replace").decode()
        # A token that is part of a character has lost its bytes.
        data = None if "�" in text else list(text.encode())
        content.append({"token": text, "logprob": round(logprob, 6), "bytes": data, "top_logprobs": []})
    return {"content": content, "refusal": None}


def visible_parts(completion: Completion) -> tuple[str | None, str | None, tuple[ToolCall, ...]]:
    """Return the content, the refusal and the tool calls of a completion; the first two None if there are none."""
    text = completion.text.encode("utf-8", "replace").decode()  # lone surrogates are not JSON
    if completion.finish_reason == "refusal":
        return None, text, ()
    calls = completion.tool_calls
    only_calls = calls and completion.text in ("", canonical_tool_calls(_call_dicts(calls)))
    return (None if only_calls else text), None, calls


def tool_call_dict(call: ToolCall, facts: ReplyFacts, choice: int, position: int) -> dict[str, Any]:
    """Return one tool call, with an id that is unique in the conversation."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{facts.id[:20]}_{choice}_{position}", "type": "function", "function": function}


def _message(completion: Completion, facts: ReplyFacts, choice: int) -> dict[str, Any]:
    content, refusal, calls = visible_parts(completion)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if calls and facts.call.wants_function_call:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [tool_call_dict(call, facts, choice, i) for i, call in enumerate(calls)]
    if completion.thinking is not None and completion.thinking.text:
        message["reasoning_content"] = completion.thinking.text.encode("utf-8", "replace").decode()
    return message


def _finish_reason(completion: Completion, call: ChatCall) -> str:
    reason = _FINISH_REASONS[completion.finish_reason]
    if completion.finish_reason == "refusal" and not completion.text:
        return "content_filter"
    return "function_call" if reason == "tool_calls" and call.wants_function_call else reason


def _call_dicts(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": call.arguments} for call in calls]
