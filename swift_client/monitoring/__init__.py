"""Drift: statistics per question, their reference, and tests that say when a model no longer behaves as before."""

from swift_client.monitoring.alarm import Alarm, DriftStatus
from swift_client.monitoring.guard import DriftGuard
from swift_client.monitoring.profile import build_profile
from swift_client.monitoring.sequential import SequentialTest
from swift_client.monitoring.statistics import STATISTICS, question_statistics

__all__ = [
    "STATISTICS",
    "Alarm",
    "DriftGuard",
    "DriftStatus",
    "SequentialTest",
    "build_profile",
    "question_statistics",
]
