"""The field ``input`` of a response as messages of a chat. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swift_client.server.http.error_reply import HttpError
from swift_client.server.question.body_fields import invalid_field, typed_field, unsupported_field

_ROLES = ("user", "assistant", "system", "developer")


def chat_messages(value: object) -> list[dict[str, Any]]:
    """Return a text or a list of items as messages; reasoning, for which a chat has no message, is left out.

    Raises:
        HttpError: 400: an item is wrong, or has a kind that a chat cannot hold; ``param`` names the place.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise invalid_field("input", "must be a text or a list of at least one item")
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(value):
        place = f"input[{index}]"
        if not isinstance(item, dict):
            raise invalid_field(place, "must be an object")
        match item.get("type") or "message":
            case "message":
                messages.append(_message(item, place))
            case "function_call":
                _add_call(messages, item, place)
            case "function_call_output":
                messages.append(_call_output(item, place))
            case "reasoning":
                pass
            case "item_reference":
                raise unsupported_field(place, "refers to another response, and the service keeps none: send the item")
            case kind:
                raise unsupported_field(f"{place}.type", f"{str(kind)[:100]!r} is a kind of item that is not supported")
    if not messages:
        raise invalid_field("input", "has no message")
    return messages


def _message(item: Mapping[str, Any], place: str) -> dict[str, Any]:
    role = typed_field(item, "role", str, place=f"{place}.")
    if role not in _ROLES:
        raise invalid_field(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
    return {"role": role, "content": _content(item, "content", place, as_text=role == "assistant")}


def _add_call(messages: list[dict[str, Any]], item: Mapping[str, Any], place: str) -> None:
    """Add a call to the assistant's message before it, or to a new one."""
    call_id, name, arguments = (
        typed_field(item, field, str, place=f"{place}.") for field in ("call_id", "name", "arguments")
    )
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": name, "arguments": arguments}
    messages[-1].setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})


def _call_output(item: Mapping[str, Any], place: str) -> dict[str, Any]:
    call_id = typed_field(item, "call_id", str, place=f"{place}.")
    return {"role": "tool", "tool_call_id": call_id, "content": _content(item, "output", place, as_text=True)}


def _content(item: Mapping[str, Any], name: str, place: str, *, as_text: bool) -> str | list[dict[str, Any]]:
    """Return the content of a message: a text, or a list of parts unless only a text is allowed."""
    content, place = item.get(name), f"{place}.{name}"
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid_field(place, "must be a text or a list of parts")
    parts = [_part(part, f"{place}[{index}]") for index, part in enumerate(content)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) < len(parts) and as_text:
        raise unsupported_field(place, "may hold texts only")
    # One text as a list would be refused by some servers.
    return "".join(texts) if as_text or len(texts) == len(parts) <= 1 else parts


def _part(part: object, place: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise invalid_field(place, "must be an object")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": typed_field(part, "text", str, place=f"{place}.")}
        case "refusal":
            return {"type": "text", "text": typed_field(part, "refusal", str, place=f"{place}.")}
        case "input_image":
            if part.get("file_id") is not None:
                raise _needs_files(place, "file_id")
            image = {"url": typed_field(part, "image_url", str, place=f"{place}.")}
            return {"type": "image_url", "image_url": image | _present(part, "detail")}
        case "input_file":
            if part.get("file_url") is not None:
                raise _needs_files(place, "file_url")
            return {"type": "file", "file": _present(part, "file_data", "filename", "file_id")}
        case "input_audio":
            return {"type": "input_audio", "input_audio": typed_field(part, "input_audio", dict, place=f"{place}.")}
        case kind:
            raise unsupported_field(f"{place}.type", f"{str(kind)[:100]!r} is a kind of part that is not supported")


def _present(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: part[name] for name in names if part.get(name) is not None}


def _needs_files(place: str, name: str) -> HttpError:
    return unsupported_field(f"{place}.{name}", "is not supported: send the content itself as a data URL")
