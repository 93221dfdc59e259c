"""Llama's forward pass for many continuations of one prefix, whose keys and values are kept once, not per row.

transformers' cache holds the prefix in every row, and copies all of it at each step: with 128 rows and few-shot prompts
that takes as long as the matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


class Branches:
    """Rows that continue the same ``prefix``, each with its own tokens.

    Args:
        model: a ``LlamaForCausalLM``.
        prefix: token ids that all rows begin with.
        rows: number of rows.
        room: most tokens of a row after the prefix.
    """

    def __init__(self, model: Any, prefix: list[int], rows: int, room: int) -> None:
        self._model, config = model, model.config
        cache: Any = DynamicCache(config=config)
        if prefix:
            model(torch.tensor([prefix]), past_key_values=cache, logits_to_keep=1)
        shape = (config.num_key_value_heads, 0, config.head_dim)
        layers = range(config.num_hidden_layers)
        dtype = model.model.layers[0].self_attn.q_proj.weight.dtype
        self._prefix = [
            (cache.layers[i].keys[0], cache.layers[i].values[0]) if prefix else (torch.zeros(shape, dtype=dtype),) * 2
            for i in layers
        ]
        self._own = [
            (
                torch.zeros(rows, shape[0], room, shape[2], dtype=dtype),
                torch.zeros(rows, shape[0], room, shape[2], dtype=dtype),
            )
            for _ in layers
        ]
        self._visible = torch.zeros(rows, room, dtype=torch.bool)
        self._length, self._prefix_length = 0, len(prefix)

    def repeat(self, n: int) -> None:
        """Replace each row by ``n`` copies."""
        self._own = [(keys.repeat_interleave(n, 0), values.repeat_interleave(n, 0)) for keys, values in self._own]
        self._visible = self._visible.repeat_interleave(n, 0)

    def select(self, rows: Tensor) -> None:
        """Keep only ``rows``."""
        self._own = [(keys[rows], values[rows]) for keys, values in self._own]
        self._visible = self._visible[rows]

    def append(self, ids: Tensor, real: Tensor, states: list[Tensor] | None = None) -> Tensor:
        """Return the logits (rows, vocabulary) after further tokens ``ids``, which are padding unless ``real``.

        The hidden states (rows, steps, width) are appended to ``states``, as transformers numbers them: the embedding,
        each layer but the last, and the final norm.
        """
        model, steps = self._model.model, ids.shape[1]
        start, end = self._length, self._length + steps
        self._visible[:, start:end] = real
        self._length = end
        visible = self._visible[:, :end]
        positions = self._prefix_length + (visible.cumsum(1) - 1).clamp(min=0)[:, start:]
        # (rows, 1, steps, end): own tokens up to each position; padding sees itself, so that no row is empty.
        causal = torch.arange(end)[None, :] <= torch.arange(start, end)[:, None]
        own_mask = (visible[:, None, :] & causal) | (torch.arange(end)[None, :] == torch.arange(start, end)[:, None])
        bias = torch.zeros(own_mask.shape).masked_fill(~own_mask, float("-inf"))
        hidden = model.embed_tokens(ids)
        cosine, sine = model.rotary_emb(hidden, positions)
        for index, layer in enumerate(model.layers):
            if states is not None:
                states.append(hidden)
            attended = self._attend(layer.self_attn, layer.input_layernorm(hidden), (cosine, sine), index, start, bias)
            hidden = hidden + attended
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        hidden = model.norm(hidden)
        if states is not None:
            states.append(hidden)
        logits: Tensor = self._model.lm_head(hidden[:, -1])
        return logits

    def _attend(
        self, attention: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor], index: int, start: int, bias: Tensor
    ) -> Tensor:
        rows, steps, _ = hidden.shape
        size = attention.head_dim
        query = attention.q_proj(hidden).view(rows, steps, -1, size).transpose(1, 2)
        key = attention.k_proj(hidden).view(rows, steps, -1, size).transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, *rotation)
        own_keys, own_values = self._own[index]
        own_keys[:, :, start : start + steps] = key
        own_values[:, :, start : start + steps] = attention.v_proj(hidden).view(rows, steps, -1, size).transpose(1, 2)
        own_keys, own_values = own_keys[:, :, : start + steps], own_values[:, :, : start + steps]
        prefix_keys, prefix_values = self._prefix[index]
        groups = prefix_keys.shape[0]
        # Queries by key head: (groups, rows · heads of the group · steps, size) for the prefix that all rows share.
        heads = query.shape[1] // groups
        grouped = query.reshape(rows, groups, heads * steps, size)
        shared = grouped.transpose(0, 1).reshape(groups, -1, size)
        prefix_scores = (shared @ prefix_keys.transpose(1, 2)).view(groups, rows, heads, steps, -1).transpose(0, 1)
        own_scores = (grouped @ own_keys.transpose(2, 3)).view(rows, groups, heads, steps, -1).float()
        own_scores = own_scores * attention.scaling + bias[:, None, None]
        weights = torch.cat([prefix_scores.float() * attention.scaling, own_scores], 4).softmax(4).to(query.dtype)
        prefix_length = prefix_scores.shape[4]
        on_prefix, on_own = weights[..., :prefix_length], weights[..., prefix_length:]
        shared = on_prefix.transpose(0, 1).reshape(groups, rows * heads * steps, -1) @ prefix_values
        output = shared.view(groups, rows, heads, steps, size).transpose(0, 1)
        output = output + (on_own.reshape(rows, groups, heads * steps, -1) @ own_values).view(output.shape)
        output = output.reshape(rows, groups * heads, steps, size).transpose(1, 2).reshape(rows, steps, -1)
        result: Tensor = attention.o_proj(output)
        return result
