"""A head's learnt weight of a verifier's judgements, as its file stores it."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_EXPONENT = 50.0  # upper limit, so that weights of votes stay finite


@dataclass(frozen=True, kw_only=True)
class VerifierTerm:
    """The weight of one verifier's judgements beside the votes: votes weigh by odds ** exponent of the judgement.

    Raises ValueError for values that no training can give.

    Attributes:
        verifier: Identity of the verifier; see ``verify.verification.identity``.
        exponent: Weight of the log odds of a judgement; 0: it is set aside, since it did not help.
        mean_log_odds: Mean log odds of its judgements, which stands for those that are missing.
        gain: Percentage points of accuracy that it won on held-out questions, against the same choice without it, at
            ``exponent``; at 1 if no exponent looked better than 0 before.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
        questions: Number of these questions.
    """

    verifier: str
    exponent: float
    mean_log_odds: float = 0.0
    gain: float
    low: float
    high: float
    questions: int

    def __post_init__(self) -> None:
        numbers = (self.exponent, self.mean_log_odds, self.gain, self.low, self.high)
        if not (self.verifier and all(map(math.isfinite, numbers)) and 0 <= self.exponent <= MAX_EXPONENT):
            raise ValueError("its verifier term has a weight or gain that no training gives")
        if self.questions < 0 or not self.low <= self.gain <= self.high:
            raise ValueError("its verifier term has a number of questions or an interval that no training gives")

    @property
    def helps(self) -> bool:
        """True if training found that the judgements improve the choice."""
        return self.exponent > 0

    def __str__(self) -> str:
        """Return what training found, in one sentence."""
        if not self.questions:
            return f"The verifier {self.verifier} was set aside: it judged no held-out question."
        gain = f"{self.gain:+.1f} points [{self.low:+.1f}, {self.high:+.1f}] on {self.questions} held-out questions"
        if not self.helps:
            return f"The verifier {self.verifier} was set aside: {gain}."
        return f"The verifier {self.verifier} adds {gain}; judgements weigh odds ^ {self.exponent:g}."
