"""Choose among JSON objects: only answers that match a pydantic model can win.

    python examples/structured_output.py

Asks OpenAI if OPENAI_API_KEY is set. Otherwise it ranks four given replies; no request is sent.
"""

import json
import os

from pydantic import BaseModel

from swift_client import SwiftReranker, rank


class Invoice(BaseModel):
    number: str
    total: float


if os.environ.get("OPENAI_API_KEY"):
    with SwiftReranker("openai") as reranker:
        selection = reranker.best_of("Invoice 17 of 3 May: 408.00 EUR. Answer in JSON.", n=8, response_model=Invoice)
else:
    texts = [
        '{"number": "17", "total": 408.0}',
        '{"number": "17", "total": 480.0}',
        "It is 408 EUR.",
        '{"total": 408.0, "number": "17"}',
    ]
    choices = [{"index": i, "finish_reason": "stop", "message": {"content": text}} for i, text in enumerate(texts)]
    selection = rank({"choices": choices}, response_model=Invoice)

print(repr(selection.parsed))
for name, field in (selection.fields or {}).items():
    print(f"  {name}: {field}")
for note in selection.notes:
    print("note:", note)
print(json.dumps(selection.to_dict(), default=str)[:200], "…")
