"""What the head looks at: each token coloured by gate x reward, as bright as its share of the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swift_client.display import escape_unsafe
from swift_client.features import TokenTable, listed_ranks, token_columns
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATE_SUM_EPS
from swift_client.report.format import format_decimal
from swift_client.report.markup import Markup, tag
from swift_client.types import Completion, Selection

FAINT_GATE_SHARE = 0.25
"""Share of the mean gate below which letters are faint."""
FAINT_LEVEL_LIMIT = 3
"""Level from which letters are never faint: on a strong colour they could not be read."""
COLOUR_LEVELS = 6
"""Shades of a colour on either side of none."""
MAX_SHOWN_TOKENS = 160
"""Tokens of one completion that are shown one by one: the first and the last half of so many."""
MAX_TOKEN_CHARS = 80
"""Characters of one token that are shown."""
MAX_TEXT_CHARS = 4000
"""Characters of a completion that came without tokens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenWeights:
    """What the head makes of the T tokens of one completion."""

    gates: F64
    """(T,) 0..1: how much each counts."""
    rewards: F64
    """(T,): what each says."""

    @property
    def gate_shares(self) -> F64:
        """(T,) gate by the mean gate: 1 for a token that counts as much as the mean of its completion."""
        shares: F64 = self.gates / max(float(self.gates.mean()), GATE_SUM_EPS) if len(self.gates) else self.gates
        return shares

    @property
    def contributions(self) -> F64:
        """(T,) what each token brings to the score: its share x its reward; their mean is the gated mean."""
        return self.gate_shares * self.rewards

    @property
    def gated_mean(self) -> float:
        """The gated mean: the tokens' part of the score."""
        return float((self.gates * self.rewards).sum() / max(float(self.gates.sum()), GATE_SUM_EPS))


def weigh_tokens(head: HeadArtifact, selection: Selection) -> list[TokenWeights | None]:
    """Weigh the tokens of each candidate as its score did, None where it has no score."""
    scored = [each.completion for each in selection.candidates if each.score is not None]
    # All were read to the shortest of their lists, as ``scorers.score`` does.
    k = min((min(listed_ranks(completion), head.k_max) for completion in scored), default=0)
    table = TokenTable(scored, width=head.width, k=k)
    values = head.standardizer(token_columns(table, head.features).values)
    gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
    parts = (TokenWeights(gates=gates[start:end], rewards=rewards[start:end]) for start, end in pairwise(table.offsets))
    return [None if each.score is None else next(parts) for each in selection.candidates]


def compute_colour_limit(all_weights: Sequence[TokenWeights | None]) -> float:
    """Return what a token must bring to get the full colour: what one in 20 of those shown exceeds."""
    sizes = [np.abs(each.contributions) for each in all_weights if each is not None]
    joined = np.concatenate([np.zeros(0), *sizes])
    return float(np.quantile(joined, 0.95)) if len(joined) and joined.any() else 1.0


def render_tokens(completion: Completion, weights: TokenWeights | None, *, colour_limit: float) -> Markup:
    """Return a completion's text, token by token; ``full`` is the size of gate x reward with the full colour."""
    if weights is None or not completion.tokens:
        cut = completion.text[:MAX_TEXT_CHARS]
        return tag("p", cut, "…" if len(completion.text) > len(cut) else None, class_="tokens", dir="auto")
    count = len(completion.tokens)
    ends = (
        range(count)
        if count <= MAX_SHOWN_TOKENS
        else [*range(MAX_SHOWN_TOKENS // 2), *range(count - MAX_SHOWN_TOKENS // 2, count)]
    )
    spans = [_render_token(completion, weights, at, colour_limit) for at in ends]
    if len(spans) < count:
        hidden = tag("span", f" … {count - len(spans):,} tokens left out … ", class_="soft")
        spans = [*spans[: MAX_SHOWN_TOKENS // 2], hidden, *spans[MAX_SHOWN_TOKENS // 2 :]]
    return tag("p", *spans, class_="tokens", dir="auto")


def _render_token(completion: Completion, weights: TokenWeights, index: int, colour_limit: float) -> Markup:
    whole = completion.tokens[index]
    token = whole if len(whole) <= MAX_TOKEN_CHARS else f"{whole[:MAX_TOKEN_CHARS]}…"
    gate, reward, share, brings = (
        float(each[index]) for each in (weights.gates, weights.rewards, weights.gate_shares, weights.contributions)
    )
    level = min(COLOUR_LEVELS, round(COLOUR_LEVELS * abs(brings) / colour_limit))
    classes = [
        *([f"{'u' if brings > 0 else 'd'}{level}"] if level else []),
        *(["f"] if share < FAINT_GATE_SHARE and level < FAINT_LEVEL_LIMIT else []),
    ]
    hidden = " at most: hidden by the provider" if completion.censored[index] else ""
    said = (
        f"{escape_unsafe(token)}\nlogprob {format_decimal(float(completion.logprobs[index]))}{hidden}\ngate {format_decimal(gate)} "
        f"({format_decimal(share, 2)} of the mean)\nreward {format_decimal(reward)}\ngate × reward {format_decimal(gate * reward)}"
    )
    shown = token.replace("\n", "↵\n")
    return tag("i", shown, class_=" ".join(classes) or None, title=said)


def legend(colour_limit: float) -> Markup:
    """Return the scale of colours with its numbers, and what faint letters mean."""
    shades = (
        [f"d{level}" for level in range(COLOUR_LEVELS, 0, -1)]
        + [""]
        + [f"u{level}" for level in range(1, COLOUR_LEVELS + 1)]
    )
    bar = [tag("i", "\N{NO-BREAK SPACE}", class_=shade or None) for shade in shades]
    return tag(
        "p",
        tag(
            "span",
            f"{format_decimal(-colour_limit, 1)} ",
            tag("span", *bar, class_="shades"),
            f" +{format_decimal(colour_limit, 1)}",
            class_="scale",
        ),
        " Colour is gate × reward, the gate taken against the mean gate of the completion, so that the colours of a "
        "completion average to the tokens’ part of its score: orange lowers it, blue raises it. ",
        tag("i", "Faint letters", class_="f"),
        " have a gate below a quarter of that mean: the head passes over them. Point at a token for its numbers.",
        class_="legend tokens",
    )
