"""The documented import path of the scorers: ``swift_client.scorers.SCORERS``."""

from swift_client.scoring.scorers import SCORERS, score

__all__ = ["SCORERS", "score"]
