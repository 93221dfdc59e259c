"""The table of stopping rules, and the parser of their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.stopping import rule_functions as functions
from swift_client.stopping.votes import Verdict, Verdicts, Votes
from swift_client.validation import parse_spec


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """One row: a function of the votes so far, with its parameters.

    Attributes:
        function: (votes, **parameters) -> Verdicts.
        parameters: With their defaults. An int default allows whole numbers from 1, a float default numbers
            above 0.
        doc: Condition under which it stops, to follow the word "stops".
        posterior: Name of the number it compares with its threshold; empty if there is none.
        needs: Without these it never stops.
        choice: The choice that its authors make from the completions: the most frequent answer, the vote of
            ``selection.choose``, the answer with the greatest posterior odds, or the best score.
        source: Publication.
        sweep: A parameter, and its values for a curve of accuracy against tokens.
    """

    name: str
    function: Callable[..., Verdicts]
    parameters: Mapping[str, float] = field(default_factory=dict)
    doc: str
    posterior: str = ""
    needs: tuple[Literal["answers", "probabilities", "scores"], ...] = ("answers",)
    choice: Literal["majority", "vote", "posterior", "best"] = "majority"
    source: str
    sweep: tuple[str, tuple[float, ...]] | None = None

    def verdicts(self, votes: Votes) -> Verdicts:
        """Return the verdicts on R questions; once all n completions have come, all stop."""
        verdicts = self.function(votes, **self.parameters)
        return verdicts if votes.n_seen < votes.n else verdicts._replace(stop=np.ones_like(verdicts.stop))

    def __call__(self, votes: Votes) -> Verdict:
        """Return the verdict on one question."""
        verdicts = self.verdicts(votes)
        stop, number = bool(verdicts.stop[0]), float(verdicts.posterior[0])
        if votes.n_seen >= votes.n:
            reason = f"All {votes.n} completions were sampled."
        else:
            why = f": {self.posterior} is {number:.3f}" if self.posterior and not math.isnan(number) else ""
            reason = f"{self} {'stops' if stop else 'goes on'} after {votes.n_seen} of {votes.n} completions{why}."
        return Verdict(stop=stop, posterior=None if math.isnan(number) else number, reason=reason)

    def with_parameters(self, **parameters: float) -> StoppingRule:
        """Return the rule with other parameters. Raises ConfigurationError for an unknown name or a wrong value."""
        for name, value in parameters.items():
            if name not in self.parameters:
                names = ", ".join(self.parameters) or "none"
                raise ConfigurationError(
                    f"The rule {self.name} has no parameter {name!r}.", hint=f"Its parameters: {names}."
                )
            is_int = isinstance(self.parameters[name], int)
            if not (math.isfinite(value) and value > 0) or (is_int and value != int(value)):
                expected = "a whole number from 1" if is_int else "a number above 0"
                raise ConfigurationError(f"{name} of the rule {self.name} must be {expected}, not {value!r}.")
        typed = {name: type(self.parameters[name])(value) for name, value in parameters.items()}
        return replace(self, parameters={**self.parameters, **typed})

    def __str__(self) -> str:
        """Return the name with the parameters that differ from the table's, as ``stopping_rule()`` parses it."""
        row = STOPPING_RULES.get(self.name)
        defaults = row.parameters if row else {}
        changed = [f"{name}={value:g}" for name, value in self.parameters.items() if defaults.get(name) != value]
        return ":".join([self.name, *changed])


def stopping_rule(spec: str | StoppingRule) -> StoppingRule:
    """Return a row of STOPPING_RULES by name, with parameters after colons: "beta" or "beta:threshold=0.9:least=4".

    Raises:
        ConfigurationError: there is no such row or parameter.
    """
    if isinstance(spec, StoppingRule):
        return spec
    if not isinstance(spec, str):
        raise ConfigurationError(
            f"stopping= takes the name of a rule or a StoppingRule, not {type(spec).__name__}.",
            hint='Use stopping="auto".',
        )
    name, parameters = parse_spec(spec, example="beta:threshold=0.9")
    if name not in STOPPING_RULES:
        raise ConfigurationError(f"There is no stopping rule {name!r}.", hint=f"Known: {', '.join(STOPPING_RULES)}.")
    return STOPPING_RULES[name].with_parameters(**parameters)


def auto(all_votes: Votes, *, points: float, majority: float, gain: float) -> Verdicts:
    """Apply the best rule that the data allows, per question; stop, too, if nothing can change any more.

    With a calibrated head this is "correction" with the highest cost at which held-out questions of its training lost
    at most ``points`` percentage points of accuracy against the vote over all n. Without a head it is "final_lead" with
    the threshold ``majority``; with probabilities but no answers to vote for, "reservation" with the cost ``gain``.
    Scores alone never stop, since their unit is unknown.
    """
    if all_votes.probabilities is None:
        by_vote = functions.final_lead(all_votes, threshold=majority, least=3)
        by_best = functions.continue_sampling(all_votes)
    else:
        by_vote = functions.correction(all_votes, cost=all_votes.cost_of(points))
        by_best = functions.reservation(all_votes, cost=gain, least=3)
    has_votes = all_votes.vote_counts > 0
    stop = np.where(has_votes, by_vote.stop, by_best.stop) | functions.cannot_change(all_votes).stop
    return Verdicts(stop, np.where(has_votes, by_vote.posterior, by_best.posterior))


# One row per rule; ``stopping="auto"`` means "auto".
STOPPING_RULES: Mapping[str, StoppingRule] = MappingProxyType(
    {
        row.name: row
        for row in (
            StoppingRule(
                name="auto",
                function=auto,
                parameters={"points": 2.0, "majority": 0.95, "gain": 0.01},
                doc="as correction, at the cost that loses at most points on held-out questions; without a head, as "
                "final_lead",
                posterior="the probability of the chosen answer",
                needs=(),
                choice="vote",
                source="swift-client",
                sweep=("points", (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)),
            ),
            StoppingRule(
                name="correction",
                function=functions.correction,
                parameters={"cost": 0.05},
                doc="if the next completion corrects the answer that the vote would choose with a probability of at "
                "most cost",
                posterior="the probability of the chosen answer",
                needs=("answers", "probabilities"),
                choice="vote",
                source="swift-client",
                sweep=("cost", (0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02)),
            ),
            StoppingRule(
                name="beta",
                function=functions.beta,
                parameters={"threshold": 0.95, "least": 3},
                doc="if the leading answer beats the second with probability threshold",
                posterior="the probability that the leading answer is the most frequent one",
                source="Adaptive-Consistency, arXiv 2305.11860",
                sweep=("threshold", (0.8, 0.9, 0.93, 0.95, 0.98, 0.99)),
            ),
            StoppingRule(
                name="dirichlet",
                function=functions.dirichlet,
                parameters={"factor": 10.0, "unknown": 0.3},
                doc="if the odds that the leading answer is the most probable one are factor times those of chance",
                posterior="the probability that the leading answer is the most probable one",
                source="Best-of-∞, arXiv 2509.21091",
                sweep=("factor", (2.0, 5.0, 7.0, 10.0, 30.0, 100.0)),
            ),
            StoppingRule(
                name="esc",
                function=functions.window,
                parameters={"size": 5},
                doc="if a window of size completions is unanimous",
                source="ESC, arXiv 2401.10480",
                sweep=("size", (2, 3, 4, 5, 6, 8)),
            ),
            StoppingRule(
                name="posterior",
                function=functions.posterior,
                parameters={"threshold": 0.95, "least": 2, "clip": 0.02},
                doc="if an answer is right with probability threshold, by the head's calibrated probabilities",
                posterior="the probability of the leading answer",
                needs=("answers", "probabilities"),
                choice="posterior",
                source="CGES, arXiv 2511.02603",
                sweep=("threshold", (0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)),
            ),
            StoppingRule(
                name="consensus",
                function=functions.consensus,
                parameters={"share": 0.95, "least": 4},
                doc="if one answer has share of the total weight",
                posterior="the share of the leading answer",
                choice="vote",
                source="DeepConf, arXiv 2508.15260",
                sweep=("share", (0.6, 0.7, 0.8, 0.9, 0.95)),
            ),
            StoppingRule(
                name="cannot_change",
                function=functions.cannot_change,
                doc="if no completion to come can change the vote over all n",
                choice="vote",
                source="lossless: more votes ahead than are left",
            ),
            StoppingRule(
                name="final_lead",
                function=functions.final_lead,
                parameters={"threshold": 0.95, "least": 3},
                doc="if the answer that the vote would choose still leads after all n with probability threshold",
                posterior="the probability that the leading answer still leads at n",
                choice="vote",
                source="predictive probability, Lee and Liu 2008",
                sweep=("threshold", (0.8, 0.9, 0.93, 0.95, 0.98, 0.99)),
            ),
            StoppingRule(
                name="accept",
                function=functions.accept,
                parameters={"threshold": 0.9},
                doc="at the first completion that is right with probability threshold",
                posterior="the probability of the best completion",
                needs=("probabilities",),
                choice="best",
                source="Self-Calibration, arXiv 2503.00031",
                sweep=("threshold", (0.6, 0.7, 0.8, 0.9, 0.95)),
            ),
            StoppingRule(
                name="reservation",
                function=functions.reservation,
                parameters={"cost": 0.01, "least": 3},
                doc="if a further completion is not expected to raise the best score by cost",
                posterior="the probability of the best completion",
                needs=("scores",),
                choice="best",
                source="Weitzman 1979; Best-of-N as Pandora's box, arXiv 2510.01394",
                sweep=("cost", (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)),
            ),
        )
    }
)
