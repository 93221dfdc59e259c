"""Stopping rules: decide from the completions so far whether to sample more; one row each in STOPPING_RULES.

A rule is a pure function of the votes so far, in order of arrival. Their order matters only to "esc", whose windows
follow each other.
"""

from swift_client.stopping.rule_functions import correction_chance, vote_log_odds
from swift_client.stopping.rules import STOPPING_RULES, StoppingRule, stopping_rule
from swift_client.stopping.votes import Verdict, Verdicts, Votes

__all__ = [
    "STOPPING_RULES",
    "StoppingRule",
    "Verdict",
    "Verdicts",
    "Votes",
    "correction_chance",
    "stopping_rule",
    "vote_log_odds",
]
