"""What one ``best_of`` call asks for, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.types import Message
from swift_client.validation import require_int, require_positive

MAX_N = 1024
"""Largest ``n``: beyond it a typing error costs more than any question is worth."""

_RESERVED_FIELDS = {
    "n": "Give it to best_of as n=.",
    "messages": "Give them to best_of as the prompt.",
    "model": "Give it to the reranker.",
    "logprobs": "Give require_logprobs= to the reranker.",
    "top_logprobs": "Give it to the reranker.",
    "stream": "A deadline= makes calls stream where that helps.",
    "stream_options": "A deadline= makes calls stream where that helps.",
}


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One question, how often to ask it and how. Build it with :func:`order`."""

    messages: tuple[Message, ...]
    n: int
    min_completions: int
    deadline: float | None
    """Seconds from the call."""
    seed: int | None
    sampling: Mapping[str, Any]
    """Fields that go to the provider untouched."""


def create_sample_request(
    prompt: str | Sequence[Message],
    n: int,
    *,
    min_completions: int = 1,
    deadline: float | None = None,
    seed: int | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> SampleRequest:
    """Check the arguments of ``best_of`` and return them as one value.

    Raises:
        ConfigurationError: one sentence on the first argument that is wrong.
    """
    messages = _check_messages(prompt)
    require_int("n", n, low=1, high=MAX_N)
    require_int("min_completions", min_completions, low=1, high=n)
    if deadline is not None:
        require_positive("deadline", deadline)
    if seed is not None:
        require_int("seed", seed, low=-(2**63), high=2**64 - 1)
    for name in sampling or {}:
        if name in _RESERVED_FIELDS:
            raise ConfigurationError(f"{name!r} is no sampling field of best_of.", hint=_RESERVED_FIELDS[name])
    return SampleRequest(
        messages=messages,
        n=n,
        min_completions=min_completions,
        deadline=deadline,
        seed=seed,
        sampling=dict(sampling or {}),
    )


def _check_messages(prompt: object) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ConfigurationError("The prompt is empty.", hint="Give a question, or a list of chat messages.")
        return ({"role": "user", "content": prompt},)
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise ConfigurationError(
            f"The prompt must be a str or a list of chat messages, not {type(prompt).__name__}.",
            hint='A message is {"role": "user", "content": "..."}.',
        )
    for place, message in enumerate(prompt):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ConfigurationError(
                f"Message {place} of the prompt has no role and content.",
                hint='A message is {"role": "user", "content": "..."}.',
            )
    if not any(_has_content(message["content"]) for message in prompt):
        raise ConfigurationError("The prompt is empty.", hint="At least one message must have content.")
    return tuple(dict(message) for message in prompt)


def _has_content(content: object) -> bool:
    return bool(content.strip()) if isinstance(content, str) else bool(content)
