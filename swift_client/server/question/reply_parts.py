"""Parts of a reply that all APIs have: how the answer was chosen, and its logprobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swift_client.display import selection_dict
from swift_client.server.question.call import ChatCall
from swift_client.types import Completion, Selection

# Members of ``Selection.to_dict()`` that the reply has elsewhere, or that are the caller's own.
_LEFT_OUT = ("text", "usage", "parsed", "fields", "path", "shadow")


@dataclass(frozen=True, kw_only=True)
class ReplyFacts:
    """The facts of a reply besides the Selection: its id, its time in Unix seconds, and the call that it answers."""

    id: str
    created: int
    call: ChatCall


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
