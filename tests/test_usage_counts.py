"""Usage objects with odd counts: each count is read by itself, and none loses a stored reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swift_client import SwiftReranker
from swift_client.store import SampleStore
from tests.servers import FaultServer, chat_body, json_response


@pytest.mark.parametrize(
    ("count", "tokens"),
    [
        ("7", 7),
        (7.0, 7),
        (7.25, 7),
        ("7.0", 7),
        (2**63, 0),
        (1e300, 0),
        ("x", 0),
        (-1, 0),
        ([], 0),
        (None, 0),
        (True, 0),
    ],
)
def test_one_odd_count_costs_itself_alone(fault_server: FaultServer, tmp_path: Path, count: Any, tokens: int) -> None:
    body = chat_body(["4", "4"])
    body["usage"] = {"prompt_tokens": count, "completion_tokens": "30", "prompt_tokens_details": 5}
    fault_server.serve(lambda _: json_response(body))
    path = tmp_path / "s.db"
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, api_key="k", store=path) as best:
        usage = best.best_of("q", n=2).usage
    assert usage.prompt_tokens == tokens
    assert usage.completion_tokens == 30
    with SampleStore(path) as store:
        assert store.totals().samples == 2
