"""The listeners of the service, each told of every request and of every call upstream."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

from swift_client.server.observability.record import RequestRecord
from swift_client.types import Event

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """A listener. Its methods run on the event loop, so they must be fast."""

    def begin(self, record: RequestRecord) -> None:
        """Take note of a request whose headers have arrived."""

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Take note of a call upstream that belongs to the request."""

    def end(self, record: RequestRecord) -> None:
        """Take note of a request that has ended; its record is complete."""


class Observers:
    """All listeners. An error of one is logged, and changes neither the request nor the other listeners.

    Args:
        listeners: told in this order.
    """

    def __init__(self, listeners: Iterable[Observer]) -> None:
        self._listeners = list(listeners)

    def begin(self, record: RequestRecord) -> None:
        """Tell all listeners that a request began."""
        self._tell(record, lambda listener: listener.begin(record))

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Tell all listeners of a call upstream."""
        record.add_usage(event)
        self._tell(record, lambda listener: listener.on_event(record, event))

    def end(self, record: RequestRecord) -> None:
        """Tell all listeners that a request ended."""
        self._tell(record, lambda listener: listener.end(record))

    def _tell(self, record: RequestRecord, tell: Callable[[Observer], None]) -> None:
        for listener in self._listeners:
            try:
                tell(listener)
            except Exception as error:
                log_failure(record.id, error)


def log_failure(request_id: str, error: Exception) -> None:
    """Log a bug by its class and the lines that led to it. Its message could quote a prompt, so it is left out."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", request_id, type(error).__name__, lines)
