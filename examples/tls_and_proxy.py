"""Send through your own openai client: a proxy, client certificates, extra headers.

    python examples/tls_and_proxy.py

Uses OpenAI if OPENAI_API_KEY is set. Otherwise it points the client at the packaged model's server on this machine.
"""

import os

import openai

from swift_client import SwiftReranker
from swift_client.pocket.server import PocketServer

QUESTION = "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?"

# If all you need is HTTPS_PROXY or SSL_CERT_FILE, set the variable; client= is not needed.
if os.environ.get("OPENAI_API_KEY"):
    server, provider, model = None, "openai", "gpt-4.1-mini"
    client = openai.OpenAI(default_headers={"X-Team": "search"})
else:
    server, provider, model = PocketServer(), "openai-compatible", "pocket"
    client = openai.OpenAI(base_url=server.start(), api_key="none", default_headers={"X-Team": "search"})

with SwiftReranker(provider, model, client=client) as reranker:
    selection = reranker.best_of(QUESTION, n=4, temperature=0.8)
print(selection.answer, selection.usage)
client.close()
if server is not None:
    server.close()
