"""Count a reranker's calls, tokens and US dollars for Prometheus.

    python examples/prometheus_metrics.py

Uses the packaged model, or OpenAI if OPENAI_API_KEY is set. Needs prometheus-client. A program that runs on would call
`start_http_server(9000)` of prometheus_client once, instead of printing.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from swift_client import Event, SwiftReranker

QUESTION = "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?"

registry = CollectorRegistry()
calls = Counter("llm_calls_total", "HTTP calls by status.", ["model", "phase", "status"], registry=registry)
seconds = Histogram("llm_call_duration_seconds", "Seconds of one HTTP call.", ["model", "phase"], registry=registry)
tokens = Counter("llm_tokens_total", "Tokens paid for.", ["model", "kind"], registry=registry)
dollars = Counter("llm_cost_usd_total", "US dollars paid, if the price is known.", ["model"], registry=registry)
failures = Counter(
    "llm_failures_total", "Calls that failed after their retries.", ["model", "error"], registry=registry
)


def count(event: Event) -> None:
    """Count one event; pass this function as ``on_event=``."""
    model = f"{event.provider}/{event.model or '-'}"
    if event.kind in ("reply", "retry", "failure") and event.duration is not None:
        calls.labels(model, event.phase, event.status or "none").inc()
        seconds.labels(model, event.phase).observe(event.duration)
    if event.kind == "failure":
        failures.labels(model, type(event.error).__name__).inc()
    if event.usage is not None:
        tokens.labels(model, "prompt").inc(event.usage.prompt_tokens)
        tokens.labels(model, "completion").inc(event.usage.completion_tokens)
        dollars.labels(model).inc(event.cost or 0.0)


provider = "openai" if os.environ.get("OPENAI_API_KEY") else "pocket"
with SwiftReranker(provider, on_event=count) as reranker:
    print(reranker.best_of(QUESTION, n=4).answer)

for line in generate_latest(registry).decode().splitlines():
    if line.startswith("llm_") and "_bucket" not in line and "_created" not in line:
        print(line)
