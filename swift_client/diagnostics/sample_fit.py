"""A test of whether listed probabilities fit the sampled tokens. Some hosts list unrelated numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.logprobs.goodness_of_fit import p_values, run_fit_test
from swift_client.types import Completion

_MIN_P_VALUE = 0.001  # p-value below which the lists are rejected


@dataclass(frozen=True, kw_only=True)
class SampleFit:
    """First tokens sampled at temperature 1, compared with the lists that came with them.

    Attributes:
        samples: number of samples.
        token: the most frequent token.
        frequency: its share of the samples.
        low: lower end of Wilson's 95 % interval of that share.
        high: its upper end.
        stated: mean probability in the lists of the samples that have this token.
        log_score: nats, mean log probability of the sampled tokens.
        expected: nats, the log score expected if the lists are true.
        chance_of_less: probability, if the lists are true, of a log score this low or lower.
        chance_of_more: the same for this high or higher.
    """

    samples: int
    token: str
    frequency: float
    low: float
    high: float
    stated: float
    log_score: float
    expected: float
    chance_of_less: float
    chance_of_more: float

    @property
    def finding(self) -> str:
        """One sentence for people."""
        facts = (
            f"{self.token!r} is in {self.frequency:.0%} of {self.samples} samples ({self.low:.0%} to {self.high:.0%}) "
            f"and listed with {self.stated:.0%}; log score {self.log_score:.2f}, expected {self.expected:.2f}"
        )
        if self.chance_of_less < _MIN_P_VALUE:
            return f"Fit: NO. {facts}: the tokens are not drawn from the lists; do not trust them."
        if self.chance_of_more < _MIN_P_VALUE:
            return f"Fit: colder than stated. {facts}: tokens are likelier than the lists say (top_p, or no sampling)."
        return f"Fit: yes. {facts}."


def measure_sample_fit(completions: Sequence[Completion]) -> SampleFit | None:
    """Compare each completion's first token with its list. Returns None if fewer than two have a list."""
    samples = [completion for completion in completions if completion.tokens and completion.top_logprobs.shape[1] > 0]
    if len(samples) < 2:
        return None
    # Lists of different lengths are padded with -inf: (N, K).
    width = max(sample.top_logprobs.shape[1] for sample in samples)
    top_logprobs = np.full((len(samples), width), -np.inf, np.float32)
    for row, sample in zip(top_logprobs, samples, strict=True):
        row[: sample.top_logprobs.shape[1]] = sample.top_logprobs[0]
    logprobs = np.array([sample.logprobs[0] for sample in samples], np.float32)
    censored = np.array([sample.censored[0] for sample in samples], np.bool_)
    token, count = Counter(sample.tokens[0] for sample in samples).most_common(1)[0]
    low, high = wilson_interval(count, len(samples))
    fit_test = run_fit_test(logprobs, top_logprobs, censored)
    less, more = p_values(logprobs, top_logprobs, censored)
    return SampleFit(
        samples=len(samples),
        token=token,
        frequency=count / len(samples),
        low=low,
        high=high,
        stated=float(np.exp([sample.logprobs[0] for sample in samples if sample.tokens[0] == token]).mean()),
        log_score=fit_test.score,
        expected=fit_test.expected,
        chance_of_less=less,
        chance_of_more=more,
    )


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share, 0..1 (Wilson 1927), which holds for few samples and at 0 and 1."""
    share, correction = successes / total, z * z / total
    center = (share + correction / 2) / (1 + correction)
    half_width = z / (1 + correction) * math.sqrt(share * (1 - share) / total + correction / (4 * total))
    return max(0.0, center - half_width), min(1.0, center + half_width)
