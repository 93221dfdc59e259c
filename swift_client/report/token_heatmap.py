"""What the head looks at: each token coloured by gate x reward, as bright as its share of the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swift_client.display import plain
from swift_client.features import TokenTable, listed_ranks, token_columns
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.models.gated_linear import GATES_AT_LEAST
from swift_client.report.format import decimal
from swift_client.report.markup import Markup, tag
from swift_client.types import Completion, Selection

FAINT = 0.25
"""Share of the mean gate below which letters are faint."""
FAINT_UP_TO = 3
"""Level from which letters are never faint: on a strong colour they could not be read."""
LEVELS = 6
"""Shades of a colour on either side of none."""
SHOWN = 160
"""Tokens of one completion that are shown one by one: the first and the last half of so many."""
LONGEST = 80
"""Characters of one token that are shown."""
LONGEST_TEXT = 4000
"""Characters of a completion that came without tokens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighed:
    """What the head makes of the T tokens of one completion."""

    gates: F64
    """(T,) 0..1: how much each counts."""
    rewards: F64
    """(T,): what each says."""

    @property
    def shares(self) -> F64:
        """(T,) gate by the mean gate: 1 for a token that counts as much as the mean of its completion."""
        shares: F64 = self.gates / max(float(self.gates.mean()), GATES_AT_LEAST) if len(self.gates) else self.gates
        return shares

    @property
    def brought(self) -> F64:
        """(T,) what each token brings to the score: its share x its reward; their mean is the gated mean."""
        return self.shares * self.rewards

    @property
    def mean(self) -> float:
        """The gated mean: the tokens' part of the score."""
        return float((self.gates * self.rewards).sum() / max(float(self.gates.sum()), GATES_AT_LEAST))


def weighed(head: HeadArtifact, selection: Selection) -> list[Weighed | None]:
    """Weigh the tokens of each candidate as its score did, None where it has no score."""
    scored = [each.completion for each in selection.candidates if each.score is not None]
    # All were read to the shortest of their lists, as ``scorers.score`` does.
    k = min((min(listed_ranks(completion), head.k_max) for completion in scored), default=0)
    table = TokenTable(scored, width=head.width, k=k)
    values = head.standardizer(token_columns(table, head.features).values)
    gates, rewards = head.head.token_gates(values), head.head.token_rewards(values)
    parts = (Weighed(gates=gates[start:end], rewards=rewards[start:end]) for start, end in pairwise(table.offsets))
    return [None if each.score is None else next(parts) for each in selection.candidates]


def brightest(all_weighed: Sequence[Weighed | None]) -> float:
    """Return what a token must bring to get the full colour: what one in 20 of those shown exceeds."""
    sizes = [np.abs(each.brought) for each in all_weighed if each is not None]
    joined = np.concatenate([np.zeros(0), *sizes])
    return float(np.quantile(joined, 0.95)) if len(joined) and joined.any() else 1.0


def coloured(completion: Completion, parts: Weighed | None, *, full: float) -> Markup:
    """Return a completion's text, token by token; ``full`` is the size of gate x reward with the full colour."""
    if parts is None or not completion.tokens:
        cut = completion.text[:LONGEST_TEXT]
        return tag("p", cut, "…" if len(completion.text) > len(cut) else None, class_="tokens", dir="auto")
    count = len(completion.tokens)
    ends = range(count) if count <= SHOWN else [*range(SHOWN // 2), *range(count - SHOWN // 2, count)]
    spans = [_token(completion, parts, at, full) for at in ends]
    if len(spans) < count:
        hidden = tag("span", f" … {count - len(spans):,} tokens left out … ", class_="soft")
        spans = [*spans[: SHOWN // 2], hidden, *spans[SHOWN // 2 :]]
    return tag("p", *spans, class_="tokens", dir="auto")


def _token(completion: Completion, parts: Weighed, at: int, full: float) -> Markup:
    whole = completion.tokens[at]
    token = whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}…"
    gate, reward, share, brings = (
        float(each[at]) for each in (parts.gates, parts.rewards, parts.shares, parts.brought)
    )
    level = min(LEVELS, round(LEVELS * abs(brings) / full))
    classes = [
        *([f"{'u' if brings > 0 else 'd'}{level}"] if level else []),
        *(["f"] if share < FAINT and level < FAINT_UP_TO else []),
    ]
    hidden = " at most: hidden by the provider" if completion.censored[at] else ""
    said = (
        f"{plain(token)}\nlogprob {decimal(float(completion.logprobs[at]))}{hidden}\ngate {decimal(gate)} "
        f"({decimal(share, 2)} of the mean)\nreward {decimal(reward)}\ngate × reward {decimal(gate * reward)}"
    )
    shown = token.replace("\n", "↵\n")
    return tag("i", shown, class_=" ".join(classes) or None, title=said)


def legend(full: float) -> Markup:
    """Return the scale of colours with its numbers, and what faint letters mean."""
    shades = [f"d{level}" for level in range(LEVELS, 0, -1)] + [""] + [f"u{level}" for level in range(1, LEVELS + 1)]
    bar = [tag("i", "\N{NO-BREAK SPACE}", class_=shade or None) for shade in shades]
    return tag(
        "p",
        tag(
            "span",
            f"{decimal(-full, 1)} ",
            tag("span", *bar, class_="shades"),
            f" +{decimal(full, 1)}",
            class_="scale",
        ),
        " Colour is gate × reward, the gate taken against the mean gate of the completion, so that the colours of a "
        "completion average to the tokens’ part of its score: orange lowers it, blue raises it. ",
        tag("i", "Faint letters", class_="f"),
        " have a gate below a quarter of that mean: the head passes over them. Point at a token for its numbers.",
        class_="legend tokens",
    )
