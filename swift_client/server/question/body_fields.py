"""Fields of a JSON body, read with errors that name the field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from swift_client.server.http.error_reply import HttpError

_KINDS = {str: "a text", bool: "true or false", list: "a list", dict: "an object"}


def decode_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        HttpError: 400: it is not a JSON object.
    """
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise HttpError(400, "The body must be a JSON object.", code="invalid_json")
    return body


def drop_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without the members that are null, which mean the same as missing ones."""
    return {name: value for name, value in body.items() if value is not None}


def typed_field(body: Mapping[str, Any], name: str, kind: type, default: Any = None, *, place: str = "") -> Any:
    """Return a member of an object.

    Args:
        body: the object.
        name: name of the member.
        kind: its type.
        default: its value if it is missing; None: it is required.
        place: where the object is in the body, such as "input[0].", for errors.

    Raises:
        HttpError: 400: it has another type, or is missing.
    """
    value = body.get(name, default)
    if isinstance(value, kind):
        return value
    raise invalid_field(f"{place}{name}", f"must be {_KINDS[kind]}" if name in body else "is missing")


def whole_number(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    """Return a member of an object that is a whole number from ``low`` to ``high``; None if it is missing.

    Raises:
        HttpError: 400: it is anything else.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid_field(name, f"must be a whole number from {low} to {high}")
    return value


def invalid_field(param: str, problem: str) -> HttpError:
    """Return the error for a field with a wrong value."""
    return HttpError(400, f"{param!r} {problem}.", code="invalid_value", param=param)


def unsupported_field(param: str, problem: str) -> HttpError:
    """Return the error for a field, or a kind of value, that this service does not have."""
    return HttpError(400, f"{param!r} {problem}.", code="unsupported_parameter", param=param)
