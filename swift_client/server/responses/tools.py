"""Tools in the flat form of the Responses API as tools of a chat. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swift_client.server.question.body_fields import invalid_field, typed_field, unsupported_field

_FUNCTION_FIELDS = ("name", "description", "parameters", "strict")


def chat_tools(tools: Sequence[object]) -> list[dict[str, Any]]:
    """Return functions in the nested form of a chat.

    Raises:
        HttpError: 400: a tool is not a function, or has no name.
    """
    functions = []
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise invalid_field(place, "must be an object")
        _require_function(tool.get("type"), place)
        typed_field(tool, "name", str, place=f"{place}.")
        function = {name: tool[name] for name in _FUNCTION_FIELDS if tool.get(name) is not None}
        functions.append({"type": "function", "function": function})
    return functions


def chat_tool_choice(choice: object, place: str = "tool_choice") -> Any:
    """Return the choice of a tool in the form of a chat. Raises HttpError with status 400 for anything else."""
    if isinstance(choice, str):
        return choice
    if not isinstance(choice, dict):
        raise invalid_field(place, "must be a text or an object")
    if choice.get("type") == "allowed_tools" and place == "tool_choice":
        tools = typed_field(choice, "tools", list, place=f"{place}.")
        allowed = [chat_tool_choice(tool, f"{place}.tools[{index}]") for index, tool in enumerate(tools)]
        mode = typed_field(choice, "mode", str, "auto", place=f"{place}.")
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    _require_function(choice.get("type"), place)
    return {"type": "function", "function": {"name": typed_field(choice, "name", str, place=f"{place}.")}}


def _require_function(kind: object, place: str) -> None:
    if kind != "function":
        raise unsupported_field(
            f"{place}.type", f"{str(kind)[:100]!r} is not supported; the service passes functions only"
        )
