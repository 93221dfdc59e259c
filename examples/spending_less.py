"""Spend less: stop early, set a budget, and reuse stored replies.

    python examples/spending_less.py

Uses the packaged model, or OpenAI if OPENAI_API_KEY is set.
"""

import os
import tempfile
from pathlib import Path

from swift_client import Budget, SwiftReranker

QUESTION = "A coin is heads up. Ada flips the coin. Leo does not flip the coin. Is the coin still heads up?"

provider = "openai" if os.environ.get("OPENAI_API_KEY") else "pocket"

with tempfile.TemporaryDirectory() as folder, SwiftReranker(provider, store=Path(folder) / "replies.db") as reranker:
    for attempt in ("first", "second"):
        selection = reranker.best_of(
            QUESTION,
            n=16,
            temperature=0.8,
            seed=1,
            stopping="auto",  # stop when more completions are unlikely to change the choice
            budget=Budget(tokens=20_000),  # a request is sent only if its worst case fits
            max_tokens=200,
        )
        print(f"{attempt}: {selection.answer!r} from {len(selection.candidates)} completions")
        print(f"  {selection.usage.calls} calls, {selection.reused} completions from the store")
        print(f"  {selection.stopped.reason if selection.stopped else 'not stopped early'}")
