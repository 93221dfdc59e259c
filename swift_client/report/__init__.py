"""Report on a head: one HTML page for managers, engineers and sceptics."""

from swift_client.report.report import report

__all__ = ["report"]
