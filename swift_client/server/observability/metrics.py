"""Metrics for Prometheus: a listener that counts requests, choices, tokens and calls upstream."""

from __future__ import annotations

import http
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from swift_client.sampling.rate_limiter import LimiterState
from swift_client.server.observability.families import MetricFamilies
from swift_client.server.observability.record import NOT_KNOWN, RequestRecord
from swift_client.server.observability.worker_metrics import merged_registry
from swift_client.types import Event, Selection, Usage

_STATUSES = frozenset(status.value for status in http.HTTPStatus)
_ACCEPTED: Mapping[bool | None, str] = MappingProxyType({True: "yes", False: "no", None: "not_calibrated"})
_SENT_EVENTS = ("reply", "retry", "failure", "clamp")


class _SeriesCache(dict[tuple[Any, ...], Any]):
    """Series by family and labels: looking one up here takes a tenth of the time of ``family.labels()``."""

    def __missing__(self, key: tuple[Any, ...]) -> Any:
        family, *labels = key
        series = self[key] = family.labels(*labels)
        return series


class Metrics:
    """The metrics of one service. Its listener methods take microseconds."""

    def __init__(self) -> None:
        # Prometheus has no use for the series that say when a counter was created; they would double the output.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.families = MetricFamilies(self.registry)
        self._series = _SeriesCache()

    def begin(self, record: RequestRecord) -> None:
        """Count nothing yet."""

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Count a call upstream, its tokens and its cost."""
        families, series, model, phase = self.families, self._series, record.model, event.phase
        is_sent = event.duration is not None or event.status is not None
        if event.kind in _SENT_EVENTS and is_sent:
            series[families.calls, model, phase, _status_label(event.status)].inc()
            if event.duration is not None:
                series[families.call_seconds, model, phase].observe(event.duration)
        if event.kind == "drift":
            series[families.drift_alarms, model, event.statistic or "fingerprint"].inc()
        if event.kind == "failure":
            series[families.failures, model, phase, type(event.error).__name__].inc()
        if event.usage is not None:
            for kind, tokens in token_kinds(event.usage, phase).items():
                series[families.tokens, model, kind].inc(tokens)
            if event.cost is None:
                series[families.unpriced, model, phase].inc()
            else:
                series[families.usd, model, phase].inc(event.cost)

    def end(self, record: RequestRecord) -> None:
        """Count a request, and its choice if there is one."""
        families, series, model, selection = self.families, self._series, record.model, record.selection
        series[families.requests, model, record.endpoint, str(record.status)].inc()
        if record.is_stream and record.status == http.HTTPStatus.OK and record.error is not None:
            series[families.broken_streams, model].inc()
        if record.n:
            series[families.requested, model].inc(record.n)
            for outcome, count in completion_outcomes(record).items():
                series[families.completions, model, outcome].inc(count)
        elif record.tokens:  # passed through
            series[families.tokens, model, "passthrough"].inc(record.tokens)
            if record.cost is None:
                series[families.unpriced, model, "passthrough"].inc()
            else:
                series[families.usd, model, "passthrough"].inc(record.cost)
        if selection is None:
            return
        if record.status == http.HTTPStatus.OK and record.error is None:
            series[families.seconds, model].observe(record.seconds)
            if record.first_byte_seconds is not None:
                series[families.first_byte, model].observe(record.first_byte_seconds)
        stopped = "none" if selection.stopped is None else selection.stopped.rule.partition(":")[0]
        signal = selection.signal.partition("=")[0]  # the k of "logprobs:k=5" is the provider's to choose
        series[families.selections, model, selection.method, signal, stopped, _ACCEPTED[selection.accepted]].inc()
        share = vote_share(selection)
        if share is not None:
            series[families.agreement, model].observe(share)
        self._count_verification(model, selection)

    def set_queue(self, *, running: int, waiting: int) -> None:
        """Set the number of questions that are answered and that wait."""
        self.families.running.set(running)
        self.families.waiting.set(waiting)

    def set_limiter(self, model: str, role: str, state: LimiterState) -> None:
        """Set the state of the limiter of a virtual model, or of its judge."""
        families, series = self.families, self._series
        series[families.limiter_active, model, role].set(state.n_active)
        series[families.limiter_waiting, model, role].set(state.n_waiting)
        series[families.limiter_allowed, model, role].set(state.n_allowed)
        series[families.limiter_size, model, role].set(state.size)
        series[families.limiter_wait, model, role].set(state.wait_seconds)

    def set_drift(self, model: str, evidence: float) -> None:
        """Set the evidence, 0..1, that a virtual model's answers have changed."""
        self._series[self.families.drift_evidence, model].set(evidence)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format, those of the other worker processes included."""
        return generate_latest(merged_registry() or self.registry)

    def _count_verification(self, model: str, selection: Selection) -> None:
        verification = selection.verification
        if verification is None:
            return
        lost = max(0, verification.answers - verification.judged)
        outcome = "judged" if verification.judged else "failed" if lost else "not_needed"
        self._series[self.families.verifications, model, outcome].inc()
        for label, count in (("judged", verification.judged), ("failed", lost)):
            if count:
                self._series[self.families.judgements, model, label].inc(count)


def token_kinds(usage: Usage, phase: str) -> dict[str, int]:
    """Return the tokens of one reply by kind; the kinds do not overlap."""
    total = usage.prompt_tokens + usage.completion_tokens
    if phase == "verification":
        return {"judge": total}
    if phase == "consensus":
        return {"embedding": total}
    cached = min(usage.cached_prompt_tokens, usage.prompt_tokens)
    return {
        "prompt": usage.prompt_tokens - cached,
        "cached_prompt": cached,
        "completion": usage.completion_tokens,
    }


def completion_outcomes(record: RequestRecord) -> dict[str, int]:
    """Return what became of the ``n`` planned completions; without zeros, the values add up to ``n``."""
    selection = record.selection
    if selection is None:
        return {"cancelled" if record.error is None else "failed": record.n}
    reused = min(selection.reused, len(selection.candidates))
    used = len(selection.candidates) - reused
    failed = min(sum(failure.lost for failure in selection.failures), max(record.n - used - reused, 0))
    outcomes = {"used": used, "reused": reused, "failed": failed, "not_drawn": record.n - used - reused - failed}
    return {name: count for name, count in outcomes.items() if count > 0}


def vote_share(selection: Selection) -> float | None:
    """Return the share of the votes that the chosen answer has, 0..1; None without votes."""
    votes = [candidate for candidate in selection.candidates if candidate.group is not None]
    total = sum(candidate.weight for candidate in votes)
    group = selection.best.group
    if group is None or not total > 0:
        return None
    return min(1.0, sum(candidate.weight for candidate in votes if candidate.group == group) / total)


def _status_label(status: int | None) -> str:
    """Return a status as a label; a server may invent statuses, and each would be a series of its own."""
    if status is None:
        return "none"
    return str(status) if status in _STATUSES else NOT_KNOWN
