"""A body of ``/v1/responses`` as a call in the terms of chat completions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from swift_client.server.question.body_fields import (
    drop_nulls,
    invalid_field,
    typed_field,
    unsupported_field,
    whole_number,
)
from swift_client.server.question.call import ChatCall, parse_override
from swift_client.server.responses.input_items import chat_messages
from swift_client.server.responses.tools import chat_tool_choice, chat_tools

LOGPROBS_INCLUDE = "message.output_text.logprobs"
_INCLUDES = (LOGPROBS_INCLUDE, "reasoning.encrypted_content")  # the second asks for no more than there is: nothing
_KEEPS_NOTHING = "the service keeps no responses: send the whole conversation as 'input'"
_UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "previous_response_id": _KEEPS_NOTHING,
        "conversation": _KEEPS_NOTHING,
        "context_management": _KEEPS_NOTHING,
        "background": "use 'stream' for answers that take long",
        "prompt": "the service keeps no prompts: send the text as 'instructions' and 'input'",
    }
)
# Fields that are read here; all others pass through.
_OWN_FIELDS = frozenset(
    (
        *("model", "input", "instructions", "tools", "tool_choice", "text", "max_output_tokens", "reasoning"),
        *("stream", "stream_options", "seed", "swift", "include", "top_logprobs", "store", "metadata", "truncation"),
        "max_tool_calls",  # a limit of tools that run on the server: here are none
        *_UNSUPPORTED,
    )
)
# Fields of chat completions → their place in a response.
_CHAT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "messages": "input",
        "functions": "tools",
        "function_call": "tool_choice",
        "response_format": "text.format",
        "verbosity": "text.verbosity",
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "logprobs": "include",
        "n": "swift.n",
    }
)


def parse_response_call(body: Mapping[str, Any]) -> ChatCall:
    """Read the decoded body of a request.

    Raises:
        HttpError: 400: a field has the wrong type, or needs a state that the service does not keep;
            ``param`` names the field.
    """
    body = drop_nulls(body)
    _refuse_unsupported(body)
    include = typed_field(body, "include", list, [])
    for position, name in enumerate(include):
        if name not in _INCLUDES:
            raise unsupported_field(f"include[{position}]", f"must be one of {', '.join(_INCLUDES)}")
    whole_number(body, "top_logprobs", low=0, high=20)
    typed_field(body, "stream_options", dict, {})
    messages = chat_messages(body.get("input"))
    if instructions := typed_field(body, "instructions", str, ""):
        messages.insert(0, {"role": "system", "content": instructions})
    return ChatCall(
        model=typed_field(body, "model", str),
        messages=messages,
        stream=typed_field(body, "stream", bool, False),
        wants_logprobs=LOGPROBS_INCLUDE in include,
        seed=whole_number(body, "seed", low=-(2**63), high=2**63 - 1),
        override=parse_override(body.get("swift", {})),
        fields=_chat_fields(body),
        repeated=_repeated_fields(body),
    )


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name, hint in _UNSUPPORTED.items():
        if name in body and not (name == "background" and body[name] is False):
            raise unsupported_field(name, f"is not supported; {hint}")
    for name, place in _CHAT_NAMES.items():
        if name in body:
            raise unsupported_field(name, f"is a field of chat completions; a response has {place!r}")
    if body.get("truncation", "disabled") != "disabled":
        raise unsupported_field("truncation", "must be 'disabled'")


def _chat_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion that mean the same."""
    fields = {name: value for name, value in body.items() if name not in _OWN_FIELDS}
    if "max_output_tokens" in body:
        fields["max_tokens"] = whole_number(body, "max_output_tokens", low=1, high=2**53)
    if "tools" in body:
        fields["tools"] = chat_tools(typed_field(body, "tools", list))
    if "tool_choice" in body:
        fields["tool_choice"] = chat_tool_choice(body["tool_choice"])
    if (effort := typed_field(body, "reasoning", dict, {}).get("effort")) is not None:
        fields["reasoning_effort"] = effort
    text = typed_field(body, "text", dict, {})
    if text.get("verbosity") is not None:
        fields["verbosity"] = text["verbosity"]
    if (response_format := _response_format(text)) is not None:
        fields["response_format"] = response_format
    metadata = typed_field(body, "metadata", dict, {})
    if typed_field(body, "store", bool, False):  # by the provider, which takes notes on stored answers only
        fields |= {"store": True, "metadata": metadata} if metadata else {"store": True}
    return fields


def _response_format(text: Mapping[str, Any]) -> dict[str, Any] | None:
    layout = typed_field(text, "format", dict, {}, place="text.") if text.get("format") is not None else {}
    match layout.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = {name: value for name, value in layout.items() if name != "type" and value is not None}
            return {"type": "json_schema", "json_schema": schema}
    raise invalid_field("text.format.type", "must be text, json_object or json_schema")


def _repeated_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a response that repeat its request, with the API's defaults."""
    defaults: dict[str, Any] = {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }
    # It cannot be fetched here later, whatever the provider keeps.
    return {name: body.get(name, default) for name, default in defaults.items()} | {"background": False, "store": False}
