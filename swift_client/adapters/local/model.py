"""A local model of transformers as provider: answers, logprobs and hidden states in one pass (extra ``local``).

``SwiftReranker(provider="huggingface", model="path-or-name")`` creates one of these. Create it yourself to choose the
device and number type, to share a loaded model between rerankers, or to keep hidden states::

    local = HuggingFaceModel("meta-llama/Llama-3.2-1B-Instruct", dtype="bfloat16")
    SwiftReranker(provider=local).best_of("What is 17 * 24?", n=16, hidden_states=[8, 16])

Sampling is plain: temperature 1, no filters, 1,024 tokens; the model's generation_config is ignored. A call may set
``temperature``, ``top_p``, ``top_k``, ``min_p``, ``max_tokens``, ``stop``, ``seed``, ``chat_template_kwargs``,
``hidden_states`` (True for all layers, or a list of their numbers, or of "layers" and "vocabulary") and
``hidden_moment`` (``swift_client.adapters.local.request``). Completion i is drawn from seed + i independently of the
others, so it is the same in every batch.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from swift_client.adapters.local.request import Capture, GenerationRequest, Projection, parse_request
from swift_client.adapters.providers import SELF_HOSTED
from swift_client.adapters.providers.custom import CustomProvider
from swift_client.adapters.providers.provider import Provider, Reply
from swift_client.errors import ArtifactMismatchError, ConfigurationError, MissingExtraError
from swift_client.models import HiddenHead
from swift_client.types import Message

if TYPE_CHECKING:
    from swift_client.adapters.local.load import LoadedModel


@dataclass(eq=False)
class _SharedModel:
    """The state that all views of one model share: it is loaded once, and one call at a time runs on it.

    Attributes:
        executors: by process id, since a fork has none of its parent's threads.
        batch_size: completions in one batch; reduced when memory runs out.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    executors: dict[int, ThreadPoolExecutor] = field(default_factory=dict)
    loaded_model: LoadedModel | None = None
    batch_size: int = 64


class HuggingFaceModel:
    """A decoder-only model of transformers, loaded at the first call.

    Args:
        model: a folder, a name on the hub, a path that ends in ``.gguf``, or a loaded model.
        tokenizer: of a loaded model.
        device: default: "cuda" if available, else "cpu".
        dtype: "float32", "bfloat16", "float16" or "auto" (the checkpoint's); default: "auto" on a GPU, else "float32".
        batch: most completions in one batch; smaller batches are tried automatically when memory runs out.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: a loaded model comes without its tokenizer.

    Attributes:
        ignores_timeout: Loading and generating take as long as they take: ``timeout=`` has no effect here,
            ``deadline=`` has.
    """

    provider: ClassVar[Provider] = SELF_HOSTED["huggingface"]
    ignores_timeout: ClassVar[bool] = True

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        tokenizer: Any = None,
        device: str | None = None,
        dtype: str | None = None,
        batch: int = 64,
    ) -> None:
        if not all(importlib.util.find_spec(library) for library in ("torch", "transformers")):
            raise MissingExtraError.needs("local", "A local model")
        # Either a name (it brings its tokenizer) or a loaded model with its tokenizer.
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
        if (name is not None) == (tokenizer is not None):
            raise ConfigurationError(
                "A loaded model needs its tokenizer; a named one brings its own.",
                hint="Pass model and tokenizer=, or a name alone.",
            )
        config = getattr(model, "config", None)
        # Its name, by which heads are found.
        self.model = name or str(getattr(config, "name_or_path", "") or "unknown")
        self._source, self._tokenizer, self._device, self._dtype = model, tokenizer, device, dtype
        self._projection: Projection | None = None
        self._shared = _SharedModel(batch_size=batch)

    def with_projection(self, projection: Projection) -> HuggingFaceModel:
        """Return a view of this model, loaded once for both, that keeps a head's two numbers per token."""
        view = copy.copy(self)
        view._projection = projection
        return view

    async def complete(self, messages: list[Message], n: int, **options: Any) -> Reply:
        """Generate ``n`` completions of one prompt, off the event loop.

        Cancelling ends the generation at its next step.

        Raises:
            ConfigurationError: an unknown field, a model that cannot be loaded or is not a decoder.
            ArtifactMismatchError: the head's layers or width are not the model's.
            BadRequestError: the prompt fills the model's context.
            ProviderError: out of memory even with one completion, or numbers that are NaN.
        """
        request = parse_request(options)
        cancel_event = threading.Event()
        run_in_executor = asyncio.get_running_loop().run_in_executor
        try:
            return await run_in_executor(self._get_executor(), self._generate, messages, n, request, cancel_event)
        finally:
            cancel_event.set()

    def load(self) -> None:
        """Load the model now rather than at the first call; errors as ``complete()``."""
        self._get_loaded_model()

    def resolve_capture(self, options: Mapping[str, Any]) -> tuple[Capture, int, int] | None:
        """Return what a request with these fields captures, with the layers' numbers; D, the width of one; and V.

        None if it captures nothing. Loads the model; errors as ``complete()``.
        """
        from swift_client.adapters.local import hidden_states

        capture = parse_request(options).capture
        if capture is None:
            return None
        loaded = self._get_loaded_model()
        layers = hidden_states.resolve_layers(capture, n_states=loaded.n_states)
        size = int(loaded.model.config.get_text_config().vocab_size) if capture.vocabulary else 0
        return replace(capture, layers=layers), loaded.hidden_size, size

    def _get_executor(self) -> ThreadPoolExecutor:
        with self._shared.lock:
            return self._shared.executors.setdefault(os.getpid(), ThreadPoolExecutor(1, "swift-client-local"))

    def _get_loaded_model(self) -> LoadedModel:
        from swift_client.adapters.local import load

        with self._shared.lock:
            if self._shared.loaded_model is None and self._tokenizer is None:
                self._shared.loaded_model = load.load(self._source, device=self._device, dtype=self._dtype)
            elif self._shared.loaded_model is None:
                self._shared.loaded_model = load.prepare(self._source, self._tokenizer)
            return self._shared.loaded_model

    def _generate(
        self, messages: Sequence[Message], n: int, request: GenerationRequest, cancel_event: threading.Event
    ) -> Reply:
        from swift_client.adapters.local import generate

        reply, self._shared.batch_size = generate.generate(
            self._get_loaded_model(),
            messages,
            n,
            request,
            projection=self._projection,
            batch_size=self._shared.batch_size,
            is_cancelled=cancel_event.is_set,
        )
        return reply


def resolve_local_provider(
    provider: str | Provider | CustomProvider, provider_entry: Provider, model: str | None, head: object = None
) -> str | Provider | CustomProvider:
    """Return a local model for the provider "huggingface", loaded at its first call; any other provider as it is.

    ``head`` is the scorer; if it is a HiddenHead, the model projects its states by the head's weights.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ArtifactMismatchError: the head reads hidden states, and this provider has none.
    """
    is_named = isinstance(provider, (str, Provider))
    if is_named and provider_entry.name == HuggingFaceModel.provider.name and model is not None:
        provider = HuggingFaceModel(model)
    if not isinstance(head, HiddenHead):
        return provider
    if isinstance(provider, HuggingFaceModel):
        projection = Projection(*head.matrix(), head.layers, head.width, f"The {head.name}", head.moment)
        return provider.with_projection(projection)
    if is_named:
        raise ArtifactMismatchError(
            f"The {head.name} reads hidden states, which {provider_entry.name} does not return.",
            hint='Use provider="huggingface", or a head that reads logprobs.',
        )
    return provider
