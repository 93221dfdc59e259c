"""Check of the acceptance guarantee: error rates of calibrated thresholds over random halves of the same questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swift_client.evaluation.risk.calibrate import ReplayOutcomes, oracle_share
from swift_client.evaluation.risk.threshold import certify
from swift_client.features.segments import F64


@dataclass(frozen=True, eq=False, kw_only=True)
class GuaranteeCheck:
    """Results of all splits; arrays (splits,)."""

    accepted_share: F64
    """Share of the test half that was accepted; 0 if nothing could be certified."""
    error_rate: F64
    """Share of wrong answers among the accepted; NaN if none was accepted."""
    oracle_share: F64
    """Share that could be accepted if the truth were known."""
    risk: float

    @property
    def violation_rate(self) -> float:
        """Share of the splits whose accepted error is above the risk."""
        return float(np.mean(np.nan_to_num(self.error_rate) > self.risk))

    @property
    def share_of_oracle(self) -> float:
        """Accepted share divided by that of an oracle, both as means over the splits."""
        return float(self.accepted_share.mean() / self.oracle_share.mean())


def check_guarantee(
    outcomes: ReplayOutcomes, *, risk: float = 0.05, confidence: float = 0.9, n_splits: int = 200, seed: int = 0
) -> GuaranteeCheck:
    """Calibrate on a random half of the questions and test on the other, ``n_splits`` times."""
    rng = np.random.default_rng(seed)
    accepted, error, oracle = np.zeros(n_splits), np.full(n_splits, np.nan), np.zeros(n_splits)
    for split in range(n_splits):
        train, test = np.array_split(rng.permutation(len(outcomes)), 2)
        tested = certify(outcomes.log_odds[train], outcomes.correct[train], risk=risk, confidence=confidence)
        correct = outcomes.correct[test]
        oracle[split] = oracle_share(float(correct.mean()), risk)
        is_accepted = np.zeros(len(test), np.bool_)
        if tested.threshold is not None:
            is_accepted = outcomes.log_odds[test] >= tested.threshold
        if is_accepted.any():
            accepted[split], error[split] = is_accepted.mean(), (~correct[is_accepted]).mean()
    return GuaranteeCheck(accepted_share=accepted, error_rate=error, oracle_share=oracle, risk=risk)
