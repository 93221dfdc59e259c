"""Tiny random decoders with a byte tokenizer, built from configurations: nothing is downloaded. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from swift_client.pocket.server import PACKAGED_MODEL
from tools.pocket.export import write_transformers
from tools.pocket.unpack import read_gguf

WIDTH, LAYERS, CONTEXT = 32, 3, 512
STATES = LAYERS + 1
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
_SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "max_position_embeddings": CONTEXT}
KINDS: dict[str, Any] = {
    "llama": lambda **more: transformers.LlamaConfig(intermediate_size=64, **_HEADS, **_SHAPE, **more),
    "gpt2": lambda **more: transformers.GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, **more),
    "qwen3": lambda **more: transformers.Qwen3Config(intermediate_size=64, head_dim=8, **_HEADS, **_SHAPE, **more),
    "mistral": lambda **more: transformers.MistralConfig(
        intermediate_size=64, sliding_window=8, **_HEADS, **_SHAPE, **more
    ),
    "opt": lambda **more: transformers.OPTConfig(
        ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=WIDTH, **_SHAPE, **more
    ),
    "bloom": lambda **more: transformers.BloomConfig(hidden_size=WIDTH, n_layer=LAYERS, n_head=4, **more),
}
"""Rotary, learned, grouped, sliding-window, offset and ALiBi positions."""
END, THINK, DONE = "<|end|>", "<think>", "</think>"
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{{ opening }}"


def byte_tokenizer(*, template: str | None = None) -> Any:
    """Return a GPT-2 style tokenizer of single bytes and "th", without a pad token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate([*letters, "th"])}, [("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in (THINK, DONE)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.chat_template = template
    return fast


def random_model(kind: str = "llama", *, size: int = 260, seed: int = 0) -> Any:
    """Return a random model with ``size`` tokens, whose weights are large enough that states differ."""
    torch.manual_seed(seed)
    config = KINDS[kind](vocab_size=size, eos_token_id=None, bos_token_id=None, pad_token_id=None)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    return model


def save_model(folder: Path, *, kind: str = "llama", template: str | None = None) -> Path:
    """Write a random model and the byte tokenizer as ``from_pretrained`` reads them."""
    random_model(kind).save_pretrained(folder)
    byte_tokenizer(template=template).save_pretrained(folder)
    return folder


def pocket_folder(folder: Path) -> Path:
    """Write the packaged model as a folder of transformers: the same questions can be asked of both backends."""
    model, tokenizer = read_gguf(PACKAGED_MODEL)
    write_transformers(model, tokenizer, folder)
    return folder


@torch.no_grad()
def second_pass(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one text again, whole, without cache, padding or batch.

    Returns:
        Log probabilities (T, V) of the distributions that the tokens were drawn from; states (T + 1, L+1, D), from
        the one that the first token was drawn from to the one after the last token.
    """
    output = model(torch.tensor([[*prompt, *tokens]]), output_hidden_states=True, use_cache=False)
    states = torch.stack([state[0] for state in output.hidden_states], 1)
    first = len(prompt) - 1
    return output.logits[0, first:-1].float().log_softmax(-1), states[first:].float()
