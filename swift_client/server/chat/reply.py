"""A Selection as a chat.completion of OpenAI, with a ``swift`` object and headers that say how it was chosen. Pure."""

from __future__ import annotations

import math
from typing import Any

from swift_client.adapters.codecs.openai_chat.message import finish_reason, message_dict, usage_dict
from swift_client.server.question.call import ChatCall
from swift_client.server.question.reply_parts import ReplyFacts, completion_logprobs, swift_object
from swift_client.types import Candidate, Completion, Selection, completeness


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
        "usage": usage_dict(selection.usage),
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


def _message(completion: Completion, facts: ReplyFacts, choice: int) -> dict[str, Any]:
    message = message_dict(completion, facts.id, choice)
    if facts.call.wants_function_call and (calls := message.pop("tool_calls", None)):
        message["function_call"] = calls[0]["function"]
    return message


def _finish_reason(completion: Completion, call: ChatCall) -> str:
    reason = finish_reason(completion)
    return "function_call" if reason == "tool_calls" and call.wants_function_call else reason
