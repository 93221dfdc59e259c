"""The decoding loop: rows of several prompts advance together, one token a step, on transformers' own cache.

A loop of ours and not ``model.generate``: the prompt is read once and not once a completion; each row draws from its
own seed, so that a completion is the same in every batch; rows that have ended leave the batch; between two steps the
draw can be cancelled; and each step's states and logits can be read before the next step frees them. All that is asked
of a model is the forward call that every decoder of transformers has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swift_client.adapters.local.hidden_states import StateReader, non_finite_error
from swift_client.errors import ConfigurationError


class GenerationCancelled(Exception):
    """The caller no longer wants the answers."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. The filters apply after the temperature, in this order: top_k, top_p, min_p."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """0: no such filter."""
    top_p: float = 1.0
    min_p: float = 0.0


@dataclass(eq=False, kw_only=True)
class DecodeRow:
    """One completion as it grows."""

    prompt: tuple[int, ...]
    seed: int
    max_tokens: int
    """Tokens at most."""
    check_end: Callable[[Sequence[int]], Literal["end", "stop"] | None]
    """Whether the tokens so far end with the model's own end-of-turn token, or hold a stop string."""
    tokens: list[int] = field(default_factory=list)
    """Those drawn so far, the one that ended it included."""
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=list)
    """For each token the (K,) highest logprobs, falling, and their ids."""
    finish_reason: Literal["end", "stop", "length"] | None = None
    states: list[list[Tensor]] = field(default_factory=list)
    """For each reader the state from which the first token was drawn, then one after each token that was read."""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed % 2**64)

    def next_uniform(self) -> float:
        """Return the next number in [0, 1) of this row's own stream."""
        return float(self._rng.random())


@torch.inference_mode()
def decode(
    model: Any,
    rows: Sequence[DecodeRow],
    *,
    sampling: SamplingParams,
    k: int,
    readers: Sequence[StateReader] = (),
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fill ``rows``; those of equal prompts share the reading of it, shorter prompts are padded on the left.

    Logprobs are those of the model's own distribution, before temperature and filters. ``k`` is the number of
    alternatives. Where a reader wants the state after the last token, that token is read too, in a step of its own.

    Raises:
        Cancelled: ``cancelled()`` was true between two steps.
        ProviderError: logits are NaN or infinite.
        ConfigurationError: the model keeps no cache that this loop knows.
    """
    late = any(reader.moment == "read" for reader in readers)
    forward = _ForwardPass(model, [row.prompt for row in rows])
    alive, feed = list(rows), [row.prompt[-1] for row in rows]
    for row in rows:
        row.states = [[] for _ in readers]
    while alive:
        if is_cancelled():
            raise GenerationCancelled
        logits, states = forward.step(feed, with_states=bool(readers))
        for place, reader in enumerate(readers):
            for row, state in zip(alive, reader(states, logits).unbind(), strict=True):
                row.states[place].append(state)
        growing = [place for place, row in enumerate(alive) if row.finish_reason is None]
        if growing:
            _append_tokens([alive[place] for place in growing], logits[growing], sampling, k)
        # The end-of-turn token is no part of the answer: nothing is to be known after it.
        stay = [
            place for place in growing if alive[place].finish_reason in (("stop", "length", None) if late else (None,))
        ]
        if len(stay) < len(alive):
            alive = [alive[place] for place in stay]
            forward.select_rows(stay)
        feed = [row.tokens[-1] for row in alive]


def _append_tokens(rows: Sequence[DecodeRow], logits: Tensor, sampling: SamplingParams, k: int) -> None:
    """Draw one token for each row from its (B, V) logits."""
    draws = torch.tensor([row.next_uniform() for row in rows], dtype=torch.float64, device=logits.device)
    normal = torch.logsumexp(logits, -1, keepdim=True)
    if not bool(torch.isfinite(normal).all()):
        raise non_finite_error("logits")
    chosen = sample_tokens(logits, draws, sampling)[:, None]
    top, ids = torch.topk(logits, min(k, logits.shape[-1]), -1)
    # Joined, so that a step waits for the device once for the numbers and once for the names.
    numbers = (torch.cat([logits.gather(-1, chosen), top], -1) - normal).clamp(max=0.0).cpu().numpy()
    names = torch.cat([chosen, ids], -1).cpu().numpy()
    for row, values, tokens in zip(rows, numbers, names, strict=True):
        row.tokens.append(int(tokens[0]))
        row.logprobs.append(float(values[0]))
        row.alternatives.append((values[1:], tokens[1:]))
        row.finish_reason = row.check_end(row.tokens) or ("length" if len(row.tokens) >= row.max_tokens else None)


def sample_tokens(logits: Tensor, uniforms: Tensor, sampling: SamplingParams) -> Tensor:
    """Return (B,) tokens: the first whose cumulated probability exceeds the row's uniform number.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) float64 in [0, 1).
        sampling: temperature and filters.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / sampling.temperature
    order = None
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        scaled, order = scaled.sort(-1, descending=True)
        if sampling.top_k:
            scaled[:, sampling.top_k :] = -torch.inf
    probabilities = scaled.softmax(-1, dtype=torch.float64)
    if order is not None:
        before = probabilities.cumsum(-1) - probabilities
        outside = (before >= sampling.top_p) | (probabilities < sampling.min_p * probabilities[:, :1])
        outside[:, 0] = False  # the likeliest token always stays
        probabilities = probabilities.masked_fill(outside, 0.0)
    cumulated = probabilities.cumsum(-1)
    place = torch.searchsorted(cumulated, (uniforms * cumulated[:, -1])[:, None], right=True)
    place = place.clamp(max=logits.shape[-1] - 1)
    return (place if order is None else order.gather(-1, place)).squeeze(-1)


class _ForwardPass:
    """The model with its cache, fed one token a row and step."""

    def __init__(self, model: Any, prompts: Sequence[tuple[int, ...]]) -> None:
        self._model, self._device = model, model.device
        self._forward_params = inspect.signature(model.forward).parameters
        different = list(dict.fromkeys(prompts))
        past = max(map(len, prompts)) - 1
        pads = [past + 1 - len(prompt) for prompt in different]
        order = torch.tensor([different.index(prompt) for prompt in prompts], device=self._device)
        self._lengths = self._to_tensor([len(prompt) - 1 for prompt in prompts])
        self._mask: Tensor | None = None
        self._cache: Any = None
        mask = None
        if any(pads):  # without padding no mask is needed, and attention is faster
            mask = self._to_tensor([[0] * pad + [1] * (past - pad) for pad in pads])
            self._mask = mask[order]
        if past:
            tokens = self._to_tensor(
                [[0] * pad + list(prompt[:-1]) for pad, prompt in zip(pads, different, strict=True)]
            )
            positions = (mask.cumsum(-1) - 1).clamp(min=0) if mask is not None else None
            self._cache = self._call(tokens, mask, positions).past_key_values
            if not hasattr(self._cache, "reorder_cache"):
                raise ConfigurationError(
                    f"{type(model).__name__} keeps no cache of transformers' own kind.",
                    hint="Use a decoder whose forward() takes and returns past_key_values.",
                )
            self._cache.reorder_cache(order)

    def step(self, tokens: Sequence[int], *, with_states: bool) -> tuple[Tensor, Sequence[Tensor]]:
        """Read one token a row; return logits (B, V) float32 and the L+1 states (B, 1, D), none where not wanted."""
        if self._mask is not None:
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        positions = self._lengths[:, None] if self._mask is not None else None
        output = self._call(self._to_tensor(tokens)[:, None], self._mask, positions, with_states)
        self._cache = output.past_key_values
        self._lengths += 1
        return output.logits[:, -1].float(), output.hidden_states if with_states else ()

    def select_rows(self, indices: Sequence[int]) -> None:
        """Go on with these rows alone."""
        if not indices:
            return
        index = self._to_tensor(indices)
        self._cache.reorder_cache(index)
        self._lengths = self._lengths[index]
        if self._mask is not None:
            self._mask = self._mask[index]

    def _call(self, tokens: Tensor, mask: Tensor | None, positions: Tensor | None, with_states: bool = False) -> Any:
        further: dict[str, Any] = {}
        if positions is not None and "position_ids" in self._forward_params:  # others count positions from the mask
            further["position_ids"] = positions
        if "logits_to_keep" in self._forward_params:  # the logits of a long prompt would fill the memory
            further["logits_to_keep"] = 1
        return self._model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=with_states,
            return_dict=True,
            **further,
        )

    def _to_tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)
