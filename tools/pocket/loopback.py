"""One JSON request to a server on loopback."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def post(base_url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send ``body`` and return the reply; raises urllib's HTTPError if the server refuses."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        base_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
        parsed: dict[str, Any] = json.load(reply)
        return parsed
