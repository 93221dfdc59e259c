"""Loading a decoder and its tokenizer with transformers, with one clear error for each failure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from swift_client.adapters.local.tokenizer import Vocabulary
from swift_client.errors import ConfigurationError


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedModel:
    """A model that is ready to decode.

    Attributes:
        context_length: most tokens of prompt and answer together; None: no known limit.
        n_states: L+1: hidden states per token, including the embedding.
        hidden_size: D, numbers in one hidden state.
    """

    model: Any
    vocabulary: Vocabulary
    context_length: int | None
    n_states: int
    hidden_size: int


def load(name: str | os.PathLike[str], *, device: str | None, dtype: str | None) -> LoadedModel:
    """Load a model by its folder, its name on the hub, or a GGUF file's path. Never runs the model's own code.

    Args:
        name: what ``from_pretrained`` takes; a path that ends in ``.gguf`` is read as such a file.
        device: default: "cuda" if available, else "cpu".
        dtype: "float32", "bfloat16", "float16" or "auto", the checkpoint's; default: "auto" on a GPU, else "float32".

    Raises:
        ConfigurationError: it cannot be found, downloaded or read, or it is not a decoder.
    """
    path = os.fspath(name)
    source, options = path, {}
    if path.endswith(".gguf"):
        source, options = os.path.dirname(path) or ".", {"gguf_file": os.path.basename(path)}
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype_name = dtype or ("float32" if target.type == "cpu" else "auto")
    if dtype_name not in ("auto", "float32", "bfloat16", "float16"):
        raise ConfigurationError(f"There is no dtype {dtype!r}.", hint='Use "float32", "bfloat16", "float16", "auto".')
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        _check_decoder(config, path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        torch_dtype = dtype_name if dtype_name == "auto" else getattr(torch, dtype_name)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch_dtype, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _load_error(path, error) from error
    return prepare(model.to(target), tokenizer)


def prepare(model: Any, tokenizer: Any) -> LoadedModel:
    """Return a LoadedModel of a model and its tokenizer. Raises ConfigurationError unless it is a decoder."""
    config = model.config
    _check_decoder(config, getattr(config, "name_or_path", "") or type(model).__name__)
    text = config.get_text_config()
    # The end-of-turn tokens may be in any of the three configurations, as one id or as a list.
    end_ids: list[int | None] = []
    for source in (model.generation_config, config, text):
        ids = getattr(source, "eos_token_id", None)
        end_ids += ids if isinstance(ids, list) else [ids]
    return LoadedModel(
        model=model.eval(),
        vocabulary=Vocabulary(tokenizer, [token for token in end_ids if token is not None]),
        context_length=getattr(text, "max_position_embeddings", None),
        n_states=text.num_hidden_layers + 1,
        hidden_size=text.hidden_size,
    )


def _check_decoder(config: Any, name: str) -> None:
    if config.is_encoder_decoder:
        raise ConfigurationError(
            f"{name} is an encoder-decoder model ({config.model_type}).",
            hint="Answers and their states come from decoder-only models, such as Llama, Qwen or Mistral.",
        )


def _load_error(name: str, error: Exception) -> ConfigurationError:
    """Return one clear sentence for a failure that transformers describes in several."""
    inner: BaseException | None = error
    names = set()
    while inner is not None:
        names |= {cls.__name__ for cls in type(inner).__mro__}
        inner = inner.__cause__ or inner.__context__
    # A folder that exists is broken; a name may be gated, unknown, or unreachable.
    if os.path.exists(name):
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return ConfigurationError(
            f"The model in {name} cannot be loaded: {reason}",
            hint="It needs config.json, weights and a tokenizer, as save_pretrained writes them.",
        )
    if names & {"GatedRepoError"}:
        return ConfigurationError(
            f"The model {name!r} is gated.", hint="Accept its licence on huggingface.co, then run `hf auth login`."
        )
    if names & {"RepositoryNotFoundError", "HFValidationError"}:
        return ConfigurationError(
            f"There is no model {name!r}, neither as a folder nor on huggingface.co.",
            hint="Check the name; a private model needs `hf auth login`.",
        )
    return ConfigurationError(
        f"The model {name!r} is not on this machine and cannot be downloaded.",
        hint="Check the network (and HF_HUB_OFFLINE), or give a folder with the model's files.",
    )
