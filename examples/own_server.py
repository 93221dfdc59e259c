"""Use any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, LM Studio, a gateway.

    python examples/own_server.py http://localhost:8000/v1 MODEL

Without arguments it uses the packaged model. If the server needs a key, set SERVER_KEY.
"""

import os
import sys

from swift_client import SwiftReranker
from swift_client.errors import SwiftClientError

if len(sys.argv) == 3:
    address, model = sys.argv[1:]
    reranker = SwiftReranker(
        "openai-compatible",
        model,
        base_url=address,
        api_key=os.environ.get("SERVER_KEY", "none"),
        answer="number",  # how answers are compared; a regex or your own function also works
        timeout=30.0,
    )
else:
    reranker = SwiftReranker("pocket", answer="number")

try:
    with reranker:
        selection = reranker.best_of(
            "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?",
            n=8,
            deadline=20.0,  # after 20 seconds, choose among the completions that have arrived
            temperature=0.8,  # sampling parameters are passed on unchanged
        )
except SwiftClientError as error:
    sys.exit(f"{type(error).__name__}: {error}")

print(selection.text)
print(f"answer {selection.answer}, signal {selection.signal}, {len(selection.failures)} failed calls")
