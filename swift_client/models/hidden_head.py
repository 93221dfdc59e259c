"""A head on the hidden states of a local model: SWIFT as published (arXiv 2505.12225)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swift_client.errors import ArtifactMismatchError
from swift_client.features.segments import F64, I64
from swift_client.models.acceptance import Acceptance
from swift_client.models.artifact import MAX_WIDTH, SET_ASIDE_VERDICTS, HeadArtifact, check_vote
from swift_client.models.calibration import Calibration
from swift_client.models.drift_profile import DriftProfile
from swift_client.models.gated_linear import GatedLinearHead, gated_mean, sigmoid, weigh
from swift_client.models.question_sketch import QuestionSketch
from swift_client.models.verifier_term import VerifierTerm
from swift_client.types import F32, StatePosition


@dataclass(frozen=True, eq=False, kw_only=True)
class HiddenHead:
    """A gated linear head over L concatenated hidden states of width D per token, with its facts.

    Raises ValueError if the parts do not fit each other.

    Attributes:
        head: Weights (L*D,), layer by layer in the order of ``layers``.
        layers: Indices into ``hidden_states`` of transformers: 0 is the embedding, the last one follows the
            final norm. Empty: the logprobs of the whole vocabulary, in the order of token ids, are the one
            state, at the moment "produced".
        width: D, or the vocabulary size V without layers.
        logprob_head: A head on logprobs. Its gate and reward logits are added per token, its response terms
            per completion; its other facts are ignored.
        moment: The state of a token: "read", the one after it (as published); "produced", the one it was
            sampled from.
        training: Training data, settings and measured quality: plain JSON values.
        acceptances, has_void_acceptances, beta, sketch, stopping_costs, verifier_terms, drift_profile: As in
            ``HeadArtifact``.
    """

    head: GatedLinearHead
    layers: tuple[int, ...]
    width: int
    logprob_head: HeadArtifact | None = None
    moment: StatePosition = "read"
    calibration: Calibration | None = None
    beta: float = 1.0
    provider: str = "huggingface"
    model: str
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    acceptances: tuple[Acceptance, ...] = ()
    has_void_acceptances: bool = False
    sketch: QuestionSketch | None = None
    stopping_costs: tuple[tuple[float, float], ...] = ()
    verifier_terms: tuple[VerifierTerm, ...] = ()
    drift_profile: DriftProfile | None = None

    def __post_init__(self) -> None:
        layers = ", ".join(map(str, self.layers))
        check_vote(self.beta, self.stopping_costs)
        if self.moment not in get_args(StatePosition):
            raise ValueError(f"moment is {self.moment!r}.")
        if self.width < 1 or min(self.layers, default=0) < 0 or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers {layers or 'none'} of width {self.width} are not hidden states.")
        if not self.layers and self.moment != "produced":
            raise ValueError("without layers it reads logprobs, which are those that produced a token.")
        if self.head.width != max(1, len(self.layers)) * self.width:
            raise ValueError(f"head has {self.head.width} weights for layers {layers} of width {self.width}.")

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, ArrayLike],
        *,
        model: str,
        layers: tuple[int, ...] | None = None,
        width: int,
        **facts: Any,
    ) -> Self:
        """Build a head from the state_dict of the official code, its values as arrays.

        The official head (``LinearRewardModel``) is one Linear(L*D, 2), gate before reward. Without a gate it is
        Linear(L*D, 1) and a plain mean, which a gate of zero weights gives too. Its layers are in rising order. The
        official code counts the end-of-turn token as a token of the answer; this package does not.

        Args:
            state: one entry ending in "weight" and at most one ending in "bias" (default 0).
            model: the model that the states come from.
            layers: default: 0..L-1, with L from the size of the weights.
            width: D.
            facts: further fields of this class.

        Raises:
            ValueError: ``state`` is not such a state_dict, or the numbers do not fit.
        """
        weights = [np.asarray(value, np.float64) for name, value in state.items() if name.endswith("weight")]
        biases = [np.asarray(value, np.float64) for name, value in state.items() if name.endswith("bias")]
        if len(weights) != 1 or weights[0].ndim != 2 or len(weights[0]) not in (1, 2) or len(state) > 2:
            raise ValueError(f"the entries {sorted(state)} are not one linear layer with one or two outputs.")
        weight, bias = weights[0], biases[0] if biases else np.zeros(len(weights[0]))
        if len(weight) == 1:
            weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
        head = GatedLinearHead(gate_weight=weight[0], gate_bias=bias[0], reward_weight=weight[1], reward_bias=bias[1])
        return cls(head=head, layers=layers or tuple(range(head.width // width)), width=width, model=model, **facts)

    def to_state_dict(self) -> dict[str, F32]:
        """Return the official code's state_dict: fused_layer.weight (2, L*D), fused_layer.bias (2,), float32."""
        weight, bias = self.matrix()
        return {"fused_layer.weight": weight, "fused_layer.bias": bias}

    def matrix(self) -> tuple[F32, F32]:
        """Return weight (2, L*D) and bias (2,), float32, gate before reward."""
        head = self.head
        weight = np.stack([head.gate_weight, head.reward_weight]).astype(np.float32)
        return weight, np.array([head.gate_bias, head.reward_bias], np.float32)

    @property
    def k_min(self) -> int:
        """Fewest alternatives per token that it needs."""
        return self.logprob_head.k_min if self.logprob_head else 0

    @property
    def k_max(self) -> int:
        """Most alternatives per token. Without a head on logprobs it reads none, but requests as many as there are,
        for the fallback scorers.
        """
        return self.logprob_head.k_max if self.logprob_head else MAX_WIDTH

    @property
    def reads_token_ids(self) -> bool:
        """As in ``HeadArtifact``."""
        return self.logprob_head is not None and self.logprob_head.reads_token_ids

    @property
    def name(self) -> str:
        """The name in ``swift_client.Selection.scorer``."""
        return f"{'hybrid' if self.logprob_head else 'hidden'} head {self.provider}/{self.model}"

    def without_acceptances(self) -> Self:
        """Return this head for another model than its own, on which the risk of its acceptances was not measured."""
        return replace(self, acceptances=(), has_void_acceptances=False)

    @property
    def beats_majority(self) -> bool:
        """As in ``HeadArtifact``."""
        return self.training.get("verdict") not in SET_ASIDE_VERDICTS

    def project(self, states: NDArray[np.float16]) -> F32:
        """Return the gate and reward logits, (T, 2) float32, for captured states (T, L*D).

        Raises ArtifactMismatchError for another width.
        """
        if states.shape[1:] != (self.head.width,):
            raise ArtifactMismatchError(
                f"The {self.name} reads {self.head.width} numbers per token, not {states.shape[1:]}.",
                hint=f"Capture {', '.join(map(str, self.layers)) or 'the vocabulary'}.",
            )
        weight, bias = self.matrix()
        result: F32 = states.astype(np.float32) @ weight.T + bias
        return result

    def scores(
        self, projections: ArrayLike, offsets: I64, values: ArrayLike | None = None, terms: ArrayLike | None = None
    ) -> F64:
        """Return R = Σ g·r / max(Σ g, 1e-8) of N completions, (N,) float64, NaN for those without tokens.

        ``projections`` (ΣT, 2) are the gate and reward logits of all tokens end to end, with ``offsets`` (N+1,). With a
        ``logprob_head`` its token features ``values`` (ΣT, d) and response terms (N, m) are required; ValueError if
        they are missing.
        """
        logits = np.asarray(projections, np.float64).reshape(-1, 2)
        if self.logprob_head is None:
            return gated_mean(sigmoid(logits[:, 0]), logits[:, 1], offsets)
        if values is None or terms is None:
            raise ValueError(f"the {self.name} also reads logprobs.")
        rows, head = self.logprob_head.standardizer(values), self.logprob_head.head
        gate_logits = logits[:, 0] + weigh(rows, head.gate_weight) + head.gate_bias
        rewards = logits[:, 1] + weigh(rows, head.reward_weight) + head.reward_bias
        return gated_mean(sigmoid(gate_logits), rewards, offsets) + self.logprob_head.response(terms)

    def check(self, *, provider: str, model: str | None, k: int = 0) -> None:
        """Raise ArtifactMismatchError unless this head was trained for this provider, model and list length k."""
        if (provider, model) != (self.provider, self.model):
            raise ArtifactMismatchError(
                f"The head was trained on hidden states of {self.provider}/{self.model}, not on {provider}/{model}.",
                hint="Train one on the states of that model.",
            )
        if self.logprob_head and k < self.k_min:
            raise ArtifactMismatchError(
                f"The {self.name} needs at least {self.k_min} alternatives per token, not {k}.",
                hint="Ask for that many with top_logprobs=.",
            )
