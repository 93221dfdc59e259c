"""Example questions as a reader sees them: prompt, completions, what each counted, and each token's colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swift_client.display import FINISH_REASON_LABELS
from swift_client.models import HeadArtifact
from swift_client.report.example_selection import EXAMPLE_N, OUTCOMES, Example, HeadComparison
from swift_client.report.format import MISSING, PERCENT, format_decimal, format_percent
from swift_client.report.markup import Markup, tag
from swift_client.report.summary import pluralize
from swift_client.report.token_heatmap import TokenWeights, compute_colour_limit, legend, render_tokens, weigh_tokens
from swift_client.store import StoredQuestion
from swift_client.types import Candidate, Message

MAX_PROMPT_CHARS = 2000
"""Characters of a prompt that are shown."""


def render_examples(head: HeadArtifact, comparison: HeadComparison, questions: Mapping[str, StoredQuestion]) -> Markup:
    """Return all examples, and how they came to be chosen."""
    parts = [weigh_tokens(head, choice.selection) for choice in comparison.examples]
    full = compute_colour_limit([each for every in parts for each in every])
    total = sum(comparison.outcomes.values())
    tally = [
        tag("li", tag("b", f"{comparison.outcomes[kind]:,}"), tag("span", words)) for kind, words in OUTCOMES.items()
    ]
    return tag(
        "section",
        tag("h2", "What the head looks at"),
        tag(
            "p",
            f"Here the head and majority choose among the first {EXAMPLE_N} completions of each question; of equal votes "
            f"majority takes the first. So end {pluralize(total, 'question')}:",
        ),
        tag("ul", *tally, class_="tiles"),
        tag(
            "p",
            "The examples were picked by no one: each kind gives one in turn, wins and losses alike, in the order of a "
            "hash of the question’s id.",
        ),
        legend(full),
        *(
            _render_example(choice, each, full, questions)
            for choice, each in zip(comparison.examples, parts, strict=True)
        ),
    )


def _render_example(
    example: Example,
    weights: Sequence[TokenWeights | None],
    colour_limit: float,
    questions: Mapping[str, StoredQuestion],
) -> Markup:
    question = questions.get(example.question_id)
    messages = () if question is None else question.messages
    expected = None if question is None else question.answer
    candidates = example.selection.candidates
    told = {"gained": "up", "lost": "down"}.get(example.outcome, "")
    return tag(
        "article",
        tag("h3", tag("span", OUTCOMES[example.outcome], class_=f"told {told}".strip()), " ", example.question_id),
        *(_render_message(message, show_role=len(messages) > 1) for message in messages),
        tag("p", "Right answer: ", tag("b", expected, dir="auto"), class_="expected") if expected is not None else None,
        *(_render_candidate(each, example, part, colour_limit) for each, part in zip(candidates, weights, strict=True)),
    )


def _render_message(message: Message, *, show_role: bool) -> Markup:
    said = content_text(message.get("content"))
    cut = said[:MAX_PROMPT_CHARS] + ("…" if len(said) > MAX_PROMPT_CHARS else "")
    who = tag("b", f"{message.get('role', '?')}: ") if show_role else None
    return tag("p", who, cut, class_="prompt", dir="auto")


def content_text(content: Any) -> str:
    """Return a chat message's words; a part that is no text is named in brackets."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            str(part.get("text", f"[{part.get('type', 'part')}]")) if isinstance(part, dict) else str(part)
            for part in content
        )
    return "" if content is None else str(content)


def _split_score(score: float | None, weights: TokenWeights | None) -> list[tuple[str, str]]:
    """Split a score into what its tokens brought and what the terms of the whole answer added."""
    if score is None or weights is None:
        return []
    return [
        ("= tokens", format_decimal(weights.gated_mean, 2)),
        ("+ whole answer", format_decimal(score - weights.gated_mean, 2)),
    ]


def _render_candidate(
    candidate: Candidate, example: Example, weights: TokenWeights | None, colour_limit: float
) -> Markup:
    index = candidate.completion.index
    label = example.labels[index]
    verdict = tag("b", "✓ right", class_="right") if label == 1 else tag("b", "✗ wrong", class_="wrong")
    if math.isnan(label):
        verdict = tag("b", "? not graded", class_="soft")
    crowned = [
        tag("span", f"► {who}", class_="pick")
        for who, winner in (("head", example.selection.winner), ("majority", example.majority_winner))
        if winner == index
    ]
    ending = FINISH_REASON_LABELS.get(candidate.completion.finish_reason)
    facts = [
        ("answer", MISSING if candidate.answer is None else candidate.answer),
        ("score", format_decimal(candidate.score, 2)),
        *_split_score(candidate.score, weights),
        (
            "probability",
            MISSING if candidate.probability is None else f"{format_percent(candidate.probability)}{PERCENT}",
        ),
        ("weight", format_decimal(candidate.weight, 2)),
        *([("ended", ending)] if ending else []),
    ]
    return tag(
        "div",
        tag(
            "p",
            verdict,
            *(tag("span", f"{name} ", tag("b", value), dir="auto") for name, value in facts),
            *crowned,
            class_="facts",
        ),
        render_tokens(candidate.completion, weights, colour_limit=colour_limit),
        class_="candidate won" if crowned else "candidate",
    )
