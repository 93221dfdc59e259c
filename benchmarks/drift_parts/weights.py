"""Copies of a GGUF file with other quantisation or another chat template, as a provider may change its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

TEMPLATE = "tokenizer.chat_template"


def write_changed(source: Path, target: Path, *, quantization: str | None = None, template: str | None = None) -> None:
    """Write ``source`` with its matrices in another format, or with another chat template, to ``target``.

    Args:
        source: a GGUF file.
        target: the file to write.
        quantization: a format of ``gguf.GGMLQuantizationType`` with blocks of 32 weights, such as "Q4_0"; every matrix
            but the embedding is rounded to it.
        template: a Jinja template.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, arch=reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue  # the writer adds them
        value = template if name == TEMPLATE and template is not None else field.contents()
        kind = field.types[0]
        writer.add_key_value(name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        data, kind = _encode(tensor, quantization)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _encode(tensor: Any, quantization: str | None) -> tuple[np.ndarray, Any]:
    """Return a tensor's data and format; vectors and the embedding stay as they are."""
    if quantization is None or len(tensor.shape) < 2 or tensor.name.startswith("token_embd"):
        return tensor.data, tensor.tensor_type
    kind = gguf.GGMLQuantizationType[quantization]
    weights = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    return gguf.quants.quantize(weights, kind), kind
