"""Do the stated probabilities fit the tokens that come? Some hosts list a table that has nothing to do with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.logprobs.goodness_of_fit import p_values, run_fit_test
from swift_client.types import Completion

_MIN_P_VALUE = 0.001
"""Chance below which true lists are not believed to give such samples."""


@dataclass(frozen=True, kw_only=True)
class SampleFit:
    """First tokens that came at temperature 1, held against the lists that came beside them."""

    samples: int
    token: str
    """The token that came most often."""
    frequency: float
    """Its share of the samples."""
    low: float
    high: float
    """Wilson's 95 % interval of that share."""
    stated: float
    """The mean probability that the lists give it where it came."""
    log_score: float
    """Nats: mean log probability of what came."""
    expected: float
    """Nats: what true lists promise."""
    chance_of_less: float
    """How often true lists give a log score as low as this, or lower."""
    chance_of_more: float
    """How often as high, or higher."""

    @property
    def finding(self) -> str:
        """The same in one sentence."""
        seen = (
            f"{self.token!r} came in {self.frequency:.0%} of {self.samples} samples ({self.low:.0%} to "
            f"{self.high:.0%}) and is listed with {self.stated:.0%}; log score {self.log_score:.2f}, "
            f"{self.expected:.2f} promised"
        )
        if self.chance_of_less < _MIN_P_VALUE:
            return f"Fit: NO. {seen}: the lists are not what the tokens are drawn from; do not trust them."
        if self.chance_of_more < _MIN_P_VALUE:
            return f"Fit: colder than stated. {seen}: likelier tokens come than the lists say (top_p, or no sampling)."
        return f"Fit: yes. {seen}."


def measure_sample_fit(completions: Sequence[Completion]) -> SampleFit | None:
    """Measure the fit of each completion's first token; None where fewer than two have a list."""
    firsts = [each for each in completions if each.tokens and each.top_logprobs.shape[1] > 0]
    if len(firsts) < 2:
        return None
    width = max(each.top_logprobs.shape[1] for each in firsts)
    listed = np.full((len(firsts), width), -np.inf, np.float32)
    for row, each in zip(listed, firsts, strict=True):
        row[: each.top_logprobs.shape[1]] = each.top_logprobs[0]
    chosen = np.array([each.logprobs[0] for each in firsts], np.float32)
    censored = np.array([each.censored[0] for each in firsts], np.bool_)
    token, times = Counter(each.tokens[0] for each in firsts).most_common(1)[0]
    low, high = wilson_interval(times, len(firsts))
    found = run_fit_test(chosen, listed, censored)
    less, more = p_values(chosen, listed, censored)
    return SampleFit(
        samples=len(firsts),
        token=token,
        frequency=times / len(firsts),
        low=low,
        high=high,
        stated=float(np.exp([each.logprobs[0] for each in firsts if each.tokens[0] == token]).mean()),
        log_score=found.score,
        expected=found.expected,
        chance_of_less=less,
        chance_of_more=more,
    )


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share, 0..1 (Wilson 1927): honest for few samples and for 0 and 1."""
    share, more = successes / total, z * z / total
    middle = (share + more / 2) / (1 + more)
    half = z / (1 + more) * math.sqrt(share * (1 - share) / total + more / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)
