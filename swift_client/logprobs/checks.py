"""Logprobs that one completion alone gives away as no logprobs: one check a row.

Codecs refuse most of this at the wire (:mod:`swift_client.logprobs.clean`); here it is asked again of completions that
came another way, and asked what needs the whole completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from swift_client.features.token_table import SENTINEL_LOGPROB
from swift_client.logprobs.clean import MASS_LIMIT, ROUNDING_TOLERANCE
from swift_client.types import Completion

_MIN_PLACEHOLDER_TOKENS = 4
"""Tokens; so many exact zeros with nothing else listed are a placeholder, or what greedy decoding leaves of them."""


@dataclass(frozen=True)
class LogprobCheck:
    """One row: what gives a completion's logprobs away, and what to say of it."""

    fails: Callable[[Completion], bool]
    sentence: str
    """The end of "Of 3 completions ..."."""


def _above_zero(completion: Completion) -> bool:
    return bool(
        (completion.logprobs > ROUNDING_TOLERANCE).any() or (completion.top_logprobs > ROUNDING_TOLERANCE).any()
    )


def _mass_above_one(completion: Completion) -> bool:
    return bool((np.exp(np.minimum(completion.top_logprobs, 1.0)).sum(axis=1) > MASS_LIMIT).any())


def _all_zero(completion: Completion) -> bool:
    top = completion.top_logprobs
    alone = not ((top > SENTINEL_LOGPROB) & (top < 0)).any()
    listed = bool((top > SENTINEL_LOGPROB).any())
    return not completion.logprobs.any() and alone and (not listed or len(completion.tokens) >= _MIN_PLACEHOLDER_TOKENS)


def _has_thinking_tokens(completion: Completion) -> bool:
    """Whether the tokens hold far more than the answer; broken characters and token numbers spell nothing."""
    if completion.finish_reason == "tool_calls" or not completion.text.strip():
        return False
    spelled = "".join(completion.tokens)
    if "\ufffd" in spelled or completion.tokens[0].startswith("token_id:"):
        return False
    surplus = len(spelled) - len(completion.text)
    return surplus > max(16, len(completion.text) // 2)


CHECKS: Mapping[str, LogprobCheck] = MappingProxyType(
    {
        "above zero": LogprobCheck(_above_zero, "lie above zero: raw logits, not logprobs"),
        "more than one": LogprobCheck(_mass_above_one, "sum to more than 1: no distribution"),
        "all zero": LogprobCheck(_all_zero, "are all zero: placeholders, or greedy decoding after temperature"),
        "thinking": LogprobCheck(
            _has_thinking_tokens, "count more tokens than the answer has: thinking tokens among them"
        ),
    }
)
"""Asked of every completion by itself; the first that tells is the one that is named."""


def failed_check(completion: Completion) -> LogprobCheck | None:
    """Return what gives its logprobs away, the first row of LIES that tells; None where nothing does.

    A completion with hidden states is believed: it comes from this process.
    """
    if completion.hidden_states is not None or completion.projections is not None:
        return None
    spans = [span for span in (completion, completion.thinking) if span is not None and span.tokens]
    return next((lie for lie in CHECKS.values() if any(map(lie.fails, spans))), None)


def drop_logprobs(completion: Completion) -> Completion:
    """Return the texts of answer and thinking, and how they ended, alone."""
    thinking = completion.thinking and drop_logprobs(completion.thinking)
    return Completion(
        text=completion.text, index=completion.index, finish_reason=completion.finish_reason, thinking=thinking
    )
