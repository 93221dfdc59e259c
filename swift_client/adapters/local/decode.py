"""The decoding loop: rows of several prompts advance together, one token per step, on transformers' own cache.

It replaces ``model.generate`` for five reasons. The prompt is read once, not once per completion. Each row draws from
its own seed, so a completion is the same in every batch. Finished rows leave the batch. Generation can be cancelled
between two steps. Each step's states and logits can be read before the next step frees them. A model only needs the
forward call that every decoder of transformers has.
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
from swift_client.adapters.local.request import SamplingParams
from swift_client.errors import ConfigurationError


class GenerationCancelled(Exception):
    """The caller has cancelled the request."""


@dataclass(eq=False, kw_only=True)
class DecodeRow:
    """One completion while it is generated.

    Attributes:
        prompt: token ids.
        seed: of this row's own random numbers.
        max_tokens: most tokens to draw.
        check_end: returns "end" if the tokens so far end with the model's end-of-turn token, "stop" if they contain a
            stop string, else None.
        tokens: ids drawn so far, including the one that ended the completion.
        logprobs: of these tokens, in nats.
        alternatives: for each token the (K,) highest logprobs, descending, and their ids.
        finish_reason: None while it grows.
        states: for each reader the state from which the first token was drawn, then one after each token read.
    """

    prompt: tuple[int, ...]
    seed: int
    max_tokens: int
    check_end: Callable[[Sequence[int]], Literal["end", "stop"] | None]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=list)
    finish_reason: Literal["end", "stop", "length"] | None = None
    states: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed % 2**64)

    def next_uniform(self) -> float:
        """Return the next random number in [0, 1) of this row."""
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
    """Fill ``rows`` with tokens. Equal prompts are read once; shorter prompts are padded on the left.

    Logprobs are those of the model's own distribution, before temperature and filters. If a reader needs the state
    after the last token, that token is read too, in an extra step.

    Args:
        model: a decoder of transformers.
        rows: the completions to generate.
        sampling: temperature and filters.
        k: number of alternatives per token.
        readers: keep hidden states of each step.
        is_cancelled: asked between two steps.

    Raises:
        GenerationCancelled: ``is_cancelled()`` returned True.
        ProviderError: logits are NaN or infinite.
        ConfigurationError: the model has no cache of transformers' kind.
    """
    needs_last_state = any(reader.moment == "read" for reader in readers)
    forward = _ForwardPass(model, [row.prompt for row in rows])
    active, next_tokens = list(rows), [row.prompt[-1] for row in rows]
    for row in rows:
        row.states = [[] for _ in readers]
    while active:
        if is_cancelled():
            raise GenerationCancelled
        logits, states = forward.step(next_tokens, with_states=bool(readers))
        # 1. Keep the states of this step.
        for reader_index, reader in enumerate(readers):
            for row, state in zip(active, reader(states, logits).unbind(), strict=True):
                row.states[reader_index].append(state)
        # 2. Draw a token for each row that is not finished.
        growing = [index for index, row in enumerate(active) if row.finish_reason is None]
        if growing:
            _append_tokens([active[index] for index in growing], logits[growing], sampling, k)
        # 3. Drop finished rows. A row whose last state is needed stays for one more step, unless it ended with the
        # end-of-turn token, which is not part of the answer.
        reasons_to_stay = ("stop", "length", None) if needs_last_state else (None,)
        remaining = [index for index in growing if active[index].finish_reason in reasons_to_stay]
        if len(remaining) < len(active):
            active = [active[index] for index in remaining]
            forward.select_rows(remaining)
        next_tokens = [row.tokens[-1] for row in active]


def _append_tokens(rows: Sequence[DecodeRow], logits: Tensor, sampling: SamplingParams, k: int) -> None:
    """Draw one token for each of B rows from the (B, V) logits."""
    uniforms = torch.tensor([row.next_uniform() for row in rows], dtype=torch.float64, device=logits.device)
    normalizer = torch.logsumexp(logits, -1, keepdim=True)
    if not bool(torch.isfinite(normalizer).all()):
        raise non_finite_error("logits")
    drawn = sample_tokens(logits, uniforms, sampling)[:, None]
    top_logits, top_ids = torch.topk(logits, min(k, logits.shape[-1]), -1)
    # Joined, so each step waits for the device only twice: once for the logprobs and once for the ids.
    logprobs = (torch.cat([logits.gather(-1, drawn), top_logits], -1) - normalizer).clamp(max=0.0).cpu().numpy()
    ids = torch.cat([drawn, top_ids], -1).cpu().numpy()
    for row, values, tokens in zip(rows, logprobs, ids, strict=True):
        row.tokens.append(int(tokens[0]))
        row.logprobs.append(float(values[0]))
        row.alternatives.append((values[1:], tokens[1:]))
        row.finish_reason = row.check_end(row.tokens) or ("length" if len(row.tokens) >= row.max_tokens else None)


def sample_tokens(logits: Tensor, uniforms: Tensor, sampling: SamplingParams) -> Tensor:
    """Return (B,) tokens: the first whose cumulative probability exceeds the row's uniform number.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) float64 in [0, 1).
        sampling: temperature and filters.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / sampling.temperature
    # Filters need the tokens sorted by probability; without filters the vocabulary's own order will do.
    order = None
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        scaled, order = scaled.sort(-1, descending=True)
        if sampling.top_k:
            scaled[:, sampling.top_k :] = -torch.inf
    probabilities = scaled.softmax(-1, dtype=torch.float64)
    if order is not None:
        before = probabilities.cumsum(-1) - probabilities
        outside = (before >= sampling.top_p) | (probabilities < sampling.min_p * probabilities[:, :1])
        outside[:, 0] = False  # the most likely token always stays
        probabilities = probabilities.masked_fill(outside, 0.0)
    # Inverse transform sampling in float64: the same uniform number gives the same token in every batch.
    cumulative = probabilities.cumsum(-1)
    index = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)
    index = index.clamp(max=logits.shape[-1] - 1)
    return (index if order is None else order.gather(-1, index)).squeeze(-1)


class _ForwardPass:
    """The model with its cache; each step reads one token per row."""

    def __init__(self, model: Any, prompts: Sequence[tuple[int, ...]]) -> None:
        self._model, self._device = model, model.device
        self._forward_params = inspect.signature(model.forward).parameters
        # Each different prompt is read once, all but its last token; the cache is then copied to the rows.
        unique_prompts = list(dict.fromkeys(prompts))
        past = max(map(len, prompts)) - 1
        pads = [past + 1 - len(prompt) for prompt in unique_prompts]
        order = torch.tensor([unique_prompts.index(prompt) for prompt in prompts], device=self._device)
        self._lengths = self._to_tensor([len(prompt) - 1 for prompt in prompts])
        self._mask: Tensor | None = None
        self._cache: Any = None
        mask = None
        if any(pads):  # without padding no mask is needed and attention is faster
            mask = self._to_tensor([[0] * pad + [1] * (past - pad) for pad in pads])
            self._mask = mask[order]
        if past:  # prompts of one token have nothing before their last token
            tokens = self._to_tensor([[0] * (past + 1 - len(prompt)) + [*prompt[:-1]] for prompt in unique_prompts])
            positions = (mask.cumsum(-1) - 1).clamp(min=0) if mask is not None else None
            self._cache = self._call(tokens, mask, positions).past_key_values
            if not hasattr(self._cache, "reorder_cache"):
                raise ConfigurationError(
                    f"{type(model).__name__} has no cache of transformers' own kind.",
                    hint="Use a decoder whose forward() takes and returns past_key_values.",
                )
            self._cache.reorder_cache(order)

    def step(self, tokens: Sequence[int], *, with_states: bool) -> tuple[Tensor, Sequence[Tensor]]:
        """Read one token per row; return logits (B, V) float32 and, ``with_states``, the L+1 states (B, 1, D)."""
        if self._mask is not None:
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        positions = self._lengths[:, None] if self._mask is not None else None
        output = self._call(self._to_tensor(tokens)[:, None], self._mask, positions, with_states)
        self._cache = output.past_key_values
        self._lengths += 1
        return output.logits[:, -1].float(), output.hidden_states if with_states else ()

    def select_rows(self, indices: Sequence[int]) -> None:
        """Keep only these rows."""
        if not indices:
            return
        index = self._to_tensor(indices)
        self._cache.reorder_cache(index)
        self._lengths = self._lengths[index]
        if self._mask is not None:
            self._mask = self._mask[index]

    def _call(self, tokens: Tensor, mask: Tensor | None, positions: Tensor | None, with_states: bool = False) -> Any:
        extra: dict[str, Any] = {}
        if positions is not None and "position_ids" in self._forward_params:  # other models derive them from the mask
            extra["position_ids"] = positions
        if "logits_to_keep" in self._forward_params:  # the logits of a long prompt would fill the memory
            extra["logits_to_keep"] = 1
        return self._model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=with_states,
            return_dict=True,
            **extra,
        )

    def _to_tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)
