"""uvicorn's HTTP/1.1 protocol with a limit on the time in which headers arrive, and refusals in OpenAI's shape."""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from swift_client.server.http.error_reply import error_body

MAX_HEADER_BYTES = 65_536
RETRY_AFTER = "retry-after: 1\r\n"


def create_protocol_class(*, header_timeout: float, max_connections: int) -> type[H11Protocol]:
    """Return the protocol of connections.

    Args:
        header_timeout: seconds in which the headers of a request must arrive; else the connection ends with 408.
        max_connections: open connections; any more end with 503.
    """

    class LimitedProtocol(H11Protocol):
        """One connection."""

        _header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Begin to wait for the first request."""
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                self._refuse(503, "The service has too many connections.", "service_busy")
                transport.close()
            else:
                self._start_timer()

        def data_received(self, data: bytes) -> None:
            """Read bytes; the time of a request's headers begins with its first byte."""
            super().data_received(data)
            if not self._is_waiting():
                self._stop_timer()
            elif self._header_timer is None:
                self._start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget the connection."""
            self._stop_timer()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            """Refuse a request that is not HTTP, or whose headers are too long."""
            self._stop_timer()
            if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
                self._refuse(400, "The request is not valid HTTP, or its headers are too long.", "invalid_http")
            self.transport.close()

        def _is_waiting(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _start_timer(self) -> None:
            self._header_timer = self.loop.call_later(header_timeout, self._on_timeout)

        def _stop_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _on_timeout(self) -> None:
            self._header_timer = None
            if self._is_waiting() and not self.transport.is_closing():
                if self.conn.our_state is h11.IDLE:
                    self._refuse(408, "The headers did not arrive in time.", "request_timeout")
                self.transport.close()

        def _refuse(self, status: int, message: str, code: str) -> None:
            # Written as bytes: h11 takes no response before a complete request.
            body = json.dumps(error_body(status, message, code=code)).encode()
            reason = http.HTTPStatus(status).phrase
            head = (
                f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"connection: close\r\n{RETRY_AFTER if status == 503 else ''}\r\n"
            )
            self.transport.write(head.encode() + body)

    return LimitedProtocol
