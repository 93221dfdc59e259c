"""Read a GGUF file back into torch, or into a transformers folder: ``python -m tools.pocket.unpack FILE FOLDER``.

The folder is what ``AutoModelForCausalLM.from_pretrained`` reads; with the package accelerate installed, transformers
also reads the GGUF file itself (``gguf_file=``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models

from tools.pocket.export import Array, write_transformers
from tools.pocket.model import PocketModel, Shape
from tools.pocket.tokenizer import SPECIALS, untrained


def read_gguf(path: Path) -> tuple[PocketModel, Tokenizer]:
    """Return the model (float32, evaluation mode, on the CPU) and the tokenizer that ``path`` holds."""
    reader = gguf.GGUFReader(path)
    facts: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
    shape = Shape(
        vocabulary=len(facts["tokenizer.ggml.tokens"]),
        width=facts["llama.embedding_length"],
        layers=facts["llama.block_count"],
        heads=facts["llama.attention.head_count"],
        inner=facts["llama.feed_forward_length"],
        context=facts["llama.context_length"],
        rope_base=facts["llama.rope.freq_base"],
        norm_eps=facts["llama.attention.layer_norm_rms_epsilon"],
    )
    arrays = {tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in reader.tensors}
    model = PocketModel(shape)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in _own_names(arrays, shape).items()})
    return model.eval(), _tokenizer(facts)


def half_split(weight: Array, heads: int) -> Array:
    """Undo :func:`tools.pocket.export.interleaved`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _own_names(arrays: dict[str, Array], shape: Shape) -> dict[str, Array]:
    own = {"embedding.weight": arrays["token_embd.weight"], "norm.weight": arrays["output_norm.weight"]}
    for i in range(shape.layers):
        own_prefix, gguf_prefix = f"blocks.{i}.", f"blk.{i}."
        query = half_split(arrays[gguf_prefix + "attn_q.weight"], shape.heads)
        key = half_split(arrays[gguf_prefix + "attn_k.weight"], shape.heads)
        own |= {
            own_prefix + "attention_norm.weight": arrays[gguf_prefix + "attn_norm.weight"],
            own_prefix + "qkv.weight": np.concatenate((query, key, arrays[gguf_prefix + "attn_v.weight"])),
            own_prefix + "out.weight": arrays[gguf_prefix + "attn_output.weight"],
            own_prefix + "inner_norm.weight": arrays[gguf_prefix + "ffn_norm.weight"],
            own_prefix + "gate_up.weight": np.concatenate(
                (arrays[gguf_prefix + "ffn_gate.weight"], arrays[gguf_prefix + "ffn_up.weight"])
            ),
            own_prefix + "down.weight": arrays[gguf_prefix + "ffn_down.weight"],
        }
    return own


def _tokenizer(facts: dict[str, Any]) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(facts["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = untrained(models.BPE(vocabulary, merges))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    model, tokenizer = read_gguf(options.file)
    write_transformers(model, tokenizer, options.folder)
    print(json.dumps(model.shape.to_dict()))


if __name__ == "__main__":
    main()
