"""Streams that lose confidence are closed: the first answers of a question say how low one may fall.

DeepConf-online (arXiv 2508.15260, §3.2): the warm-up candidates stream whole; each has a lowest standing, and a
quantile of these is the bar; a later candidate is closed where its own standing falls under it. The standing is
DeepConf's group confidence over a sliding window, or the head's running gated score; the paper's 16 warm-ups and
windows of 2,048 tokens are scaled down to answers of API size.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from swift_client.adapters import Reply
from swift_client.errors import ConfigurationError
from swift_client.features import TokenTable
from swift_client.scoring.streaming import RunningScore
from swift_client.types import Completion


@dataclass(frozen=True, kw_only=True)
class Abort:
    """When a stream is closed; the argument ``abort=`` of ``best_of``.

    Raises:
        ConfigurationError: a parameter is out of its range.
    """

    by: Literal["deepconf", "head"] = "deepconf"
    """What a stream is measured by: the confidence of its last ``window`` tokens, or the head's score so far."""
    keep: float = 0.9
    """Share of the warm-up candidates that are above the bar: .9 is the paper's cautious form, .1 its bold one."""
    warmup: int = 4
    """Candidates that stream whole before any is closed."""
    window: int = 16
    """Tokens of a group; none is closed before it has so many."""

    def __post_init__(self) -> None:
        if self.by not in ("deepconf", "head"):
            raise ConfigurationError(f"abort= goes by {self.by!r}, which is nothing.", hint='Use "deepconf" or "head".')
        if not 0 < self.keep < 1 or self.warmup < 1 or self.window < 1:
            raise ConfigurationError(
                f"abort= has keep={self.keep:g}, warmup={self.warmup}, window={self.window}.",
                hint="keep is a share between 0 and 1, the others are whole numbers from 1.",
            )


def abort_of(spec: str | Abort | None) -> Abort | None:
    """Read "deepconf", "head" or "deepconf:keep=0.1:warmup=4:window=16". Raises ConfigurationError for what is none."""
    if spec is None or isinstance(spec, Abort):
        return spec
    if not isinstance(spec, str):
        raise ConfigurationError(f"abort= takes a name or an Abort, not {type(spec).__name__}.", hint='Use "deepconf".')
    name, *settings = spec.split(":")
    numbers: dict[str, float] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        try:
            numbers[key] = {"keep": float, "warmup": int, "window": int}[key](text)
        except (KeyError, ValueError) as error:
            raise ConfigurationError(
                f"{setting!r} is no setting of abort=.", hint='Write it as "deepconf:keep=0.1:warmup=4:window=16".'
            ) from error
    return Abort(by=name, **numbers)  # type: ignore[arg-type]  # checked by Abort itself


class Aborting:
    """One draw's streams under one rule. Belongs to the draw's event loop.

    Args:
        rule: what to go by.
        running: makes a running score; needed by "head".
    """

    def __init__(self, rule: Abort, running: Callable[[], RunningScore] | None = None) -> None:
        self.rule = rule
        self._running = running
        self._lowest: list[float] = []
        self._prompt_tokens = 0
        self.bar: float | None = None
        """Under it a stream is closed; None while the warm-up candidates are not all there."""
        self.lengths: list[int] = []
        """Tokens of the candidates that ended by themselves."""
        self.closed: list[int] = []
        """Tokens of those that were closed."""

    def begin(self) -> Trace:
        """Return what watches one further stream."""
        return Trace(self, self._running() if self._running and self.rule.by == "head" else None)

    def ended(self, trace: Trace, reply: Reply) -> None:
        """Take note of a stream that was read to its end."""
        self.lengths.append(sum(len(each.tokens) for each in reply.completions))
        self._prompt_tokens = max(self._prompt_tokens, reply.usage.prompt_tokens)
        if self.bar is None and not math.isnan(trace.lowest):
            self._lowest.append(trace.lowest)
            if len(self._lowest) == self.rule.warmup:
                self.bar = float(np.quantile(self._lowest, 1 - self.rule.keep))

    def cut(self, reply: Reply) -> Reply:
        """Return a closed stream's reply: its completion is cut, and what it cost is counted here."""
        self.closed.append(sum(len(each.tokens) for each in reply.completions))
        completions = tuple(replace(each, finish_reason="length") for each in reply.completions)
        usage = replace(
            reply.usage,
            prompt_tokens=reply.usage.prompt_tokens or self._prompt_tokens,  # counts come with a stream's last event
            completion_tokens=max(self.closed[-1], reply.usage.completion_tokens),
            estimated=True,
        )
        return replace(reply, completions=completions, usage=usage, notes=(), closed=True)

    def note(self) -> str | None:
        """Say how many streams were closed and what that is estimated to have saved, or why none could be."""
        if self.bar is None and len(self.lengths) > self.rule.warmup:
            return (
                f"No stream was closed early ({self.rule.by}): {self.rule.warmup} streams with {self.rule.window} "
                f"tokens and logprobs must come first, and {len(self._lowest)} came."
            )
        if not self.closed:
            return None
        usual = sum(self.lengths) / max(1, len(self.lengths))
        saved = round(sum(max(0.0, usual - tokens) for tokens in self.closed))
        return (
            f"{len(self.closed)} completions were closed early ({self.rule.by}): they do not vote, what they cost is "
            f"an estimate, and about {saved:,} tokens were saved."
        )


class Trace:
    """One stream's standing."""

    def __init__(self, aborting: Aborting, running: RunningScore | None) -> None:
        self._aborting, self._running = aborting, running
        self._group: deque[float] = deque(maxlen=aborting.rule.window)
        self.tokens = 0
        self.lowest = math.nan
        """The lowest standing so far; NaN before the first full window."""

    def falls(self, piece: Completion) -> bool:
        """Read the next tokens; return whether the stream is under the bar."""
        for standing in self._standings(piece):
            self.tokens += 1
            if self.tokens >= self._aborting.rule.window and not math.isnan(standing):
                self.lowest = standing if math.isnan(self.lowest) else min(standing, self.lowest)
        bar = self._aborting.bar
        return bar is not None and self.lowest < bar

    def _standings(self, piece: Completion) -> list[float]:
        """Return the standing after each token; the head's, which is dear, after the last alone."""
        count = len(piece.tokens)
        if self._running is not None:
            return [math.nan] * (count - 1) + [self._running.add(piece)] if count else []
        values = TokenTable([piece], width=piece.top_logprobs.shape[1]).confidence
        standings = []
        for value in values.tolist():
            self._group.append(value)
            # Summed anew: a sum that is carried along gathers rounding over thousands of tokens.
            standings.append(math.fsum(self._group) / len(self._group))
        return standings
