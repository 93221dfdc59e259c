"""Token heatmap: each token coloured by gate × (reward - the question's mean).

Rewards of one question have a common level, which chooses nothing. Around their mean the colours show which tokens make
one of its answers better than another. Tokens with small gates have faint letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from swift_client.features import TokenTable, listed_ranks, token_columns
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.report.format import format_decimal
from swift_client.types import Completion, Selection

# Tokens whose gate is below this share of the mean gate have faint letters.
FAINT_GATE_SHARE = 0.25
# Colour level from which letters are never faint, since they would be unreadable on a strong colour.
FAINT_LEVEL_LIMIT = 3
COLOUR_LEVELS = 6  # shades of each of the two colours; style.css has a rule for each
MAX_SHOWN_TOKENS = 160  # tokens shown per completion: the first and the last half of this number
MAX_TOKEN_CHARS = 80
MAX_TEXT_CHARS = 4000  # characters shown of a completion without tokens


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenWeights:
    """Gates and rewards of the T tokens of one completion."""

    gates: F64  # (T,) weights of the tokens, 0..1
    rewards: F64  # (T,) scores of the tokens

    @property
    def gate_shares(self) -> F64:
        """(T,) gates divided by the mean gate of the completion."""
        shares: F64 = self.gates / max(float(self.gates.mean()), GATE_SUM_EPS) if len(self.gates) else self.gates
        return shares

    def deviations(self, centre: float) -> F64:
        """(T,) gate share × (reward - ``centre``); their mean is the gated mean less ``centre``."""
        deviations: F64 = self.gate_shares * (self.rewards - centre)
        return deviations

    @property
    def gated_mean(self) -> float:
        """Σ gate × reward / Σ gate, the tokens' part of the score."""
        return float((self.gates * self.rewards).sum() / max(float(self.gates.sum()), GATE_SUM_EPS))


def weigh_tokens(head: HeadArtifact, selection: Selection) -> list[TokenWeights | None]:
    """Return the weights behind each candidate's score, None if it has no score."""
    scored = [candidate.completion for candidate in selection.candidates if candidate.score is not None]
    # As ``scorers.score`` does, all are read to the shortest of their top-k lists.
    k = min((min(listed_ranks(completion), head.k_max) for completion in scored), default=0)
    table = TokenTable(scored, width=head.width, k=k)
    values = head.standardizer(token_columns(table, head.features).values)
    gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
    parts = (TokenWeights(gates=gates[start:end], rewards=rewards[start:end]) for start, end in pairwise(table.offsets))
    return [None if candidate.score is None else next(parts) for candidate in selection.candidates]


def question_mean(weights: Sequence[TokenWeights | None]) -> float | None:
    """Return the mean of the gated means of a question's completions; None if none has weights."""
    means = [part.gated_mean for part in weights if part is not None and len(part.gates)]
    return float(np.mean(means)) if means else None


def compute_colour_limit(weights: Sequence[Sequence[TokenWeights | None]], centres: Sequence[float | None]) -> float:
    """Return the deviation from its question's mean with the full colour, which one in 20 tokens exceeds."""
    distances = [
        np.abs(part.deviations(centre or 0.0))
        for parts, centre in zip(weights, centres, strict=True)
        for part in parts
        if part is not None
    ]
    sizes = np.concatenate([np.zeros(0), *distances])
    return (float(np.quantile(sizes, 0.95)) or 1.0) if len(sizes) else 1.0


class ShownToken(NamedTuple):
    """One token as the page shows it."""

    text: str
    title: str  # its numbers, shown when the pointer is over it
    # Classes in the style sheet: "u" is above and "d" below the question's mean, with the colour level; "faint".
    style: str


class ShownTokens(NamedTuple):
    """A completion as the page shows it: its first tokens, the number of hidden ones, its last tokens; or its text."""

    first: list[ShownToken]
    n_hidden: int
    last: list[ShownToken]
    text: str  # only without tokens or weights


def shown_tokens(
    completion: Completion, weights: TokenWeights | None, *, centre: float, colour_limit: float
) -> ShownTokens:
    """Prepare the tokens of a completion for the page.

    ``centre`` is the mean of its question, and a token ``colour_limit`` away from it has the full colour.
    """
    if weights is None or not completion.tokens:
        text = completion.text[:MAX_TEXT_CHARS]
        return ShownTokens([], 0, [], text + ("…" if len(completion.text) > len(text) else ""))
    first, last = (
        [_shown_token(completion, weights, index, centre, colour_limit) for index in part]
        for part in shown_ranges(len(completion.tokens), MAX_SHOWN_TOKENS)
    )
    return ShownTokens(first, len(completion.tokens) - len(first) - len(last), last, "")


def shown_ranges(count: int, limit: int) -> tuple[range, range]:
    """Return the indices of the first and of the last tokens to show, ``limit`` of ``count`` together."""
    half = limit // 2
    return (range(count), range(0)) if count <= limit else (range(half), range(count - half, count))


def clip_token(token: str) -> str:
    """Return a token of bounded length."""
    return f"{token[:MAX_TOKEN_CHARS]}…" if len(token) > MAX_TOKEN_CHARS else token


def show_line_ends(text: str) -> str:
    """Return a text in which every line end is marked."""
    return text.replace("\n", "↵\n")


def _shown_token(
    completion: Completion, weights: TokenWeights, index: int, centre: float, colour_limit: float
) -> ShownToken:
    token = clip_token(completion.tokens[index])
    gate, reward, share = (float(values[index]) for values in (weights.gates, weights.rewards, weights.gate_shares))
    deviation = share * (reward - centre)
    # The hue is the side of the question's mean, the shade the distance from it.
    level = min(COLOUR_LEVELS, round(COLOUR_LEVELS * abs(deviation) / colour_limit))
    colour = f"{'u' if deviation > 0 else 'd'}{level}" if level else ""
    faint = " faint" if share < FAINT_GATE_SHARE and level < FAINT_LEVEL_LIMIT else ""
    bound = " at most: hidden by the provider" if completion.censored[index] else ""
    title = (
        f"{token}\nlogprob {format_decimal(float(completion.logprobs[index]))}{bound}\n"
        f"gate {format_decimal(gate)} ({format_decimal(share, 2)} of the mean)\n"
        f"reward {format_decimal(reward)}\ngate × reward {format_decimal(gate * reward)}\n"
        f"colour {format_decimal(deviation)}"
    )
    return ShownToken(show_line_ends(token), title, f"{colour}{faint}".strip())
