"""Early abort: closes streams whose confidence falls below a threshold learnt from the question's first answers.

DeepConf-online (arXiv 2508.15260, §3.2): the warm-up completions are streamed to their end, and each has a lowest
running score. A quantile of these is the threshold; a later stream is closed once its own score falls below it. The
running score is DeepConf's group confidence over a sliding window, or the head's running gated score. The paper's 16
warm-ups and windows of 2,048 tokens are scaled down to answers of API size.
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
from swift_client.validation import parse_spec, require_int

_EXAMPLE = "deepconf:keep=0.1:warmup=4:window=16"


@dataclass(frozen=True, kw_only=True)
class EarlyAbort:
    """The rule by which streams are closed; the argument ``abort=`` of ``best_of``.

    Raises:
        ConfigurationError: a parameter is out of its range.
    """

    # The running score: the confidence of the last ``window`` tokens, or the head's score so far.
    by: Literal["deepconf", "head"] = "deepconf"
    # Share of the warm-up completions above the threshold: .9 is the paper's cautious form, .1 its bold one.
    keep: float = 0.9
    warmup: int = 4  # completions that are streamed to their end before any is closed
    window: int = 16  # tokens of a group; no stream is closed before it has so many

    def __post_init__(self) -> None:
        if self.by not in ("deepconf", "head"):
            raise ConfigurationError(f'abort= must be "deepconf" or "head", not {self.by!r}.')
        if not 0 < self.keep < 1:
            raise ConfigurationError(f"keep of abort= must be a share between 0 and 1, not {self.keep:g}.")
        require_int("warmup of abort=", self.warmup, low=1)
        require_int("window of abort=", self.window, low=1)


def parse_abort(spec: str | EarlyAbort | None) -> EarlyAbort | None:
    """Parse "deepconf", "head" or "deepconf:keep=0.1:warmup=4:window=16".

    Raises:
        ConfigurationError: ``spec`` is something else.
    """
    if spec is None or isinstance(spec, EarlyAbort):
        return spec
    if not isinstance(spec, str):
        raise ConfigurationError(
            f"abort= takes a name or an EarlyAbort, not {type(spec).__name__}.", hint='Use abort="deepconf".'
        )
    name, settings = parse_spec(spec, example=f"abort={_EXAMPLE}")
    if unknown := settings.keys() - {"keep", "warmup", "window"}:
        raise ConfigurationError(f"abort= has no setting {min(unknown)!r}.", hint=f"Write it as {_EXAMPLE!r}.")
    return EarlyAbort(by=name, **settings)  # type: ignore[arg-type]  # checked by EarlyAbort itself


class AbortMonitor:
    """Early abort of one question's streams. Belongs to the question's event loop.

    Args:
        rule: when streams are closed.
        score_factory: makes a running score; needed by "head".
    """

    def __init__(self, rule: EarlyAbort, score_factory: Callable[[], StreamingScore] | None = None) -> None:
        self.rule = rule
        self._score_factory = score_factory
        self._lowest_scores: list[float] = []
        self._prompt_tokens = 0
        # Streams whose score falls below are closed; None until all warm-up completions have come.
        self.threshold: float | None = None
        self.finished_lengths: list[int] = []  # tokens of the completions that were not closed
        self.closed_lengths: list[int] = []  # tokens of the completions that were closed

    def begin(self) -> StreamMonitor:
        """Return a monitor for one more stream."""
        return StreamMonitor(self, self._score_factory() if self._score_factory and self.rule.by == "head" else None)

    def record_finished(self, monitor: StreamMonitor, reply: Reply) -> None:
        """Record a stream that was read to its end; the last warm-up sets the threshold."""
        self.finished_lengths.append(_count_tokens(reply))
        self._prompt_tokens = max(self._prompt_tokens, reply.usage.prompt_tokens)
        if self.threshold is None and not math.isnan(monitor.lowest_score):
            self._lowest_scores.append(monitor.lowest_score)
            if len(self._lowest_scores) == self.rule.warmup:
                self.threshold = float(np.quantile(self._lowest_scores, 1 - self.rule.keep))

    def truncate_reply(self, reply: Reply) -> Reply:
        """Return the reply of a closed stream: its completion is marked as cut, its usage estimated."""
        self.closed_lengths.append(_count_tokens(reply))
        completions = tuple(replace(completion, finish_reason="length") for completion in reply.completions)
        usage = replace(
            reply.usage,
            prompt_tokens=reply.usage.prompt_tokens or self._prompt_tokens,  # counts come with a stream's last event
            completion_tokens=max(self.closed_lengths[-1], reply.usage.completion_tokens),
            estimated=True,
        )
        return replace(reply, completions=completions, usage=usage, notes=(), closed_early=True)

    def note(self) -> str | None:
        """Return a sentence on the closed streams and the estimated saving, or on why none could be closed."""
        if self.threshold is None and len(self.finished_lengths) > self.rule.warmup:
            return (
                f"No stream was closed early ({self.rule.by}): {self.rule.warmup} streams with {self.rule.window} "
                f"tokens and logprobs must arrive first, and {len(self._lowest_scores)} did."
            )
        if not self.closed_lengths:
            return None
        mean_length = sum(self.finished_lengths) / max(1, len(self.finished_lengths))
        saved_tokens = round(sum(max(0.0, mean_length - tokens) for tokens in self.closed_lengths))
        return (
            f"{len(self.closed_lengths)} completions were closed early ({self.rule.by}): they do not vote, their cost "
            f"is an estimate, and about {saved_tokens:,} tokens were saved."
        )


class StreamMonitor:
    """The running score of one stream."""

    def __init__(self, abort_monitor: AbortMonitor, streaming_score: StreamingScore | None) -> None:
        self._abort_monitor, self._streaming_score = abort_monitor, streaming_score
        self._window_confidences: deque[float] = deque(maxlen=abort_monitor.rule.window)
        self.n_tokens = 0
        # The lowest running score so far; NaN before the first full window.
        self.lowest_score = math.nan

    def below_threshold(self, piece: Completion) -> bool:
        """Add the next tokens; return True if the stream's score has fallen below the threshold."""
        for score in self._running_scores(piece):
            self.n_tokens += 1
            if self.n_tokens >= self._abort_monitor.rule.window and not math.isnan(score):
                self.lowest_score = score if math.isnan(self.lowest_score) else min(score, self.lowest_score)
        threshold = self._abort_monitor.threshold
        return threshold is not None and self.lowest_score < threshold

    def _running_scores(self, piece: Completion) -> list[float]:
        """Return the score after each token; the head's, which is slow to compute, after the last token only."""
        count = len(piece.tokens)
        if self._streaming_score is not None:
            return [math.nan] * (count - 1) + [self._streaming_score.add(piece)] if count else []
        scores = []
        for confidence in TokenTable([piece], width=piece.top_logprobs.shape[1]).confidence.tolist():
            self._window_confidences.append(confidence)
            # Not rolling_mean(): its rounding depends on where the stream was split into pieces, and a stream equal to
            # all warm-ups would be closed for it. An exact sum gives equal windows equal scores.
            scores.append(math.fsum(self._window_confidences) / len(self._window_confidences))
        return scores


def _count_tokens(reply: Reply) -> int:
    return sum(len(completion.tokens) for completion in reply.completions)
