"""Signals that lie, caught before anything is scored: one check a row, and one rung down for what it catches.

Codecs refuse most of this at the wire (:mod:`swift_client.logprobs`); here it is asked once more of completions that
came another way, and asked what no single reply can show: whether the lists fit the tokens that were drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from swift_client.adapters import Capabilities
from swift_client.features.table import LOWEST
from swift_client.fits import fit
from swift_client.logprobs import MASS_LIMIT, ROUNDING
from swift_client.types import Completion

_FAR = -8.0
"""Standard deviations: true lists do not get there in a lifetime of questions."""
_DEFICIT = 0.5
"""Nats a token: below this, a gateway that rounds or a changed sampler is as good an explanation."""
_ENOUGH = 64
"""Tokens of a question; with fewer, one odd token would speak for all."""
_NEVER_ALL_SURE = 4
"""Tokens; so many exact zeros with nothing else listed are a placeholder, or what greedy decoding leaves of them."""

_HARMLESS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "max_completion_tokens"),
        *("reasoning_effort", "reasoning", "thinking", "user", "metadata", "store", "service_tier", "provider"),
    }
)
"""Fields that leave the stated distribution be, or make the drawn tokens likelier than it says."""


@dataclass(frozen=True)
class Origin:
    """How completions were drawn, as far as it bears on what their logprobs mean."""

    temperature: float | None = None
    """None: not known."""
    tempered: bool = False
    """Whether the logprobs were taken after temperature (or what else shapes sampling)."""
    plain: bool = False
    """Whether nothing could have drawn tokens that are less likely than their lists say."""
    cut: bool = False
    """Whether the distribution was cut before its logprobs were taken: temperature cannot be undone then."""

    @classmethod
    def of(cls, known: Capabilities, fields: Mapping[str, Any]) -> Origin:
        """Return the origin of what a model of these capabilities draws for a request with these ``fields``."""
        given = fields.get("temperature")
        warmth = float(given) if isinstance(given, (int, float)) and given >= 0 else None
        after = known.logprob_space == "after_temperature"
        return cls(
            temperature=1.0 if given is None else warmth,
            tempered=after,
            plain=fields.keys() <= _HARMLESS and (after or given is None or (warmth is not None and warmth <= 1.0)),
            cut=any(fields.get(name) not in (None, 1, 0) for name in ("top_p", "top_k", "min_p")),
        )

    @property
    def distorted(self) -> bool:
        """Whether the logprobs are known to be those of another temperature than 1."""
        return self.tempered and self.temperature not in (None, 1.0)


UNKNOWN = Origin()
"""Nothing is known, as of a reply that somebody else drew."""


@dataclass(frozen=True)
class Lie:
    """One row: what gives a completion's logprobs away, and what to say of it."""

    tells: Callable[[Completion], bool]
    sentence: str
    """The end of "Of 3 completions ..."."""


def _above_zero(completion: Completion) -> bool:
    return bool((completion.logprobs > ROUNDING).any() or (completion.top_logprobs > ROUNDING).any())


def _more_than_one(completion: Completion) -> bool:
    return bool((np.exp(np.minimum(completion.top_logprobs, 1.0)).sum(axis=1) > MASS_LIMIT).any())


def _all_zero(completion: Completion) -> bool:
    top = completion.top_logprobs
    alone = not ((top > LOWEST) & (top < 0)).any()
    listed = bool((top > LOWEST).any())
    return not completion.logprobs.any() and alone and (not listed or len(completion.tokens) >= _NEVER_ALL_SURE)


def _with_thinking(completion: Completion) -> bool:
    """Whether the tokens hold far more than the answer; broken characters and token numbers spell nothing."""
    if completion.finish_reason == "tool_calls" or not completion.text.strip():
        return False
    spelled = "".join(completion.tokens)
    if "\ufffd" in spelled or completion.tokens[0].startswith("token_id:"):
        return False
    surplus = len(spelled) - len(completion.text)
    return surplus > max(16, len(completion.text) // 2)


LIES: Mapping[str, Lie] = MappingProxyType(
    {
        "above zero": Lie(_above_zero, "lie above zero: raw logits, not logprobs"),
        "more than one": Lie(_more_than_one, "sum to more than 1: no distribution"),
        "all zero": Lie(_all_zero, "are all zero: placeholders, or greedy decoding after temperature"),
        "thinking": Lie(_with_thinking, "count more tokens than the answer has: thinking tokens among them"),
    }
)
"""Asked of every completion by itself; the first that tells is the one that is named."""


def honest(completions: Sequence[Completion], origin: Origin) -> tuple[list[Completion], tuple[str, ...]]:
    """Return the completions without the logprobs that cannot be true, and one note for each kind of lie."""
    caught: dict[str, int] = {}
    kept = []
    for completion in completions:
        spans = [span for span in (completion, completion.thinking) if span is not None and span.tokens]
        name = next((name for name, lie in LIES.items() if any(map(lie.tells, spans))), None)
        lies = name is not None and completion.hidden_states is None and completion.projections is None
        if name and lies:
            caught[name] = caught.get(name, 0) + 1
        kept.append(without_logprobs(completion) if lies else completion)
    notes = [
        f"Logprobs of {count} of {len(completions)} completions {LIES[name].sentence}; they are left out."
        for name, count in caught.items()
    ]
    if origin.plain and (misfit := _misfit(kept)):
        return [without_logprobs(completion) for completion in kept], (*notes, misfit)
    return kept, tuple(notes)


def without_logprobs(completion: Completion) -> Completion:
    """Return the texts of answer and thinking, and how they ended, alone."""
    thinking = completion.thinking and without_logprobs(completion.thinking)
    return Completion(
        text=completion.text, index=completion.index, finish_reason=completion.finish_reason, thinking=thinking
    )


def _misfit(completions: Sequence[Completion]) -> str | None:
    """Say where the drawn tokens cannot have come from the lists beside them; None where they can."""
    lists = [each for each in completions if each.top_logprobs.size and each.projections is None]
    if not lists:
        return None
    width = max(each.top_logprobs.shape[1] for each in lists)
    padded = [
        np.pad(each.top_logprobs, ((0, 0), (0, width - each.top_logprobs.shape[1])), constant_values=-np.inf)
        for each in lists
    ]
    found = fit(
        np.concatenate([each.logprobs for each in lists]),
        np.concatenate(padded),
        np.concatenate([each.censored for each in lists]),
    )
    if found.tokens < _ENOUGH or found.z > _FAR or found.expected - found.score < _DEFICIT:
        return None
    return (
        f"The logprobs do not fit their own samples ({found.score:.2f} nats a token where they promise "
        f"{found.expected:.2f}); they are left out."
    )
