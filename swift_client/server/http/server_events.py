"""Server-sent events: one object of JSON each, and texts in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swift_client.server.http.json_reply import encode_json

KEEP_ALIVE = b": sampling\n\n"  # a comment, which clients ignore
_PIECE = 64  # characters of a text in one event


def server_event(value: Mapping[str, Any], *, name: str | None = None) -> bytes:
    """Return one event in ASCII, so that no character of a text can end a line.

    Args:
        value: JSON-ready values.
        name: name of the event; None: it has none.
    """
    head = b"" if name is None else b"event: " + name.encode("ascii") + b"\n"
    return head + b"data: " + encode_json(value, ascii_only=True) + b"\n\n"


def split_text(text: str) -> Iterator[str]:
    """Yield a text in the pieces of a stream; none for an empty one."""
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]
