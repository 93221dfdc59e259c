"""A completion with its tokens and logprobs, and the usage that it was paid with.

Shapes: T is the number of tokens of one completion, K the length of its longest list of alternatives, N the number of
completions of one question. Logprobs are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# The reason why a completion ended, normalised over all providers.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "error", "unknown"]

# The hidden state that belongs to a token: the one after reading it, or the one that it was sampled from.
StatePosition = Literal["read", "produced"]

# The end of a stored text whose answer is private: a hash of 16 letters, or "none" if no answer could be read.
HASHED_ANSWER = "[answer:{}]"
# A letter in the stand-ins for private tokens (``redaction.stand_ins``).
STAND_IN_LETTER = "\ua000"

Message = dict[str, Any]  # one chat message as it is sent: ``{"role": ..., "content": ...}``

F32 = NDArray[np.float32]
F16 = NDArray[np.float16]
U32 = NDArray[np.uint32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool that a completion asks for.

    Attributes:
        name: The tool's name.
        arguments: The arguments as the model wrote them: JSON text, or the input of a tool that takes plain text. It
            may be empty or broken JSON.
    """

    name: str
    arguments: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Completion:
    """One answer of the model with its tokens and logprobs. T is 0 without logprobs.

    Attributes:
        text: The visible answer, without thinking. Of a completion that only calls tools, its calls as JSON; of a
            trajectory, all of its steps.
        index: Position among the N completions of the question, 0-based.
        finish_reason: The reason why it ended; see ``complete``.
        tokens: (T,) texts of the answer's tokens; a token that is only part of a character contains U+FFFD.
        logprobs: (T,) float32, nats, <= 0: logprob of each chosen token under the distribution that it was sampled
            from.
        top_logprobs: (T, K) float32, nats: logprobs of the listed alternatives, falling along axis 1; -inf beyond the
            end of a list.
        censored: (T,) bool: the provider hid the chosen token's logprob, and ``logprobs`` holds an upper bound.
        top_ids: (T, K) uint32: hash of each listed token, 0 beyond the end of a list; None if not requested.
        hidden_states: (T, L*D) float16: hidden states of L layers of width D of a local model, or None.
        projections: (T, 2) float32: gate and reward logits, computed while a local model generated, or None.
        thinking: The thinking before the answer, with its own text, tokens and logprobs. The text may be a summary, and
            there are tokens only if the provider returns them. None if the model did not think or does not show it.
        tool_calls: The tools that it calls, in order, also if there is text beside them.
        answer_text: The text in which the answer is read, if that is not ``text``: a trajectory's last message.
    """

    text: str
    index: int = 0
    finish_reason: FinishReason = "stop"
    tokens: tuple[str, ...] = ()
    logprobs: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    top_logprobs: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    censored: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    top_ids: U32 | None = None
    hidden_states: F16 | None = None
    projections: F32 | None = None
    thinking: Completion | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    answer_text: str | None = None

    def __post_init__(self) -> None:
        tokens, top = len(self.tokens), self.top_logprobs
        if self.logprobs.shape != (tokens,) or self.censored.shape != (tokens,) or top.ndim != 2 or len(top) != tokens:
            raise ValueError(
                f"Completion {self.index}: {tokens} tokens, but logprobs {self.logprobs.shape}, "
                f"censored {self.censored.shape}, top_logprobs {top.shape}; expected (T,), (T,), (T, K)."
            )
        if self.thinking is not None and self.thinking.thinking is not None:
            raise ValueError(f"Completion {self.index}: its thinking must not have a thinking of its own.")

    @property
    def complete(self) -> bool:
        """True if the model finished it: truncated, filtered, refused and unknown ends do not vote."""
        return self.finish_reason in ("stop", "tool_calls")

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"Completion(index={self.index}, text={text!r}, finish_reason={self.finish_reason!r}, "
            f"T={len(self.tokens)}, K={self.top_logprobs.shape[1]})"
        )


def completeness(completions: Iterable[Completion]) -> list[bool]:
    """Return, per completion of one question, whether it counts as complete.

    If none is complete, those with an unknown finish reason count: the server may have its own word for the normal end.
    """
    completions = list(completions)
    complete = [completion.complete for completion in completions]
    return complete if any(complete) else [completion.finish_reason == "unknown" for completion in completions]


# The largest number of tokens that one reply may claim; any more is an error of the provider.
MAX_TOKEN_COUNT = 10**12


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and calls that were paid for.

    Attributes:
        prompt_tokens: Tokens of all prompts.
        cached_prompt_tokens: The part of ``prompt_tokens`` that the provider reports as read from its cache.
        completion_tokens: Generated tokens, thinking included.
        calls: HTTP requests, failed ones and retries included.
        estimated: Whether the provider's count was missing or wrong, so that tokens were counted by this package.
    """

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        names = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "calls")
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Usage(**counts, estimated=self.estimated or other.estimated)
