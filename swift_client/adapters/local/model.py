"""A local model of transformers as provider: answers, logprobs and hidden states in one pass (extra ``local``).

``SwiftReranker(provider="huggingface", model="path-or-name")`` makes one of these; make it yourself to choose device
and number type, to share a loaded model between rerankers, or to keep hidden states::

    local = HuggingFaceModel("meta-llama/Llama-3.2-1B-Instruct", dtype="bfloat16")
    SwiftReranker(provider=local).best_of("What is 17 * 24?", n=16, hidden_states=[8, 16])

Sampling is plain: temperature 1, no filters, 1,024 tokens, whatever the model's generation_config says; a call may set
``temperature``, ``top_p``, ``top_k``, ``min_p``, ``max_tokens``, ``stop``, ``seed``, ``chat_template_kwargs``,
``hidden_states`` (True for all layers, or a list of their numbers, or of "layers" and "vocabulary") and
``hidden_moment`` (:mod:`hidden`). Completion i is drawn
from seed + i by itself, so that it is the same in every batch.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import math
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from swift_client.adapters.local.capture import Capture, Projection
from swift_client.adapters.providers.in_process import IN_PROCESS
from swift_client.adapters.providers.provider import Provider, Reply
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.types import Message, StatePosition

if TYPE_CHECKING:
    from swift_client.adapters.local.load import LoadedModel

MAX_TOKENS = 1024
"""Default of ``max_tokens``, as the paper samples."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """The fields of one request, checked."""

    seed: int
    max_tokens: int
    stop_strings: tuple[bytes, ...]
    k: int | None
    """Alternatives a token; None: no logprobs are wanted."""
    sampling: Mapping[str, Any]
    template_variables: Mapping[str, Any]
    capture: Capture | None


@dataclass(eq=False)
class _SharedModel:
    """What every view of one model shares: it is loaded once, and one call at a time runs on it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    executors: dict[int, ThreadPoolExecutor] = field(default_factory=dict)
    """By process id: a fork has none of its parent's threads."""
    loaded_model: LoadedModel | None = None
    batch_size: int = 64
    """Completions in one batch; fewer after memory ran out."""


class HuggingFaceModel:
    """A decoder-only model of transformers, loaded at the first call.

    Args:
        model: a folder, a name on the hub, a path that ends in ``.gguf``, or a loaded model.
        tokenizer: of a loaded model.
        device: default: "cuda" where there is one, else "cpu".
        dtype: "float32", "bfloat16", "float16" or "auto" (the checkpoint's); default: "auto" on a GPU, else "float32".
        batch: completions in one batch at most; fewer are tried by themselves where memory runs out.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: a loaded model comes without its tokenizer.
    """

    provider: ClassVar[Provider] = IN_PROCESS[0]
    ignores_timeout: ClassVar[bool] = True
    """Loading and generating take what they take: ``timeout=`` has no meaning here, ``deadline=`` has."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        tokenizer: Any = None,
        device: str | None = None,
        dtype: str | None = None,
        batch: int = 64,
    ) -> None:
        if not all(importlib.util.find_spec(needed) for needed in ("torch", "transformers")):
            raise MissingExtraError.needs("local", "A local model")
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
        if (name is not None) == (tokenizer is not None):
            raise ConfigurationError(
                "A loaded model comes with its tokenizer, a named one brings its own.",
                hint="Pass model and tokenizer=, or a name alone.",
            )
        config = getattr(model, "config", None)
        self.model = name or str(getattr(config, "name_or_path", "") or "unknown")
        """Its name, by which heads are found."""
        self._source, self._tokenizer, self._device, self._dtype = model, tokenizer, device, dtype
        self._projection: Projection | None = None
        self._shared = _SharedModel(batch_size=batch)

    def with_projection(self, projection: Projection) -> HuggingFaceModel:
        """Return the same model, loaded once for both, that keeps a head's two numbers a token."""
        view = copy.copy(self)
        view._projection = projection
        return view

    async def complete(self, messages: list[Message], n: int, **options: Any) -> Reply:
        """Generate ``n`` completions of one prompt, off the event loop.

        Cancelling ends the generation at its next step.

        Raises:
            ConfigurationError: a field that it does not know, a model that cannot be loaded or is no decoder.
            ArtifactMismatchError: the head's layers or width are not the model's.
            BadRequestError: the prompt leaves no room in the model's context.
            ProviderError: out of memory even with one completion, or numbers that are NaN.
        """
        asked = read_options(options)
        cancelled = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(
            self._get_executor(), self._generate, messages, n, asked, cancelled
        )
        try:
            return await work
        finally:
            cancelled.set()

    def load(self) -> None:
        """Load the model now rather than at the first call; errors as :meth:`complete`."""
        self._get_loaded_model()

    def resolve_capture(self, options: Mapping[str, Any]) -> tuple[Capture, int, int] | None:
        """Return what a request with these fields captures, its layers named; D, the width of one; and V.

        None where it captures nothing. It loads the model; errors as :meth:`complete`.
        """
        from swift_client.adapters.local import hidden_states

        capture = read_options(options).capture
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
            if self._shared.loaded_model is None:
                self._shared.loaded_model = (
                    load.load(self._source, device=self._device, dtype=self._dtype)
                    if self._tokenizer is None
                    else load.prepare(self._source, self._tokenizer)
                )
            return self._shared.loaded_model

    def _generate(
        self, messages: Sequence[Message], n: int, options: GenerationOptions, cancel_event: threading.Event
    ) -> Reply:
        from swift_client.adapters.local import generate

        reply, self._shared.batch_size = generate.generate(
            self._get_loaded_model(),
            messages,
            n,
            options,
            projection=self._projection,
            batch_size=self._shared.batch_size,
            is_cancelled=cancel_event.is_set,
        )
        return reply


def read_options(options: Mapping[str, Any]) -> GenerationOptions:
    """Check the fields of a request. Raises ConfigurationError for one that is unknown or out of range."""
    given = {name: value for name, value in options.items() if name not in ("model", "stream", "logprobs")}
    most = [given.pop(name) for name in ("max_tokens", "max_completion_tokens", "max_new_tokens") if name in given]
    seed = given.pop("seed", None)
    k = given.pop("top_logprobs", 0)
    stop = given.pop("stop", None) or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(mark, str) and mark for mark in stops):
        raise ConfigurationError(f"stop must be a text or a list of texts, not {stop!r}.")
    asked = GenerationOptions(
        seed=secrets.randbits(32) if seed is None else int(seed),
        max_tokens=_require_number("max_tokens", most[0] if most else MAX_TOKENS, integer=True, low=1),
        stop_strings=tuple(mark.encode() for mark in stops),
        k=_require_number("top_logprobs", k, integer=True, low=0) if options.get("logprobs") else None,
        sampling={
            "temperature": _require_number("temperature", given.pop("temperature", 1.0), low=0),
            "top_p": _require_number("top_p", given.pop("top_p", 1.0), low=0, high=1),
            "min_p": _require_number("min_p", given.pop("min_p", 0.0), low=0, high=1),
            "top_k": _require_number("top_k", given.pop("top_k", 0), integer=True, low=0),
        },
        template_variables=given.pop("chat_template_kwargs", None) or {},
        capture=_parse_capture(given.pop("hidden_states", None), given.pop("hidden_moment", "read")),
    )
    if given:
        known = "temperature, top_p, top_k, min_p, max_tokens, stop, seed, chat_template_kwargs, hidden_states"
        raise ConfigurationError(f"A local model has no field {next(iter(given))!r}.", hint=f"It takes {known}.")
    return asked


def _parse_capture(hidden_states: object, moment: Any) -> Capture | None:
    if hidden_states is None or hidden_states is False:
        return None
    if moment not in get_args(StatePosition):
        raise ConfigurationError(f'hidden_moment must be "read" or "produced", not {moment!r}.')
    if hidden_states is True:
        return Capture(moment=moment)
    items = list(hidden_states) if isinstance(hidden_states, (list, tuple)) else []
    layers = tuple(layer for layer in items if type(layer) is int)
    names = {name for name in ("layers", "vocabulary") if name in items}
    if not items or len(names) + len(layers) < len(items) or ("layers" in names and layers):
        raise ConfigurationError(
            f'hidden_states must be True or a list of layers, not {hidden_states!r}: "layers" stands for all of them, '
            '"vocabulary" for the logprobs of the whole vocabulary.'
        )
    return Capture(layers=None if "layers" in names else layers, moment=moment, vocabulary="vocabulary" in names)


def _require_number(name: str, value: Any, *, integer: bool = False, low: float, high: float = math.inf) -> Any:
    kinds = (int,) if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or not math.isfinite(value):
        limits = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
        raise ConfigurationError(f"{name} must be a {'whole ' if integer else ''}number {limits}, not {value!r}.")
    return value
