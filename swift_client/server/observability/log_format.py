"""Log lines as text, or as one JSON object each."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
CONTENT_FIELDS = ("prompt", "answer")
_QUIET = ("httpx", "httpx2", "swift_client")  # one line per request, not one per call to the provider


class TextFormatter(logging.Formatter):
    """Writes a line as text. Prompts and answers, which only ``extra={"fields": {...}}`` has, are added as JSON."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", {})
        content = [f" {name}={json.dumps(fields[name], default=str)}" for name in CONTENT_FIELDS if name in fields]
        return super().format(record) + "".join(content)


class JsonFormatter(logging.Formatter):
    """Writes a line as a JSON object in ASCII; ``extra={"fields": {...}}`` adds members to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(log_format: LogFormat) -> None:
    """Write the log of the service to stderr, unless the program has set up its own."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("swift_client.server").setLevel(logging.INFO)
