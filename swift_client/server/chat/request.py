"""A body of ``/v1/chat/completions`` as a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swift_client.server.question.body_fields import drop_nulls, invalid_field, typed_field, whole_number
from swift_client.server.question.call import ChatCall, parse_override

MAX_CHOICES = 128  # as OpenAI's limit of ``n``
# Fields that are read here; all others pass through.
_OWN_FIELDS = frozenset(
    ["model", "messages", "n", "stream", "stream_options", "seed", "swift", "logprobs", "top_logprobs"]
)


def parse_chat_call(body: Mapping[str, Any]) -> ChatCall:
    """Read the decoded body of a request.

    Raises:
        HttpError: 400: a field has the wrong type; ``param`` names the field.
    """
    body = drop_nulls(body)
    messages = typed_field(body, "messages", list)
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise invalid_field("messages", "must be a list of at least one message object")
    stream_options = typed_field(body, "stream_options", dict, {})
    return ChatCall(
        model=typed_field(body, "model", str),
        messages=messages,
        n_choices=whole_number(body, "n", low=1, high=MAX_CHOICES) or 1,
        stream=typed_field(body, "stream", bool, False),
        include_usage=stream_options.get("include_usage") is True,
        wants_logprobs=typed_field(body, "logprobs", bool, False),
        wants_function_call="functions" in body and "tools" not in body,
        seed=whole_number(body, "seed", low=-(2**63), high=2**63 - 1),
        override=parse_override(body.get("swift", {})),
        fields={name: value for name, value in body.items() if name not in _OWN_FIELDS},
    )
