"""The table of stopping rules, and how one is asked for by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.stopping import best_score_rules, majority_rules, weighted_rules
from swift_client.stopping.votes import Verdict, Verdicts, Votes


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """One row: a function of the ballots so far, with its parameters."""

    name: str
    function: Callable[..., Verdicts]
    """(ballots, **parameters) -> Verdicts."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """With their defaults; a default that is an int takes whole numbers from 1, any other numbers above 0."""
    doc: str
    """When it stops, to follow "stops"."""
    posterior: str = ""
    """What its posterior is; empty where it has none."""
    needs: tuple[Literal["answers", "probabilities", "scores"], ...] = ("answers",)
    """Without these it never stops."""
    choice: Literal["majority", "vote", "posterior", "best"] = "majority"
    """How its authors choose from what was drawn: the most frequent answer, the vote of ``selection.choose``, the
    answer with the greatest posterior odds, or the best score."""
    source: str
    """Where it is published."""
    sweep: tuple[str, tuple[float, ...]] | None = None
    """A parameter, and values of it that draw accuracy against tokens."""

    def verdicts(self, votes: Votes) -> Verdicts:
        """Return what the rule says of R questions; where all n have come it is over."""
        said = self.function(votes, **self.parameters)
        return said if votes.n_seen < votes.n else said._replace(stop=np.ones_like(said.stop))

    def __call__(self, votes: Votes) -> Verdict:
        """Return what the rule says of one question."""
        said = self.verdicts(votes)
        stop, number = bool(said.stop[0]), float(said.posterior[0])
        if votes.n_seen >= votes.n:
            reason = f"All {votes.n} completions were drawn."
        else:
            why = f": {self.posterior} is {number:.3f}" if self.posterior and not math.isnan(number) else ""
            reason = f"{self} {'stops' if stop else 'goes on'} after {votes.n_seen} of {votes.n} completions{why}."
        return Verdict(stop=stop, posterior=None if math.isnan(number) else number, reason=reason)

    def with_parameters(self, **parameters: float) -> StoppingRule:
        """Return the rule with other parameters. Raises ConfigurationError where it has no such one."""
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ConfigurationError(f"The rule {self.name} has no parameter {name!r}.", hint=f"It has: {known}.")
            whole = isinstance(self.parameters[name], int)
            if not (math.isfinite(value) and value > 0) or (whole and value != int(value)):
                wanted = "a whole number from 1" if whole else "a number above 0"
                raise ConfigurationError(f"{name} of the rule {self.name} must be {wanted}, not {value!r}.")
        cast = {name: type(self.parameters[name])(value) for name, value in parameters.items()}
        return replace(self, parameters={**self.parameters, **cast})

    def __str__(self) -> str:
        """Return the name with the parameters that are not the table's, as :func:`stopping_rule` reads it."""
        row = STOPPING_RULES.get(self.name)
        usual = row.parameters if row else {}
        changed = [f"{name}={value:g}" for name, value in self.parameters.items() if usual.get(name) != value]
        return ":".join([self.name, *changed])


def stopping_rule(spec: str | StoppingRule) -> StoppingRule:
    """Return a row of STOPPING_RULES by name, with parameters after colons: "beta" or "beta:threshold=0.9:least=4".

    Raises ConfigurationError where there is no such row or parameter.
    """
    if isinstance(spec, StoppingRule):
        return spec
    name, *settings = spec.split(":")
    if name not in STOPPING_RULES:
        raise ConfigurationError(f"There is no stopping rule {name!r}.", hint=f"Known: {', '.join(STOPPING_RULES)}.")
    parameters = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        try:
            parameters[key] = float(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{setting!r} is not a setting of the rule {name}.", hint="Write it as beta:threshold=0.9."
            ) from error
    return STOPPING_RULES[name].with_parameters(**parameters)


def auto(
    all_votes: Votes, *, threshold: float, least: int, clip: float, alone: float, majority: float, cost: float
) -> Verdicts:
    """Take the best rule that what is there allows, question by question, and stop too where nothing can change.

    With a calibrated head "posterior" with ``threshold``, ``least`` and ``clip``, asked about the answer that the vote
    would choose; a first completion with the probability ``alone`` needs no second. Where votes count 1 each, "beta"
    with threshold ``majority``; where there are probabilities and no answers to vote for, "reservation" with ``cost``.
    Scores alone, whose unit is not known, never stop.
    """
    if all_votes.probabilities is None:
        voted, single = (
            majority_rules.beta(all_votes, threshold=majority, least=3),
            weighted_rules.continue_sampling(all_votes),
        )
    elif all_votes.n_seen == 1:
        voted = weighted_rules.vote_winner_posterior(all_votes, threshold=alone, least=1, clip=clip)
        single = best_score_rules.reservation(all_votes, cost=cost, least=3)
    else:
        voted = weighted_rules.vote_winner_posterior(all_votes, threshold=threshold, least=least, clip=clip)
        single = best_score_rules.reservation(all_votes, cost=cost, least=3)
    votes = all_votes.vote_counts > 0
    said = Verdicts(np.where(votes, voted.stop, single.stop), np.where(votes, voted.posterior, single.posterior))
    return said._replace(stop=said.stop | weighted_rules.cannot_change(all_votes).stop)


STOPPING_RULES: Mapping[str, StoppingRule] = MappingProxyType(
    {
        row.name: row
        for row in (
            StoppingRule(
                name="auto",
                function=auto,
                parameters={"threshold": 0.9, "least": 2, "clip": 0.02, "alone": 0.97, "majority": 0.9, "cost": 0.01},
                doc="by the posterior of the answer that the vote would choose, without a head as beta",
                posterior="the probability of the chosen answer",
                needs=(),
                choice="vote",
                source="swift-client",
                sweep=("threshold", (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)),
            ),
            StoppingRule(
                name="beta",
                function=majority_rules.beta,
                parameters={"threshold": 0.95, "least": 3},
                doc="where the leading answer beats the second with probability threshold",
                posterior="the probability that the leading answer is the most frequent one",
                source="Adaptive-Consistency, arXiv 2305.11860",
                sweep=("threshold", (0.8, 0.9, 0.93, 0.95, 0.98, 0.99)),
            ),
            StoppingRule(
                name="dirichlet",
                function=majority_rules.dirichlet,
                parameters={"factor": 10.0, "unknown": 0.3},
                doc="where the odds that the leading answer is the most probable one are factor times those of chance",
                posterior="the probability that the leading answer is the most probable one",
                source="Best-of-∞, arXiv 2509.21091",
                sweep=("factor", (2.0, 5.0, 7.0, 10.0, 30.0, 100.0)),
            ),
            StoppingRule(
                name="esc",
                function=majority_rules.window,
                parameters={"size": 5},
                doc="where a window of size completions is unanimous",
                source="ESC, arXiv 2401.10480",
                sweep=("size", (2, 3, 4, 5, 6, 8)),
            ),
            StoppingRule(
                name="posterior",
                function=weighted_rules.posterior,
                parameters={"threshold": 0.95, "least": 2, "clip": 0.02},
                doc="where an answer is right with probability threshold, by the head's calibrated probabilities",
                posterior="the probability of the leading answer",
                needs=("answers", "probabilities"),
                choice="posterior",
                source="CGES, arXiv 2511.02603",
                sweep=("threshold", (0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)),
            ),
            StoppingRule(
                name="consensus",
                function=weighted_rules.consensus,
                parameters={"share": 0.95, "least": 4},
                doc="where one answer holds share of all weight",
                posterior="the share of the leading answer",
                choice="vote",
                source="DeepConf, arXiv 2508.15260",
                sweep=("share", (0.6, 0.7, 0.8, 0.9, 0.95)),
            ),
            StoppingRule(
                name="cannot_change",
                function=weighted_rules.cannot_change,
                doc="where no completion to come can change the vote over all n",
                choice="vote",
                source="lossless: more votes ahead than are left",
            ),
            StoppingRule(
                name="accept",
                function=best_score_rules.accept,
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
                function=best_score_rules.reservation,
                parameters={"cost": 0.01, "least": 3},
                doc="where a further completion is not expected to raise the best score by cost",
                posterior="the probability of the best completion",
                needs=("scores",),
                choice="best",
                source="Weitzman 1979; Best-of-N as Pandora's box, arXiv 2510.01394",
                sweep=("cost", (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)),
            ),
        )
    }
)
"""One row for each rule; "auto" is what ``stopping="auto"`` means."""
