"""A head's report: one HTML page that a manager, an engineer and a sceptic can each read."""

from swift_client.report.report import report

__all__ = ["report"]
