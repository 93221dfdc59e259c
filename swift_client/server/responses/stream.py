"""A response as the events of a stream, numbered in order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swift_client.server.http.error_reply import ErrorReply
from swift_client.server.http.server_events import server_event, split_text
from swift_client.server.question.reply_parts import ReplyFacts
from swift_client.server.responses.reply import failed_response, pending_response

_Event = tuple[str, dict[str, Any]]  # name and members
_N_OPENING = 2  # events of ``opening_events()``, before which nothing is sent

# Kind of a part → the name of its events, and the member with its text.
_PART_EVENTS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
}


def opening_events(facts: ReplyFacts) -> bytes:
    """Return the events before the answer is chosen."""
    members = {"response": pending_response(facts)}
    return b"".join(_numbered([("response.created", members), ("response.in_progress", members)], start=0))


def response_events(response: Mapping[str, Any], facts: ReplyFacts) -> Iterator[bytes]:
    """Yield the events of a response: its items in turn, then the whole of it with the ``swift`` object."""
    events = [
        event for index, item in enumerate(response["output"]) for event in _item_events(item, output_index=index)
    ]
    events.append((f"response.{response['status']}", {"response": response}))
    yield from _numbered(events, start=_N_OPENING)


def failure_events(reply: ErrorReply, facts: ReplyFacts) -> bytes:
    """Return an error as the events that OpenAI's clients raise it from: the status has been sent by then."""
    error = reply.body["error"]
    # The API's description has the members beside ``type``; its service sends them within ``error``.
    members = {name: error[name] for name in ("code", "message", "param")} | reply.body
    events = [("error", members), ("response.failed", {"response": failed_response(reply, facts)})]
    return b"".join(_numbered(events, start=_N_OPENING))


def _numbered(events: list[_Event], *, start: int) -> Iterator[bytes]:
    for number, (name, members) in enumerate(events, start):
        yield server_event({"type": name, "sequence_number": number, **members}, name=name)


def _item_events(item: Mapping[str, Any], *, output_index: int) -> Iterator[_Event]:
    place: dict[str, Any] = {"output_index": output_index}
    is_call = item["type"] == "function_call"
    empty: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
    yield "response.output_item.added", {**place, "item": {**item, **empty, "status": "in_progress"}}
    place["item_id"] = item["id"]
    if is_call:
        for piece in split_text(item["arguments"]):
            yield "response.function_call_arguments.delta", {**place, "delta": piece}
        members = {"name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", {**place, **members}
    else:
        for index, part in enumerate(item["content"]):
            yield from _part_events(part, {**place, "content_index": index})
    yield "response.output_item.done", {"output_index": output_index, "item": item}


def _part_events(part: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[_Event]:
    name, member = _PART_EVENTS[part["type"]]
    has_logprobs = "logprobs" in part
    empty: dict[str, Any] = {"logprobs": []} if has_logprobs else {}
    yield "response.content_part.added", {**place, "part": {**part, member: "", **empty}}
    logprobs = part.get("logprobs")
    for piece in split_text(part[member]):
        # Logprobs come with the first piece of text, as whole lists may.
        yield f"{name}.delta", {**place, "delta": piece, **({"logprobs": logprobs} if has_logprobs else {})}
        logprobs = []
    whole = {"logprobs": part["logprobs"]} if has_logprobs else {}
    yield f"{name}.done", {**place, member: part[member], **whole}
    yield "response.content_part.done", {**place, "part": part}
