"""Rerankers for the scripts of this folder: of a server that obeys or refuses, and of the packaged model."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from harness import URL, error_of

from swift_client import AsyncSwiftReranker, Price, SwiftReranker

STATUSES = (400, 401, 403, 404, 429, 500)
PACKAGED_QUESTION = "Ann has 3 red cups. Tom has 4 times as many. How many cups do they have together?"


def reranker(model: str = "m", **options: Any) -> SwiftReranker:
    """Return a reranker of the server; its tokens cost 1 and 2 dollars per million."""
    settings = {"base_url": URL, "max_retries": 0, "prices": Price(input=1, output=2), **options}
    return SwiftReranker("openai-compatible", model, **settings)


def async_reranker() -> AsyncSwiftReranker:
    """Return a reranker for the caller's event loop."""
    return AsyncSwiftReranker("openai-compatible", "m", base_url=URL, max_retries=0)


def packaged_reranker() -> SwiftReranker:
    """Return a reranker of the packaged model, whose server the test runs."""
    return SwiftReranker("pocket", base_url=os.environ["POCKET_URL"], head="pocket/pocket")


def errors_of(ask: Callable[[SwiftReranker], object]) -> dict[str, str]:
    """Return the classes of the errors by HTTP status, and for a refused connection and a timeout."""
    with ExitStack() as stack:
        models = {f"{status}": reranker(f"status-{status}") for status in STATUSES}
        models["connection"] = reranker(base_url="http://127.0.0.1:9/v1")
        models["timeout"] = reranker("slow", timeout=0.1)
        for model in models.values():
            stack.enter_context(model)
        return {name: error_of(lambda model=model: ask(model)) for name, model in models.items()}


def facts_of(swift: dict[str, Any]) -> list[object]:
    """Return the answer, the signal, the number of candidates, and the cost in millionths of a dollar."""
    return [swift["answer"], swift["signal"], len(swift["candidates"]), round(swift["cost"] * 1e6)]


def packaged_facts(swift: dict[str, Any]) -> list[object]:
    """Return the head, the signal, and whether there is a calibrated probability."""
    return [swift["scorer"], swift["signal"], 0 < swift["answer_probability"] < 1]
