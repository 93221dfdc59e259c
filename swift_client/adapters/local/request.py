"""Requests to a local model, checked: sampling, stop strings, and the hidden states to keep. Numpy only.

A ``moment`` says which hidden state belongs to a token. "read": the state after the decoder has read the token, with
what it knows then. The published SWIFT code takes this one (arXiv 2505.12225; a second forward pass over the answer,
without shift). "produced": the state one position earlier, from which the token was drawn, the moment of the token's
logprobs. The published code also reads the end-of-turn token; here it is dropped, as everywhere.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from swift_client.errors import ConfigurationError
from swift_client.types import F32, StatePosition

DEFAULT_MAX_TOKENS = 1024  # default of ``max_tokens``, as the paper samples


@dataclass(frozen=True, eq=False, kw_only=True)
class Capture:
    """Hidden states to keep as they are, float16 (T, L*D).

    Attributes:
        layers: as transformers numbers ``hidden_states``: 0 the embedding, the last one after the final norm; None:
            all; empty with ``vocabulary`` alone.
        moment: see the module's docstring.
        vocabulary: after the layers' numbers also keep the logprobs of the whole vocabulary, (T, V): those of the
            distribution that produced the token, for both values of ``moment``. The published code pairs each token
            with its successor's instead.
    """

    layers: tuple[int, ...] | None = None
    moment: StatePosition = "read"
    vocabulary: bool = False


@dataclass(frozen=True, eq=False)
class Projection:
    """A head's weights, to keep two numbers per token: the gate's and the reward's logit, float32 (T, 2).

    Attributes:
        weight: (2, L*D) float32, gate before reward, layer by layer in the order of ``layers``.
        bias: (2,) float32.
        layers: L indices, see ``Capture``; empty: the logprobs of the whole vocabulary are read, at "produced".
        width: D, the width of one state; V for the vocabulary's logprobs (``weight`` is then (2, V)).
        name: the head's name, for errors.
        moment: see the module's docstring.
    """

    weight: F32
    bias: F32
    layers: tuple[int, ...]
    width: int
    name: str = "The head"
    moment: StatePosition = "read"


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Parameters by which tokens are drawn. Filters apply after the temperature: top_k, then top_p, then min_p.

    Temperature 0 takes the most likely token. ``top_k`` 0 means no such filter.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """The checked fields of one request. ``k`` is the number of alternatives per token; None: no logprobs."""

    seed: int
    max_tokens: int
    stop_strings: tuple[bytes, ...]
    k: int | None
    sampling: SamplingParams
    template_variables: Mapping[str, Any]
    capture: Capture | None


def parse_request(options: Mapping[str, Any]) -> GenerationRequest:
    """Check the fields of a request. Raises ConfigurationError for an unknown field or a value out of range."""
    fields = {name: value for name, value in options.items() if name not in ("model", "stream", "logprobs")}
    limits = [fields.pop(name) for name in ("max_tokens", "max_completion_tokens", "max_new_tokens") if name in fields]
    seed = fields.pop("seed", None)
    k = fields.pop("top_logprobs", 0)
    stop = fields.pop("stop", None) or ()
    stop_strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stop_strings):
        raise ConfigurationError(f"stop must be a text or a list of texts, not {stop!r}.")
    request = GenerationRequest(
        seed=secrets.randbits(32) if seed is None else int(seed),
        max_tokens=_require_number("max_tokens", limits[0] if limits else DEFAULT_MAX_TOKENS, integer=True, low=1),
        stop_strings=tuple(text.encode() for text in stop_strings),
        k=_require_number("top_logprobs", k, integer=True, low=0) if options.get("logprobs") else None,
        sampling=SamplingParams(
            temperature=_require_number("temperature", fields.pop("temperature", 1.0), low=0),
            top_p=_require_number("top_p", fields.pop("top_p", 1.0), low=0, high=1),
            min_p=_require_number("min_p", fields.pop("min_p", 0.0), low=0, high=1),
            top_k=_require_number("top_k", fields.pop("top_k", 0), integer=True, low=0),
        ),
        template_variables=fields.pop("chat_template_kwargs", None) or {},
        capture=_parse_capture(fields.pop("hidden_states", None), fields.pop("hidden_moment", "read")),
    )
    if fields:
        names = "temperature, top_p, top_k, min_p, max_tokens, stop, seed, chat_template_kwargs, hidden_states"
        raise ConfigurationError(f"A local model has no parameter {next(iter(fields))!r}.", hint=f"It takes {names}.")
    return request


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
