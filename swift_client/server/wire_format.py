"""The APIs of OpenAI that the service has: their paths, and the functions that read and write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from swift_client.server.chat.reply import chat_completion
from swift_client.server.chat.request import parse_chat_call
from swift_client.server.chat.stream import failure_event, reply_events
from swift_client.server.http.error_reply import ErrorReply
from swift_client.server.question.call import ChatCall
from swift_client.server.question.reply_parts import ReplyFacts
from swift_client.server.responses.reply import response_object
from swift_client.server.responses.request import parse_response_call
from swift_client.server.responses.stream import failure_events, opening_events, response_events
from swift_client.types import Selection


@dataclass(frozen=True, kw_only=True)
class WireFormat:
    """One API of OpenAI: how a body becomes a call, and a Selection a reply or the events of a stream.

    Attributes:
        path: Path below "/v1".
        parse: Reads a decoded body.
        reply: Returns the reply, as JSON-ready values.
        opening: Returns the events of a stream before its answer is chosen.
        events: Yields the events of a reply.
        failure: Returns the events of an error.
    """

    path: str
    parse: Callable[[Mapping[str, Any]], ChatCall]
    reply: Callable[[Selection, ReplyFacts], dict[str, Any]]
    opening: Callable[[ReplyFacts], bytes] = lambda facts: b""
    events: Callable[[Mapping[str, Any], ReplyFacts], Iterator[bytes]]
    failure: Callable[[ErrorReply, ReplyFacts], bytes]


CHAT = WireFormat(
    path="/chat/completions", parse=parse_chat_call, reply=chat_completion, events=reply_events, failure=failure_event
)
RESPONSES = WireFormat(
    path="/responses", parse=parse_response_call, reply=response_object, opening=opening_events, events=response_events,
    failure=failure_events,
)  # fmt: skip
