"""Checks that drop logprobs which cannot be real, before anything is scored.

Codecs refuse most invalid logprobs when they decode a reply (``swift_client.logprobs.clean``). Here completions from
other sources are checked too, and checks that need whole completions, or all completions of a question, are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from swift_client.features.token_table import SENTINEL_LOGPROB
from swift_client.logprobs.clean import MASS_LIMIT, ROUNDING_TOLERANCE, resize_columns
from swift_client.logprobs.goodness_of_fit import run_fit_test
from swift_client.logprobs.temperature import SamplingInfo
from swift_client.types import Completion
from swift_client.types.completion import STAND_IN_LETTER

# Tokens; this many exact zeros with nothing else listed are placeholders, or greedy decoding after temperature.
_MIN_PLACEHOLDER_TOKENS = 4
# Standard deviations; real logprobs do not get this low even over millions of questions.
_Z_THRESHOLD = -8.0
# Nats per token; a smaller misfit may come from rounding in a gateway or a changed sampler.
_MIN_DEFICIT = 0.5
_MIN_TOKENS = 64  # tokens per question; with fewer, one odd token could decide the test


@dataclass(frozen=True)
class LogprobCheck:
    """One row of CHECKS."""

    fails: Callable[[Completion], bool]
    sentence: str  # the end of a note that begins "Logprobs of 3 of 8 completions ..."


def _above_zero(completion: Completion) -> bool:
    return any((values > ROUNDING_TOLERANCE).any() for values in (completion.logprobs, completion.top_logprobs))


def _mass_above_one(completion: Completion) -> bool:
    return bool((np.exp(np.minimum(completion.top_logprobs, 1.0)).sum(axis=1) > MASS_LIMIT).any())


def _all_zero(completion: Completion) -> bool:
    is_listed = completion.top_logprobs > SENTINEL_LOGPROB
    if completion.logprobs.any() or (is_listed & (completion.top_logprobs < 0)).any():
        return False
    return not is_listed.any() or len(completion.tokens) >= _MIN_PLACEHOLDER_TOKENS


def _repeated_list(completion: Completion) -> bool:
    """Return whether every token has the same list, and a token that belongs into it is missing."""
    top = completion.top_logprobs
    if len(top) < _MIN_PLACEHOLDER_TOKENS or not (top == top[0]).all():
        return False
    listed = top[0][top[0] > SENTINEL_LOGPROB]
    if not listed.size:
        return False
    is_outside = np.abs(completion.logprobs[:, None] - listed).min(axis=1) > ROUNDING_TOLERANCE
    return bool((is_outside & (completion.logprobs > listed.min()) & ~completion.censored).any())


def _has_thinking_tokens(completion: Completion) -> bool:
    """Return whether the tokens hold far more text than the answer.

    Tokens with broken characters, given as token numbers, or replaced as private cannot be compared with the text.
    """
    if completion.finish_reason == "tool_calls" or not completion.text.strip():
        return False
    token_text = "".join(completion.tokens)
    if "\ufffd" in token_text or STAND_IN_LETTER in token_text or completion.tokens[0].startswith("token_id:"):
        return False
    surplus = len(token_text) - len(completion.text)
    return surplus > max(16, len(completion.text) // 2)


# Checks of single completions; the first that fails is reported.
CHECKS: Mapping[str, LogprobCheck] = MappingProxyType(
    {
        "above zero": LogprobCheck(_above_zero, "lie above zero: raw logits, not logprobs"),
        "more than one": LogprobCheck(_mass_above_one, "sum to more than 1: not a distribution"),
        "all zero": LogprobCheck(_all_zero, "are all zero: placeholders, or greedy decoding after temperature"),
        "repeated list": LogprobCheck(_repeated_list, "have one list for every token, without the tokens themselves"),
        "thinking": LogprobCheck(
            _has_thinking_tokens, "count more tokens than the answer has: thinking tokens among them"
        ),
    }
)


def failed_check(completion: Completion) -> LogprobCheck | None:
    """Return the first of CHECKS that the completion or its thinking fails, or None.

    Completions with hidden states or projections come from this process and are not checked.
    """
    if completion.hidden_states is not None or completion.projections is not None:
        return None
    spans = [span for span in (completion, completion.thinking) if span is not None and span.tokens]
    return next((check for check in CHECKS.values() if any(map(check.fails, spans))), None)


def drop_invalid_logprobs(
    completions: Sequence[Completion], sampling_info: SamplingInfo
) -> tuple[list[Completion], tuple[str, ...]]:
    """Return the completions without logprobs that cannot be real, and one note per kind of problem."""
    failed = [failed_check(completion) for completion in completions]
    checked = [
        drop_logprobs(completion) if check else completion
        for completion, check in zip(completions, failed, strict=True)
    ]
    counts = Counter(check.sentence for check in failed if check)
    notes = [
        f"Logprobs of {count} of {len(completions)} completions {sentence}; they are left out."
        for sentence, count in counts.items()
    ]
    # Unlikely tokens are suspicious only if no sampling setting explains them.
    if sampling_info.unmodified and (misfit := _misfit_note(checked)):
        return [drop_logprobs(completion) for completion in checked], (*notes, misfit)
    return checked, tuple(notes)


def drop_logprobs(completion: Completion) -> Completion:
    """Return only the texts of answer and thinking, with their finish reasons and tool calls."""
    thinking = completion.thinking and drop_logprobs(completion.thinking)
    return Completion(
        text=completion.text,
        index=completion.index,
        finish_reason=completion.finish_reason,
        thinking=thinking,
        tool_calls=completion.tool_calls,
        answer_text=completion.answer_text,
    )


def _misfit_note(completions: Sequence[Completion]) -> str | None:
    """Return a note if the sampled tokens cannot have come from the lists beside them, else None."""
    listed = [
        completion for completion in completions if completion.top_logprobs.size and completion.projections is None
    ]
    if not listed:
        return None
    width = max(completion.top_logprobs.shape[1] for completion in listed)
    test = run_fit_test(
        np.concatenate([completion.logprobs for completion in listed]),
        np.concatenate([resize_columns(completion.top_logprobs, width, -np.inf) for completion in listed]),
        np.concatenate([completion.censored for completion in listed]),
    )
    if test.token_count < _MIN_TOKENS or test.z > _Z_THRESHOLD or test.expected - test.score < _MIN_DEFICIT:
        return None
    return (
        f"The logprobs do not fit the sampled tokens ({test.score:.2f} nats per token, {test.expected:.2f} expected); "
        "they are left out."
    )
