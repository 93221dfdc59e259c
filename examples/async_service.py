"""Answer many questions at once on one event loop, as a web service does.

    python examples/async_service.py

One AsyncSwiftReranker serves the whole process. It runs on your event loop without blocking it, and keeps at most
max_concurrency calls in flight. Uses the packaged model, or OpenAI if OPENAI_API_KEY is set.
"""

import asyncio
import os
import time

from swift_client import AsyncSwiftReranker
from swift_client.errors import SwiftClientError

QUESTIONS = [
    "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?",
    "A coin is heads up. Ada flips the coin. Leo does not flip the coin. Is the coin still heads up?",
    'Concatenate the last letter of each word: "tree plus lamp".',
]


async def handle(reranker: AsyncSwiftReranker, question: str) -> dict[str, object]:
    """Return the response of a route: an answer, or an error in a field of its own."""
    try:
        selection = await reranker.best_of(question, n=8, deadline=15.0, min_completions=2)
    except SwiftClientError as error:
        return {"error": error.message, "hint": error.hint, "retry": error.retryable}
    return {"text": selection.text, "answer": selection.answer, "tokens": selection.usage.completion_tokens}


async def main() -> None:
    provider = "openai" if os.environ.get("OPENAI_API_KEY") else "pocket"
    start = time.perf_counter()
    async with AsyncSwiftReranker(provider, max_concurrency=8) as reranker:
        replies = await asyncio.gather(*(handle(reranker, question) for question in QUESTIONS))
    for question, reply in zip(QUESTIONS, replies, strict=True):
        print(f"{question}\n  {reply}")
    print(f"{time.perf_counter() - start:.1f} s in total")


asyncio.run(main())
