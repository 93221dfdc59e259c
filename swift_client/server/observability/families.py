"""The metrics of the service: their names, labels and units."""

from __future__ import annotations

from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)


class FamilyRow(NamedTuple):
    """One metric, as the documentation and the dashboard know it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


class MetricFamilies:
    """All metrics. ``model`` is the name of a virtual model of the configuration; "-" for any other.

    Counters and histograms of several worker processes are added up. So are gauges, of those that still run; of
    waits the longest counts.

    Args:
        registry: holds them.

    Attributes:
        rows: One row per metric.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows: list[FamilyRow] = []

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            self.rows.append(FamilyRow(name, "counter", labels, meaning))
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str, merge: Literal["livesum", "livemax"] = "livesum") -> Gauge:
            self.rows.append(FamilyRow(name, "gauge", labels, meaning))
            return Gauge(name, meaning, labels, registry=registry, multiprocess_mode=merge)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            self.rows.append(FamilyRow(name, "histogram", labels, meaning))
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        # 1. Requests of clients.
        self.requests = counter(
            "swift_requests_total", 'Requests by HTTP status; "499": the client hung up.', "model", "endpoint", "status"
        )
        self.broken_streams = counter(
            "swift_broken_streams_total",
            "Streams that ended with an error; their status, sent before, is 200.",
            "model",
        )
        self.seconds = histogram(
            "swift_request_duration_seconds", "Seconds until the complete answer was sent.", _SECONDS, "model"
        )
        self.first_byte = histogram(
            "swift_time_to_first_byte_seconds", "Seconds until the first byte of the answer.", _SECONDS, "model"
        )
        self.running = gauge("swift_requests_running", "Questions that are being answered now.")
        self.waiting = gauge("swift_requests_waiting", "Questions that wait for their turn now.")
        # 2. Completions and choices.
        self.requested = counter(
            "swift_completions_requested_total", "Completions that requests planned to choose from.", "model"
        )
        self.completions = counter(
            "swift_completions_total",
            "Planned completions by what became of them: used, reused (from the store), failed, not_drawn (sampling "
            "stopped before), cancelled (the client hung up).",
            "model",
            "outcome",
        )
        self.selections = counter(
            "swift_selections_total",
            'Choices by method, signal, rule that stopped sampling ("none": all were drawn), and acceptance.',
            "model",
            "method",
            "signal",
            "stopped",
            "accepted",
        )
        self.agreement = histogram(
            "swift_agreement_ratio", "Share of the votes that the chosen answer has.", _SHARES, "model"
        )
        self.verifications = counter(
            "swift_verifications_total",
            "Choices with a verifier: judged, not_needed (no doubt), failed (no judgement arrived).",
            "model",
            "outcome",
        )
        self.judgements = counter(
            "swift_judgements_total", "Answers that a verifier's judge was asked about.", "model", "outcome"
        )
        # 3. Tokens and money.
        self.tokens = counter(
            "swift_tokens_total",
            "Tokens paid for: prompt (without cached_prompt), cached_prompt, completion; all of judge, embedding and "
            "passthrough.",
            "model",
            "kind",
        )
        self.usd = counter("swift_cost_usd_total", "US dollars paid for replies with a known price.", "model", "phase")
        self.unpriced = counter("swift_unpriced_replies_total", "Replies without a known price.", "model", "phase")
        # 4. Calls to providers.
        self.calls = counter(
            "swift_upstream_calls_total", 'HTTP calls by status; "none": there was none.', "model", "phase", "status"
        )
        self.call_seconds = histogram(
            "swift_upstream_call_duration_seconds", "Seconds of one HTTP call.", _SECONDS, "model", "phase"
        )
        self.failures = counter(
            "swift_upstream_failures_total", "Calls that failed after their retries.", "model", "phase", "error"
        )
        self.limiter_active = gauge("swift_limiter_active", "Running HTTP calls.", "model", "role")
        self.limiter_waiting = gauge("swift_limiter_waiting", "HTTP calls that wait for a slot.", "model", "role")
        self.limiter_allowed = gauge(
            "swift_limiter_allowed", "HTTP calls that may run at once; fewer after refusals.", "model", "role"
        )
        self.limiter_size = gauge("swift_limiter_size", "Limit of HTTP calls at once.", "model", "role")
        self.limiter_wait = gauge(
            "swift_limiter_wait_seconds",
            "Seconds until the next call may start.",
            "model",
            "role",
            merge="livemax",
        )
        # 5. Changes of models.
        self.drift_alarms = counter(
            "swift_drift_alarms_total",
            'Statistics of a model that no longer are as in its head\'s reference; "fingerprint": the model or its '
            "server has a new name, which alone changes nothing.",
            "model",
            "statistic",
        )
        self.drift_evidence = gauge(
            "swift_drift_evidence_ratio",
            "Evidence that a statistic has changed, of the one with the most: 0 for none, 1 where an alarm begins.",
            "model",
            merge="livemax",
        )
        # 6. The process.
        self.lag = histogram(
            "swift_event_loop_lag_seconds", "Delay of a timer of the event loop, measured twice a second.", _LAG_SECONDS
        )
