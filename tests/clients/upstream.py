"""The model behind the service: it calls the first tool of a request, fills a schema, or answers."""

from __future__ import annotations

import json
from typing import Any

from tests.servers import Received, Response, after, chat_body, json_response

ANSWERS = ("17 * 24 = 408. The answer is 408", "The answer is 408", "The answer is 398")
INVOICE = {"number": "17", "total": 408.0}
CITY = {"city": "Oslo"}
WEATHER = "It is 4 degrees in Oslo. The answer is 4"


SECONDS = 0.03
"""Until the first byte of a reply, so that streams have comments before the answer."""


def reply(request: Received) -> Response:
    """Return as many choices as a request asks for."""
    return after(SECONDS, json_response(_completion(request.json)))


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    n = body.get("n", 1)
    texts = [ANSWERS[index % len(ANSWERS)] for index in range(n)]
    if body["messages"][-1]["role"] == "tool":
        texts = [WEATHER] * n
    elif tools := body.get("tools"):
        return _tool_calls(tools[0]["function"], n)
    elif body.get("response_format", {}).get("type") == "json_schema":
        texts = [json.dumps(INVOICE)] * n
    return chat_body(texts, k=body.get("top_logprobs") if body.get("logprobs") else None)


def _tool_calls(function: dict[str, Any], n: int) -> dict[str, Any]:
    """Return a reply that calls a function, with a city or with the fields of an invoice."""
    arguments = CITY if "city" in function["parameters"]["properties"] else INVOICE
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": function["name"], "arguments": json.dumps(arguments)},
    }
    body = chat_body(["x"] * n, k=None, finish_reason="tool_calls")
    for choice in body["choices"]:
        choice["message"] |= {"content": None, "tool_calls": [call]}
    return body
