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
from swift_client.scoring.streaming import StreamingScore
from swift_client.types import Completion


@dataclass(frozen=True, kw_only=True)
class EarlyAbort:
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


def parse_abort(spec: str | EarlyAbort | None) -> EarlyAbort | None:
    """Read "deepconf", "head" or "deepconf:keep=0.1:warmup=4:window=16". Raises ConfigurationError for what is none."""
    if spec is None or isinstance(spec, EarlyAbort):
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
    return EarlyAbort(by=name, **numbers)  # type: ignore[arg-type]  # checked by Abort itself


class AbortMonitor:
    """One draw's streams under one rule. Belongs to the draw's event loop.

    Args:
        rule: what to go by.
        running: makes a running score; needed by "head".
    """

    def __init__(self, rule: EarlyAbort, score_factory: Callable[[], StreamingScore] | None = None) -> None:
        self.rule = rule
        self._score_factory = score_factory
        self._lowest_scores: list[float] = []
        self._prompt_tokens = 0
        self.threshold: float | None = None
        """Under it a stream is closed; None while the warm-up candidates are not all there."""
        self.finished_lengths: list[int] = []
        """Tokens of the candidates that ended by themselves."""
        self.closed_lengths: list[int] = []
        """Tokens of those that were closed."""

    def begin(self) -> StreamMonitor:
        """Return what watches one further stream."""
        return StreamMonitor(self, self._score_factory() if self._score_factory and self.rule.by == "head" else None)

    def record_finished(self, monitor: StreamMonitor, reply: Reply) -> None:
        """Take note of a stream that was read to its end."""
        self.finished_lengths.append(sum(len(each.tokens) for each in reply.completions))
        self._prompt_tokens = max(self._prompt_tokens, reply.usage.prompt_tokens)
        if self.threshold is None and not math.isnan(monitor.lowest_score):
            self._lowest_scores.append(monitor.lowest_score)
            if len(self._lowest_scores) == self.rule.warmup:
                self.threshold = float(np.quantile(self._lowest_scores, 1 - self.rule.keep))

    def truncate_reply(self, reply: Reply) -> Reply:
        """Return a closed stream's reply: its completion is cut, and what it cost is counted here."""
        self.closed_lengths.append(sum(len(each.tokens) for each in reply.completions))
        completions = tuple(replace(each, finish_reason="length") for each in reply.completions)
        usage = replace(
            reply.usage,
            prompt_tokens=reply.usage.prompt_tokens or self._prompt_tokens,  # counts come with a stream's last event
            completion_tokens=max(self.closed_lengths[-1], reply.usage.completion_tokens),
            estimated=True,
        )
        return replace(reply, completions=completions, usage=usage, notes=(), closed_early=True)

    def note(self) -> str | None:
        """Say how many streams were closed and what that is estimated to have saved, or why none could be."""
        if self.threshold is None and len(self.finished_lengths) > self.rule.warmup:
            return (
                f"No stream was closed early ({self.rule.by}): {self.rule.warmup} streams with {self.rule.window} "
                f"tokens and logprobs must come first, and {len(self._lowest_scores)} came."
            )
        if not self.closed_lengths:
            return None
        usual = sum(self.finished_lengths) / max(1, len(self.finished_lengths))
        saved = round(sum(max(0.0, usual - tokens) for tokens in self.closed_lengths))
        return (
            f"{len(self.closed_lengths)} completions were closed early ({self.rule.by}): they do not vote, what they cost is "
            f"an estimate, and about {saved:,} tokens were saved."
        )


class StreamMonitor:
    """One stream's standing."""

    def __init__(self, abort_monitor: AbortMonitor, streaming_score: StreamingScore | None) -> None:
        self._abort_monitor, self._streaming_score = abort_monitor, streaming_score
        self._window_confidences: deque[float] = deque(maxlen=abort_monitor.rule.window)
        self.n_tokens = 0
        self.lowest_score = math.nan
        """The lowest standing so far; NaN before the first full window."""

    def below_threshold(self, piece: Completion) -> bool:
        """Read the next tokens; return whether the stream is under the bar."""
        for standing in self._running_scores(piece):
            self.n_tokens += 1
            if self.n_tokens >= self._abort_monitor.rule.window and not math.isnan(standing):
                self.lowest_score = standing if math.isnan(self.lowest_score) else min(standing, self.lowest_score)
        bar = self._abort_monitor.threshold
        return bar is not None and self.lowest_score < bar

    def _running_scores(self, piece: Completion) -> list[float]:
        """Return the standing after each token; the head's, which is dear, after the last alone."""
        count = len(piece.tokens)
        if self._streaming_score is not None:
            return [math.nan] * (count - 1) + [self._streaming_score.add(piece)] if count else []
        values = TokenTable([piece], width=piece.top_logprobs.shape[1]).confidence
        standings = []
        for value in values.tolist():
            self._window_confidences.append(value)
            # Summed anew: a sum that is carried along gathers rounding over thousands of tokens.
            standings.append(math.fsum(self._window_confidences) / len(self._window_confidences))
        return standings
