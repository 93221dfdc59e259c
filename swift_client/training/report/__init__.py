"""A head's report: one HTML page that a manager, an engineer and a sceptic can each read."""

from swift_client.training.report.making import report

__all__ = ["report"]
