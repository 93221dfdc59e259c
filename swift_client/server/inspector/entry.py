"""A selection as the inspector knows it, from memory or from a samples file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from swift_client.report.format import format_prompt
from swift_client.server.inspector.facts import SelectionFacts
from swift_client.types import F32, Bool, Completion

# Characters that are kept of one message, of a text, and of one answer's thinking.
MAX_MESSAGE, MAX_TEXT, MAX_THINKING = 20_000, 50_000, 10_000
_MAX_MESSAGES = 50  # the last ones are kept


class PromptPart(NamedTuple):
    """One message of a prompt."""

    role: str
    text: str


class Phase(NamedTuple):
    """One part of the work, in seconds from the begin of the request."""

    name: str
    start: float
    end: float
    calls: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ShownCompletion:
    """A completion with what the inspector shows of it.

    Attributes:
        n_chars: Length of its complete text.
        tokens: (T,) texts of its tokens; empty without logprobs.
        logprobs: (T,) of the chosen tokens, nats.
        censored: (T,) True for a logprob that the provider hides.
    """

    text: str
    n_chars: int
    thinking: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    tokens: tuple[str, ...] = ()
    logprobs: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    censored: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))

    @classmethod
    def of(cls, completion: Completion) -> ShownCompletion:
        """Return the shown part of a completion."""
        thinking = completion.thinking.text if completion.thinking is not None else ""
        return cls(
            text=completion.text[:MAX_TEXT],
            n_chars=len(completion.text),
            thinking=thinking[:MAX_THINKING],
            tool_calls=tuple((call.name, call.arguments[:MAX_TEXT]) for call in completion.tool_calls[:20]),
            tokens=completion.tokens,
            logprobs=completion.logprobs.copy(),  # a view would hold the whole reply in memory
            censored=completion.censored.copy(),
        )

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        texts = len(self.text) + len(self.thinking) + sum(len(call) for _, call in self.tool_calls)
        return 400 + 2 * texts + 75 * len(self.tokens)


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """One selection.

    Attributes:
        time: Unix time in seconds.
        model: Name of the virtual model; of the provider's model for a call of the library.
        text: The chosen text, or its begin.
        completions: (N,) those of the candidates; None for one that is gone. Empty if they were not read.
        key: Name of the client's key.
        seconds: Seconds of the complete request; None if unknown.
        correct: The feedback.
        is_recorded: True if a samples file has it, so that it takes feedback.
    """

    id: str
    time: float
    model: str
    prompt: tuple[PromptPart, ...]
    facts: SelectionFacts
    text: str
    completions: tuple[ShownCompletion | None, ...] = ()
    key: str | None = None
    seconds: float | None = None
    phases: tuple[Phase, ...] = field(default=())
    correct: bool | None = None
    is_recorded: bool = False

    @property
    def question(self) -> str:
        """The last message of the user, else the last one."""
        texts = [part.text for part in self.prompt if part.role == "user"] or [part.text for part in self.prompt]
        return texts[-1] if texts else ""

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        facts = 1000 + 400 * len(self.facts.candidates) + 2 * sum(map(len, self.facts.notes))
        texts = len(self.text) + sum(len(part.text) for part in self.prompt)
        answers = sum(len(candidate.answer or "") for candidate in self.facts.candidates)
        return facts + 2 * (texts + answers) + sum(completion.size for completion in self.completions if completion)


def shorten_prompt(messages: Sequence[Mapping[str, Any]]) -> tuple[PromptPart, ...]:
    """Return the last messages of a prompt as texts; parts that are not text are named in brackets."""
    return tuple(
        PromptPart(str(message.get("role", "?"))[:40], format_prompt(message.get("content"), MAX_MESSAGE))
        for message in messages[-_MAX_MESSAGES:]
    )


def shorten_completions(completions: Iterable[Completion]) -> tuple[ShownCompletion, ...]:
    """Return the shown part of each completion."""
    return tuple(map(ShownCompletion.of, completions))
