"""Whether a head's scores tell right from wrong within a question: if that is not shown, votes go without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.models import NO_BETTER_VERDICT
from swift_client.training.metrics import bootstrap_auroc, within_question_auroc

RESAMPLES = 1000
LOWER_QUANTILE = 0.05
"""Share of the resamples below the bound."""


@dataclass(frozen=True, kw_only=True)
class UsefulnessTest:
    """What validation questions say of a head's own signal, agreement with other completions set aside."""

    auroc: float
    """Within-question AUROC; NaN without a question that has both right and wrong completions."""
    lower_bound: float
    """Lower 5 % bound of it over resampled questions; NaN likewise."""
    mixed_questions: int
    """Mixed questions that it rests on."""

    @property
    def beats_chance(self) -> bool:
        """Whether chance, 0.5, is below the bound."""
        return self.lower_bound > 0.5

    @property
    def verdict(self) -> str:
        """What the head's file says."""
        return "better than chance within a question" if self.beats_chance else NO_BETTER_VERDICT

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        return {
            "auroc": json_number(self.auroc),
            "low": json_number(self.lower_bound),
            "mixed_questions": self.mixed_questions,
        }


def measure_usefulness(scores: F64, labels: F64, question: I64, *, seed: int = 0) -> UsefulnessTest:
    """Judge scores (N,), which must not count agreement: majority has that already."""
    draws = bootstrap_auroc(scores, labels, question, resamples=RESAMPLES, seed=seed)
    mixed = set(question[labels == 1].tolist()) & set(question[labels == 0].tolist())
    return UsefulnessTest(
        auroc=within_question_auroc(scores, labels, question),
        lower_bound=float(np.quantile(draws, LOWER_QUANTILE)) if len(draws) else np.nan,
        mixed_questions=len(mixed),
    )


def json_number(value: float) -> float | None:
    """Return a JSON number, None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
