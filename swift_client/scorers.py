"""Scorers under their documented name: ``swift_client.scorers.SCORERS``."""

from swift_client.scoring.scorers import SCORERS

__all__ = ["SCORERS"]
