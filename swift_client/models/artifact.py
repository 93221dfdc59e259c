"""A head on logprobs with everything that scoring needs, and the facts that say what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from swift_client.errors import ArtifactMismatchError
from swift_client.features.segments import F64, I64
from swift_client.models.acceptance import Acceptance
from swift_client.models.calibration import Calibration
from swift_client.models.gated_linear import GatedLinearHead, Standardizer, finite_vector, weigh

MAX_WIDTH = 1024  # upper limit of the rank columns, so that a file cannot ask for unlimited memory
# Value of ``training["verdict"]`` for a head that ranked the answers of one question no better than chance on held-out
# questions (``training.metrics.UsefulnessTest``). The wording is historical and stored in head files: nothing is
# compared with a majority vote.
NO_BETTER_VERDICT = "no better than majority"


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
    """

    features: tuple[str, ...]
    width: int
    standardizer: Standardizer
    head: GatedLinearHead
    response_terms: tuple[str, ...] = ()
    response: ResponseWeights = field(default_factory=lambda: ResponseWeights(mean=[], scale=[], weight=[]))
    calibration: Calibration | None = None
    provider: str
    model: str
    k_min: int
    k_max: int
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    acceptances: tuple[Acceptance, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.k_min <= self.k_max <= self.width <= MAX_WIDTH:
            k = f"{self.k_min}, {self.k_max}, {self.width}"
            raise ValueError(f"k_min, k_max and width must rise from 0 to {MAX_WIDTH} at most, not {k}.")
        if len(self.standardizer.mean) != self.head.width:
            raise ValueError(f"standardizer has {len(self.standardizer.mean)} columns and head {self.head.width}.")

    @property
    def name(self) -> str:
        """The name in ``swift_client.Selection.scorer``."""
        return f"head {self.provider}/{self.model}"

    @property
    def beats_majority(self) -> bool:
        """False if training found that it ranks answers no better than chance; its scores then must not weigh votes."""
        return self.training.get("verdict") != NO_BETTER_VERDICT

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
