"""A head on logprobs with everything that scoring needs, and the facts that say what it may be used for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ArtifactMismatchError
from swift_client.features.segments import F64, I64
from swift_client.models.acceptance import Acceptance
from swift_client.models.calibration import Calibration
from swift_client.models.drift_profile import DriftProfile
from swift_client.models.gated_linear import GatedLinearHead, Standardizer, finite_vector, weigh
from swift_client.models.question_sketch import QuestionSketch
from swift_client.models.verifier_term import VerifierTerm

MAX_WIDTH = 1024  # upper limit of the rank columns, so that a file cannot ask for unlimited memory
MAX_BETA = 50.0  # upper limit of a finite β, so that weights of votes and their sums stay finite
# Values of ``training["verdict"]``. The first is of a head that ranked the answers of a question no better than chance
# on held-out questions (``training.metrics.UsefulnessTest``); its wording is historical: nothing is compared with
# majority. The others are results of ``evaluation.gate``, whose numbers are in ``training["comparison"]``.
NO_BETTER_VERDICT = "no better than majority"
BETTER_VERDICT = "better than the best label-free rule"
NOT_BETTER_VERDICT = "no better than the best label-free rule"
TOO_FEW_VERDICT = "not enough questions to tell"
SET_ASIDE_VERDICTS = frozenset({NO_BETTER_VERDICT, NOT_BETTER_VERDICT, TOO_FEW_VERDICT})


def describe_verdict(training: Mapping[str, Any]) -> str:
    """Return what training found, as the end of a sentence on the head: "was better than Majority by ..."."""
    verdict, facts = training.get("verdict"), training.get("comparison")
    if verdict in (None, NO_BETTER_VERDICT) or not isinstance(facts, Mapping):
        return "ranked the answers of one question no better than chance on its validation questions"
    try:
        label, count, mean = facts["label"], facts["questions"], facts["mean"]
        if verdict == TOO_FEW_VERDICT:
            return f"was tested on {count} questions, too few to tell if it is better than {label!r}"
        value, low, high = (100 * mean[name] for name in ("value", "low", "high"))
    except (KeyError, TypeError):
        return f"was found {verdict}"
    relation = "better" if verdict == BETTER_VERDICT else "not clearly better"
    interval = f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
    return f"was {relation} than {label!r} on {count} test questions ({interval})"


def check_vote(beta: float, costs: tuple[tuple[float, float], ...]) -> None:
    """Raise ValueError unless β is 0 to MAX_BETA or infinity, and pairs (points, cost) rise from (0, 0)."""
    if not (0 <= beta <= MAX_BETA or beta == math.inf):
        raise ValueError(f"beta must be 0 to {MAX_BETA:g} or infinity, not {beta}.")
    if not costs:
        return
    points, values = np.array(costs, np.float64).T
    rises = (np.diff(points) > 0).all() and (np.diff(values) >= 0).all()
    if not (np.isfinite(costs).all() and (points[0], values[0]) == (0, 0) and rises):
        raise ValueError(f"stopping_costs must be pairs that rise from (0, 0), not {costs}.")


class ResponseWeights:
    """Weights of standardized response terms, whose weighted sum is added to the head's score.

    A gated mean of tokens cannot express what grows with length or belongs to one token.
    """

    def __init__(self, *, mean: ArrayLike, scale: ArrayLike, weight: ArrayLike) -> None:
        self.standardizer = Standardizer(mean=mean, scale=scale)
        self.weight = finite_vector(weight, "weight", like=self.standardizer.mean)

    def __call__(self, terms: ArrayLike) -> F64:
        """Return the weighted sum of ``terms`` (N, m), (N,) float64."""
        return weigh(self.standardizer(terms), self.weight)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadArtifact:
    """A trained head on logprobs: standardizer, head, response weights, calibration and facts.

    It reads d feature columns per token and m response terms per completion. Raises ValueError if the parts do not fit
    each other.

    Attributes:
        features: Rows of FEATURES, in column order.
        width: Number of rank columns of the features.
        response_terms: Rows of RESPONSE_TERMS, in column order.
        k_min: Fewest alternatives per token that the head was trained for; 0: chosen logprobs are enough.
        k_max: Most alternatives per token; of longer lists the first ``k_max`` are read.
        training: Training data, settings and measured quality: plain JSON values.
        acceptances: Thresholds for accepting answers, one per setting that ``swift-client calibrate`` tested.
        has_void_acceptances: Whether its file had thresholds that were left out: they were calibrated for another
            number than the log odds of the answer's probability, or for votes that weighed by probability.
        beta: Exponent of the votes' weights, exp(beta · calibrated log odds): 0 is the majority, 1 weighs by odds,
            infinity takes the best score.
        sketch: What its training questions have in common, which tells questions of another kind; None if unknown.
        stopping_costs: Pairs (points, cost) that rise from (0, 0): at this cost the stopping rule "auto" lost so many
            percentage points on held-out questions, against the vote over all n. Empty if this was not measured.
        verifier_terms: Weights of verifiers' judgements, one per verifier that it was trained with.
        drift_profile: Statistics of its training questions, which tell if the model has changed; None if unknown.
    """

    features: tuple[str, ...]
    width: int
    standardizer: Standardizer
    head: GatedLinearHead
    response_terms: tuple[str, ...] = ()
    response: ResponseWeights = field(default_factory=lambda: ResponseWeights(mean=[], scale=[], weight=[]))
    calibration: Calibration | None = None
    beta: float = 1.0
    provider: str
    model: str
    k_min: int
    k_max: int
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    acceptances: tuple[Acceptance, ...] = ()
    has_void_acceptances: bool = False
    sketch: QuestionSketch | None = None
    stopping_costs: tuple[tuple[float, float], ...] = ()
    verifier_terms: tuple[VerifierTerm, ...] = ()
    drift_profile: DriftProfile | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.k_min <= self.k_max <= self.width <= MAX_WIDTH:
            k = f"{self.k_min}, {self.k_max}, {self.width}"
            raise ValueError(f"k_min, k_max and width must rise from 0 to {MAX_WIDTH} at most, not {k}.")
        check_vote(self.beta, self.stopping_costs)
        if len(self.standardizer.mean) != self.head.width:
            raise ValueError(f"standardizer has {len(self.standardizer.mean)} columns and head {self.head.width}.")

    @property
    def name(self) -> str:
        """The name in ``swift_client.Selection.scorer``."""
        return f"head {self.provider}/{self.model}"

    def without_acceptances(self) -> Self:
        """Return this head for another model than its own, on which the risk of its acceptances was not measured."""
        return replace(self, acceptances=(), has_void_acceptances=False)

    @property
    def beats_majority(self) -> bool:
        """False if training did not find it better than voting without it; its scores then must not weigh votes."""
        return self.training.get("verdict") not in SET_ASIDE_VERDICTS

    @property
    def reads_token_ids(self) -> bool:
        """True if it reads the identities of the alternatives, so that completions need ``top_ids``."""
        return "alternatives_hash" in self.features

    @property
    def reads_thinking(self) -> bool:
        """True if it reads the thinking tokens before an answer."""
        return any(name.startswith("thinking_") for name in self.response_terms)

    def scores(self, values: ArrayLike, offsets: I64, terms: ArrayLike) -> F64:
        """Return the scores of N completions, (N,) float64; NaN for those without tokens.

        ``values`` (ΣT, d) are the token features with their ``offsets`` (N+1,), ``terms`` (N, m) the response terms.
        """
        return self.head.logits(self.standardizer(values), offsets) + self.response(terms)

    def check(self, *, provider: str, model: str | None, k: int) -> None:
        """Raise ArtifactMismatchError unless this head was trained for this provider, model and list length k.

        Lists longer than ``k_max`` fit: their first ``k_max`` entries are read.
        """
        if (provider, model) != (self.provider, self.model):
            reason = f"was trained on {self.provider}/{self.model}, not on {provider}/{model}"
        elif k < self.k_min:
            reason = f"needs at least {self.k_min} alternatives per token, not {k}"
        else:
            return
        raise ArtifactMismatchError(f"The head {reason}.", hint=f"Train one on answers of {provider}/{model}.")
