"""The values that travel from bytes to choice: Completion, Candidate, Usage, Failure, Selection.

They stand in one file, a little longer than others, since together they are what users see.

Shapes: T is the number of tokens of one completion, K the length of its longest list of alternatives,
N the number of completions of one question. Logprobs are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swift_client.errors import SwiftClientError

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "error", "unknown"]
"""Why a completion ended, in one vocabulary for all providers."""

StatePosition = Literal["read", "produced"]
"""Which hidden state belongs to a token: the one after it was read, or the one from which it was drawn."""

Message = dict[str, Any]
"""One chat message as it goes over the wire: ``{"role": ..., "content": ...}``."""

F32 = NDArray[np.float32]
F16 = NDArray[np.float16]
U32 = NDArray[np.uint32]
Bool = NDArray[np.bool_]


def _no_logprobs() -> F32:
    return np.zeros(0, np.float32)


def _no_top_logprobs() -> F32:
    return np.zeros((0, 0), np.float32)


def _no_censored() -> Bool:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, eq=False, kw_only=True)
class Completion:
    """One answer of the model with the numbers that came with it. T is 0 without logprobs."""

    text: str
    """The visible answer, without thinking tokens."""
    index: int = 0
    """Position among the N completions of the question, 0-based."""
    finish_reason: FinishReason = "stop"
    """Why it ended; only "stop" and "tool_calls" are whole answers."""
    tokens: tuple[str, ...] = ()
    """(T,) the answer's tokens as text; a token that is part of a character holds U+FFFD."""
    logprobs: F32 = field(default_factory=_no_logprobs)
    """(T,) float32, nats, <= 0: logprob of each chosen token in the distribution that produced it."""
    top_logprobs: F32 = field(default_factory=_no_top_logprobs)
    """(T, K) float32, nats, falling along axis 1; -inf where the provider listed fewer than K."""
    censored: Bool = field(default_factory=_no_censored)
    """(T,) bool: the provider hid the chosen token's logprob and ``logprobs`` holds an upper bound."""
    top_ids: U32 | None = None
    """(T, K) uint32 hashed identity of each listed token, or None; 0 where nothing was listed."""
    hidden_states: F16 | None = None
    """(T, L*D) float16 hidden states of a local model, or None."""
    projections: F32 | None = None
    """(T, 2) float32 gate and reward logits computed while a local model generated, or None."""
    thinking: Completion | None = None
    """What it thought before: text, tokens and numbers, apart from the answer's. The text may be a summary, and tokens
    are there only where the provider lists them. None where it did not think, or does not show it."""

    def __post_init__(self) -> None:
        tokens, top = len(self.tokens), self.top_logprobs
        if self.logprobs.shape != (tokens,) or self.censored.shape != (tokens,) or top.ndim != 2 or len(top) != tokens:
            raise ValueError(
                f"Completion {self.index}: {tokens} tokens, but logprobs {self.logprobs.shape}, "
                f"censored {self.censored.shape}, top_logprobs {top.shape}; expected (T,), (T,), (T, K)."
            )
        if self.thinking is not None and self.thinking.thinking is not None:
            raise ValueError(f"Completion {self.index}: its thinking holds a thinking of its own.")

    @property
    def complete(self) -> bool:
        """Whether the provider ended it by itself: cut, filtered and refused completions may not vote."""
        return self.finish_reason in ("stop", "tool_calls", "unknown")

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"Completion(index={self.index}, text={text!r}, finish_reason={self.finish_reason!r}, "
            f"T={len(self.tokens)}, K={self.top_logprobs.shape[1]})"
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was paid for, summed over calls."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """How many of ``prompt_tokens`` the provider says it read from its cache."""
    completion_tokens: int = 0
    calls: int = 0
    """HTTP requests that were answered or failed, retries included."""
    estimated: bool = False
    """True where a provider's own count was missing or wrong and tokens were counted here."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens + other.cached_prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            calls=self.calls + other.calls,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One call that brought nothing, after its retries."""

    error: SwiftClientError
    lost: int
    """How many completions this call was to bring."""
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened while completions were drawn, as ``on_event`` gets it. Never holds a prompt or a key."""

    kind: Literal["request", "reply", "retry", "clamp", "top_up", "failure", "limit"]
    """"clamp": the provider refused a field and is asked for less; "top_up": a reply was short and is added to;
    "limit": fewer requests may run at once from now on, or all again."""
    call: int
    """Number of the call within its draw, from 0; a retry keeps its number."""
    n: int
    """Completions asked for, or for "reply" brought."""
    message: str
    """The same in words."""
    wait: float | None = None
    """Seconds until the next attempt, for "retry"."""
    error: SwiftClientError | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A completion inside a selection."""

    completion: Completion
    score: float | None = None
    """Higher is better; None where there is no signal for it."""
    probability: float | None = None
    """Calibrated probability that this completion is correct, 0..1; None without a calibrated head."""
    answer: str | None = None
    """The compared answer in normal form; None where none could be read or it may not vote."""
    group: int | None = None
    """Equal numbers for equal answers, however they are written; None where there is none."""
    answer_probability: float | None = None
    """Calibrated probability that its answer is correct: the mean ``probability`` of the whole completions that answer
    the same. The share of weights would be too sure, since it takes for granted that one of the answers is right. Those
    of all answers need not sum to 1. None without a calibrated head or without an answer."""
    weight: float = 0.0
    """What it added to its answer under vote; 0 where it did not vote."""

    @property
    def text(self) -> str:
        """The completion's text."""
        return self.completion.text


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Why a draw ended before, or with, the last completion that was planned."""

    rule: str
    """The stopping rule with its parameters, as ``stopping_rule`` reads it; or "budget"."""
    after: int
    """Completions drawn."""
    planned: int
    """n: what a fixed number would have drawn."""
    posterior: float | None
    """The probability or share that the rule compares; None where it has none."""
    reason: str
    """The same in one sentence."""
    saved_tokens: int
    """Completion tokens that the others would have cost, at the mean of those drawn: an estimate."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One top-level member of the chosen object, where answers have a ``response_model``."""

    value: Any
    """As in :attr:`Selection.parsed`."""
    logprob: float | None
    """Sum of the logprobs of the tokens that spell its value, quotes included, nats, <= 0; None where there are none,
    one of them is censored, or the tokens do not spell the object."""
    agreement: float
    """Share 0..1 of the votes, by weight, whose object has the same value here."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One member of a Cascade that was asked."""

    provider: str
    model: str | None
    n: int
    """Completions that were planned; those of an earlier step by the same reranker count, and are not paid again."""
    usage: Usage = field(default_factory=Usage)
    """What this step added."""
    cost: float | None = None
    """US dollars that this step added; None where the price is unknown."""
    accepted: bool | None = None
    """Whether its answer was, at its own head's threshold."""
    answer_probability: float | None = None
    """Of its answer; see :attr:`Candidate.answer_probability`."""
    error: SwiftClientError | None = None
    """Why it brought no answer."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection:
    """The choice among N completions, and everything that it rests on."""

    candidates: tuple[Candidate, ...]
    """In index order, 0..N-1."""
    winner: int
    """Index into ``candidates`` of the chosen one."""
    signal: str
    """What the choice rests on: "logprobs:k=K", "logprobs:chosen", "text", "judge" or "hidden"."""
    scorer: str
    """Name of the scorer or head."""
    method: Literal["best", "vote"]
    """How the winner was found from scores and answers."""
    usage: Usage = field(default_factory=Usage)
    failures: tuple[Failure, ...] = ()
    cost: float | None = None
    """US dollars at the known price; None where the price is unknown, never 0 for that reason. An estimate where
    ``usage`` is one."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that did not go as asked; nothing falls back in silence."""
    elapsed: float = 0.0
    """Seconds from the call to the choice."""
    provider: str | None = None
    model: str | None = None
    stopped: Stopped | None = None
    """Where and why a stopping rule or the budget ended the draw; None without either."""
    reused: int = 0
    """How many candidates, the first ones, came from ``store=``: paid for earlier, and not counted in ``usage``."""
    accepted: bool | None = None
    """Whether the answer may be taken without a look, at the risk that the head was calibrated to; None where its
    calibration says nothing, which ``notes`` explain where there is one."""
    path: tuple[Step, ...] = ()
    """Whom a Cascade asked, in this order; ``usage`` and ``cost`` are the sums. Empty without a Cascade."""
    parsed: Any = None
    """The chosen object, where ``response_model`` is given: an instance of the model, or plain values for a schema."""
    fields: Mapping[str, Field] = field(default_factory=dict)
    """The chosen object's top-level members, by name; empty without ``response_model``, or where it is no object."""

    @property
    def best(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.winner]

    @property
    def text(self) -> str:
        """The chosen text."""
        return self.best.completion.text

    @property
    def score(self) -> float | None:
        """The chosen candidate's score."""
        return self.best.score

    @property
    def probability(self) -> float | None:
        """The chosen candidate's calibrated probability; None until a calibrated head is loaded."""
        return self.best.probability

    @property
    def answer(self) -> str | None:
        """The chosen answer in normal form, where answers could be read."""
        return self.best.answer

    @property
    def answer_probability(self) -> float | None:
        """The chosen answer's calibrated probability; see :attr:`Candidate.answer_probability`."""
        return self.best.answer_probability

    def _repr_html_(self) -> str:
        """Show the selection in a notebook."""
        from swift_client.display import selection_html

        return selection_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; arrays are left out."""
        return {
            "text": self.text,
            "answer": self.answer,
            "score": self.score,
            "probability": self.probability,
            "answer_probability": self.answer_probability,
            "winner": self.winner,
            "method": self.method,
            "signal": self.signal,
            "scorer": self.scorer,
            "provider": self.provider,
            "model": self.model,
            "elapsed": self.elapsed,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "cached_prompt_tokens": self.usage.cached_prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "calls": self.usage.calls,
                "estimated": self.usage.estimated,
            },
            "cost": self.cost,
            "stopped": None if self.stopped is None else asdict(self.stopped),
            "reused": self.reused,
            "accepted": self.accepted,
            "path": [
                {**asdict(replace(step, error=None)), "error": None if step.error is None else str(step.error)}
                for step in self.path
            ],
            "parsed": self.parsed.model_dump(mode="json") if hasattr(self.parsed, "model_dump") else self.parsed,
            "fields": {
                name: {"logprob": each.logprob, "agreement": each.agreement} for name, each in self.fields.items()
            },
            "notes": list(self.notes),
            "failures": [
                {
                    "error": type(failure.error).__name__,
                    "message": str(failure.error),
                    "lost": failure.lost,
                    "attempts": failure.attempts,
                    "retryable": failure.error.retryable,
                }
                for failure in self.failures
            ],
            "candidates": [
                {
                    "index": candidate.completion.index,
                    "text": candidate.text,
                    "answer": candidate.answer,
                    "group": candidate.group,
                    "score": candidate.score,
                    "probability": candidate.probability,
                    "answer_probability": candidate.answer_probability,
                    "weight": candidate.weight,
                    "finish_reason": candidate.completion.finish_reason,
                    "tokens": len(candidate.completion.tokens),
                    "thinking_tokens": len(thought.tokens) if (thought := candidate.completion.thinking) else 0,
                }
                for candidate in self.candidates
            ],
        }
