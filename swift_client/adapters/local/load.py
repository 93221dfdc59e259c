"""A decoder and its tokenizer from transformers, on the device where they run, with one clear error each."""

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
    """A model that is ready to decode."""

    model: Any
    vocabulary: Vocabulary
    context_length: int | None
    """Tokens that prompt and answer may have together; None: no known limit."""
    n_states: int
    """L+1: hidden states a token, the embedding included."""
    hidden_size: int
    """D, numbers in one hidden state."""


def load(name: str | os.PathLike[str], *, device: str | None, dtype: str | None) -> LoadedModel:
    """Load a model by its folder, its name on the hub, or a GGUF file's path. No code of the model's own is run.

    Args:
        name: what ``from_pretrained`` takes; a path that ends in ``.gguf`` is read as such a file.
        device: default: "cuda" where there is one, else "cpu".
        dtype: "float32", "bfloat16", "float16" or "auto", the checkpoint's; default: "auto" on a GPU, else "float32".

    Raises:
        ConfigurationError: it cannot be found, downloaded or read, or it is no decoder.
    """
    path = os.fspath(name)
    where: tuple[str, dict[str, Any]] = (path, {})
    if path.endswith(".gguf"):
        where = os.path.dirname(path) or ".", {"gguf_file": os.path.basename(path)}
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = dtype or ("float32" if place.type == "cpu" else "auto")
    if kind not in ("auto", "float32", "bfloat16", "float16"):
        raise ConfigurationError(f"There is no dtype {dtype!r}.", hint='Use "float32", "bfloat16", "float16", "auto".')
    source, options = where
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        _check_decoder(config, path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        number = kind if kind == "auto" else getattr(torch, kind)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=number, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _load_error(path, error) from error
    return prepare(model.to(place), tokenizer)


def prepare(model: Any, tokenizer: Any) -> LoadedModel:
    """Return a loaded model with what decoding needs to know of it. Raises ConfigurationError for no decoder."""
    config = model.config
    _check_decoder(config, getattr(config, "name_or_path", "") or type(model).__name__)
    text = config.get_text_config()
    ends: list[int | None] = []
    for holder in (model.generation_config, config, text):
        given = getattr(holder, "eos_token_id", None)
        ends += given if isinstance(given, list) else [given]
    return LoadedModel(
        model=model.eval(),
        vocabulary=Vocabulary(tokenizer, [end for end in ends if end is not None]),
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
    """Say in one sentence why a model cannot be loaded: transformers says it in several."""
    inner: BaseException | None = error
    kinds = set()
    while inner is not None:
        kinds |= {cls.__name__ for cls in type(inner).__mro__}
        inner = inner.__cause__ or inner.__context__
    if os.path.exists(name):
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return ConfigurationError(
            f"The model in {name} cannot be loaded: {first}",
            hint="It needs config.json, weights and a tokenizer, as save_pretrained writes them.",
        )
    if kinds & {"GatedRepoError"}:
        return ConfigurationError(
            f"The model {name!r} is gated.", hint="Accept its licence on huggingface.co, then run `hf auth login`."
        )
    if kinds & {"RepositoryNotFoundError", "HFValidationError"}:
        return ConfigurationError(
            f"There is no model {name!r}, neither as a folder nor on huggingface.co.",
            hint="Check the name; a private model needs `hf auth login`.",
        )
    return ConfigurationError(
        f"The model {name!r} is neither here nor can it be downloaded.",
        hint="Check the network (and HF_HUB_OFFLINE), or give a folder with the model's files.",
    )
