"""Token heatmap of probabilities: the less likely a token was, the stronger its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from swift_client.report.format import format_decimal
from swift_client.report.token_heatmap import (
    COLOUR_LEVELS,
    ShownToken,
    ShownTokens,
    clip_token,
    show_line_ends,
    shown_ranges,
)

# Nats below 0 at which a token has the full colour: a probability of 5 %.
FULL_COLOUR_NATS = 3.0


class UnlikelyToken(NamedTuple):
    """One of the least likely tokens, in words for those who see no colours."""

    number: int  # in the completion, from 1
    text: str
    probability: float


def logprob_tokens(
    tokens: Sequence[str], logprobs: Sequence[float], censored: Sequence[bool], *, limit: int
) -> ShownTokens:
    """Prepare tokens for the page, with the classes "d1" to "d6" of the style sheet.

    Args:
        tokens: (T,) texts.
        logprobs: (T,) of the chosen tokens, nats.
        censored: (T,) True for a logprob that the provider hides, which is an upper bound then.
        limit: tokens to show; the middle of a longer completion is left out.
    """

    def show(index: int) -> ShownToken:
        level = colour_level(logprobs[index])
        bound = " at most: hidden by the provider" if censored[index] else ""
        probability = format_decimal(math.exp(min(0.0, logprobs[index])))
        text = clip_token(tokens[index])
        title = f"{text}\nprobability {probability}{bound}\nlogprob {format_decimal(logprobs[index])}"
        return ShownToken(show_line_ends(text), title, f"d{level}" if level else "")

    first, last = ([show(index) for index in part] for part in shown_ranges(len(tokens), limit))
    return ShownTokens(first, len(tokens) - len(first) - len(last), last, "")


def colour_level(logprob: float) -> int:
    """Return the shade of a token, 0 (likely) to ``COLOUR_LEVELS``."""
    share = min(1.0, max(0.0, -logprob / FULL_COLOUR_NATS)) if math.isfinite(logprob) else 1.0
    return round(COLOUR_LEVELS * share)


def unlikely_tokens(tokens: Sequence[str], logprobs: Sequence[float], *, limit: int) -> list[UnlikelyToken]:
    """Return the tokens with a colour, the least likely first, at most ``limit``."""
    order = sorted(range(len(tokens)), key=lambda index: logprobs[index])[:limit]
    return [
        UnlikelyToken(index + 1, clip_token(tokens[index]), math.exp(min(0.0, logprobs[index])))
        for index in order
        if colour_level(logprobs[index])
    ]
