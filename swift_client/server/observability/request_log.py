"""One log line per request, and one per failure upstream; without content unless the configuration asks for it."""

from __future__ import annotations

import logging
from typing import Any

from swift_client.server.observability.record import NOT_KNOWN, RequestRecord
from swift_client.types import Event

logger = logging.getLogger(__name__)


class RequestLog:
    """Writes lines whose ``extra`` has the same facts as fields, for a formatter of JSON.

    Args:
        has_content: whether to log prompts and answers.
    """

    def __init__(self, *, has_content: bool = False) -> None:
        self._has_content = has_content

    def begin(self, record: RequestRecord) -> None:
        """Log nothing yet."""

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Log a call upstream that failed after its retries. Its message may quote a prompt, so it is left out."""
        if event.kind != "failure":
            return
        fields = {
            "request_id": record.id,
            "model": record.model,
            "provider": event.provider,
            "upstream_model": event.model,
            "phase": event.phase,
            "error": type(event.error).__name__,
            "upstream_status": event.status,
            "upstream_request_id": getattr(event.error, "request_id", None),
            "n": event.n,
            "trace_id": record.trace_id,
        }
        logger.warning(
            "%s: a call to %s failed: %s, status %s", record.id, event.provider, fields["error"], event.status or "-",
            extra={"fields": _without_none(fields)},
        )  # fmt: skip

    def end(self, record: RequestRecord) -> None:
        """Log the request."""
        if not logger.isEnabledFor(logging.INFO):
            return
        facts = describe(record)
        fields = {
            "request_id": record.id,
            "method": record.method,
            "path": record.endpoint,
            "status": record.status,
            "seconds": round(record.seconds, 6),
            **facts,
        }
        if self._has_content and record.messages:
            fields["prompt"] = list(record.logged_messages)
            fields["answer"] = record.logged_answer
        text = "".join(f" {name}={value}" for name, value in facts.items())
        logger.info(
            "%s %s %s %d %.3f s%s", record.id, record.method, record.endpoint, record.status, record.seconds, text,
            extra={"fields": fields},
        )  # fmt: skip


def describe(record: RequestRecord) -> dict[str, Any]:
    """Return the facts of a request about its model, its key, its choice and its cost; those that are known."""
    facts: dict[str, Any] = {"key": record.key, "trace_id": record.trace_id}
    if record.error is not None:
        facts["error"] = type(record.error).__name__
    if record.model != NOT_KNOWN:
        facts |= {"model": record.model, "selection_id": record.selection_id}
    if record.n:
        facts["n"] = record.n
    if record.n or record.tokens:  # a request that is passed through has no n
        facts["tokens"] = record.tokens
        facts["cost"] = None if record.cost is None else round(record.cost, 9)
    selection = record.selection
    if selection is not None:
        facts |= {"selected_by": selection.method, "candidates": len(selection.candidates)}
        facts["lost"] = sum(failure.lost for failure in selection.failures) or None
        facts["stopped"] = None if selection.stopped is None else selection.stopped.rule.partition(":")[0]
        facts["accepted"] = selection.accepted
    return _without_none(facts)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
