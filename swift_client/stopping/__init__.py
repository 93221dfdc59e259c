"""When to stop drawing completions: rules that look at the completions so far, one row each in STOPPING_RULES.

A rule is a pure function of the ballots so far, in the order of arrival; the order of those seen changes nothing but
for "esc", whose windows follow each other.
"""

from swift_client.stopping.rules import STOPPING_RULES, StoppingRule, stopping_rule
from swift_client.stopping.votes import Verdict, Verdicts, Votes

__all__ = ["STOPPING_RULES", "StoppingRule", "Verdict", "Verdicts", "Votes", "stopping_rule"]
