"""A head with all that it needs to score, and the facts that say what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from swift_client.errors import ArtifactMismatchError
from swift_client.features.segments import F64, I64
from swift_client.models.acceptance import Acceptance
from swift_client.models.calibration import Calibration
from swift_client.models.folders import user_folder
from swift_client.models.gated_linear import GatedLinearHead
from swift_client.models.standardizer import Standardizer
from swift_client.models.validation import finite_vector, weigh

MAX_WIDTH = 1024
"""Bound of the rank columns; a file may not ask for more memory than that."""


NO_BETTER_VERDICT = "no better than majority"
"""Value of ``training["verdict"]`` for a head whose validation questions do not show that its scores help."""


class ResponseWeights:
    """Weights of standardized response terms; their sum is added to the head's score.

    A gated mean cannot express what grows with length or belongs to one token.
    """

    def __init__(self, *, mean: ArrayLike, scale: ArrayLike, weight: ArrayLike) -> None:
        self.standardizer = Standardizer(mean=mean, scale=scale)
        self.weight = finite_vector(weight, "weight", like=self.standardizer.mean)

    def __call__(self, terms: ArrayLike) -> F64:
        """Return what to add to the scores, (N,) float64, for terms (N, m)."""
        return weigh(self.standardizer(terms), self.weight)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadArtifact:
    """Standardizer, head, response weights and calibration, with their facts. d features, m response terms.

    Raises ValueError where the parts do not fit each other.
    """

    features: tuple[str, ...]
    """Rows of FEATURES, in column order."""
    width: int
    """Rank columns of the features."""
    standardizer: Standardizer
    head: GatedLinearHead
    response_terms: tuple[str, ...] = ()
    """Rows of RESPONSE_TERMS, in column order."""
    response: ResponseWeights = field(default_factory=lambda: ResponseWeights(mean=[], scale=[], weight=[]))
    calibration: Calibration | None = None
    provider: str
    model: str
    k_min: int
    """Fewest alternatives a token that the head was trained for; 0: chosen logprobs alone are enough."""
    k_max: int
    """Most of them; of longer lists the first ``k_max`` are read."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """What it was trained on and how well it did: plain JSON values."""
    licence: str = "unknown"
    acceptances: tuple[Acceptance, ...] = ()
    """Which answers may be taken without a look, one for each way of asking that `swift-client calibrate` tested."""

    def __post_init__(self) -> None:
        if not 0 <= self.k_min <= self.k_max <= self.width <= MAX_WIDTH:
            k = f"{self.k_min}, {self.k_max}, {self.width}"
            raise ValueError(f"k_min, k_max and width must rise from 0 to {MAX_WIDTH} at most, not {k}.")
        if len(self.standardizer.mean) != self.head.width:
            raise ValueError(f"standardizer has {len(self.standardizer.mean)} columns and head {self.head.width}.")

    @property
    def name(self) -> str:
        """What a Selection is said to be scored with."""
        return f"head {self.provider}/{self.model}"

    @property
    def beats_majority(self) -> bool:
        """Whether its scores may weigh votes: False where training found it no better than majority."""
        return self.training.get("verdict") != NO_BETTER_VERDICT

    @property
    def reads_token_ids(self) -> bool:
        """Whether it reads which tokens the alternatives are: completions then need ``top_ids``."""
        return "alternatives_hash" in self.features

    @property
    def reads_thinking(self) -> bool:
        """Whether it reads the tokens that were thought before an answer."""
        return any(name.startswith("thinking_") for name in self.response_terms)

    def scores(self, values: ArrayLike, offsets: I64, terms: ArrayLike) -> F64:
        """Return the scores of N completions, (N,) float64, NaN for those without tokens.

        ``values`` (ΣT, d) and ``offsets`` (N+1,) are the token features, ``terms`` (N, m) the response terms.
        """
        return self.head.logits(self.standardizer(values), offsets) + self.response(terms)

    def check(self, *, provider: str, model: str | None, k: int) -> None:
        """Raise ArtifactMismatchError where this head was not trained for this provider, model and list length k.

        More than ``k_max`` is no mismatch: the first ``k_max`` are read, which are the same numbers.
        """
        if (provider, model) != (self.provider, self.model):
            reason = f"was trained on {self.provider}/{self.model}, not on {provider}/{model}"
        elif k < self.k_min:
            reason = f"needs at least {self.k_min} alternatives a token, not {k}"
        else:
            return
        name = f"{self.provider}/{self.model}"
        raise ArtifactMismatchError(
            f"The head {reason}.",
            hint=f"Train one on answers of {provider}/{model}. To use this one anyway, put its file into "
            f'{user_folder()} and ask for it by its name: head="{name}".',
        )
