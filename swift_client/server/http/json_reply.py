"""Replies as JSON that every parser takes: no lone surrogate, which a model may write and JSON must not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from swift_client.server.http.error_reply import ErrorReply


def encode_json(value: Mapping[str, Any], *, ascii_only: bool = False) -> bytes:
    """Return ``value`` as JSON in UTF-8; lone surrogates become question marks.

    Args:
        value: JSON-ready values.
        ascii_only: whether to escape all other characters, so that none of them is a line separator to a client.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = text.encode("utf-8", "replace")
    return json.dumps(json.loads(data), separators=(",", ":")).encode() if ascii_only and not data.isascii() else data


class JsonReply(Response):
    """A reply of JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return encode_json(content)


def error_response(reply: ErrorReply) -> JsonReply:
    """Return the reply to an error."""
    return JsonReply(reply.body, reply.status, reply.headers)
