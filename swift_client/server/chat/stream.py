"""A reply as chunks of a stream: the winner in pieces, then the usage and the ``swift`` object. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swift_client.server.http.error_reply import ErrorReply
from swift_client.server.http.server_events import server_event, split_text
from swift_client.server.question.reply_parts import ReplyFacts

DONE = b"data: [DONE]\n\n"


def failure_event(reply: ErrorReply, facts: ReplyFacts) -> bytes:
    """Return an error as the event that OpenAI's clients raise it from: the status has been sent by then."""
    return server_event(reply.body)


def reply_events(completion: Mapping[str, Any], facts: ReplyFacts) -> Iterator[bytes]:
    """Yield the events of a chat.completion: every choice in turn, then usage if the call asks for it.

    The last chunk has the ``swift`` object; the last event is ``DONE``.
    """
    base = {"id": completion["id"], "object": "chat.completion.chunk", "created": completion["created"]}
    base |= {"model": completion["model"]}
    chunks = [chunk for choice in completion["choices"] for chunk in _choice_chunks(choice)]
    rows: list[dict[str, Any]] = [{**base, "choices": [chunk]} for chunk in chunks]
    if facts.call.include_usage:
        rows = [{**row, "usage": None} for row in rows]
        rows.append({**base, "choices": [], "usage": completion["usage"]})
    rows[-1]["swift"] = completion["swift"]
    for row in rows:
        yield server_event(row)
    yield DONE


def _choice_chunks(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    message = choice["message"]

    def chunk(delta: Mapping[str, Any], **further: Any) -> dict[str, Any]:
        return {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": None, **further}

    # Logprobs come with the first piece of text, as whole lists may.
    yield chunk({"role": "assistant", "content": None if message["content"] is None else ""})
    logprobs = choice["logprobs"]
    for name in ("reasoning_content", "content", "refusal"):
        text = message.get(name) or ""
        for part in split_text(text):
            piece = chunk({name: part})
            if name == "content" and logprobs is not None:
                piece["logprobs"], logprobs = logprobs, None
            yield piece
    for position, call in enumerate(message.get("tool_calls", ())):
        yield chunk({"tool_calls": [{"index": position, **call}]})
    if "function_call" in message:
        yield chunk({"function_call": message["function_call"]})
    yield chunk({}, finish_reason=choice["finish_reason"])
