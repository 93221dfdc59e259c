"""Example questions as a reader sees them: prompt, completions, what each counted, and each token's colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swift_client.display import ENDINGS
from swift_client.models import HeadArtifact
from swift_client.report.example_selection import DRAWN, OUTCOMES, Choice, Choices
from swift_client.report.format import NONE, PERCENT, decimal, percent
from swift_client.report.markup import Markup, tag
from swift_client.report.summary import count
from swift_client.report.token_heatmap import Weighed, brightest, coloured, legend, weighed
from swift_client.store import StoredQuestion
from swift_client.types import Candidate, Message

LONGEST_PROMPT = 2000
"""Characters of a prompt that are shown."""


def examples(head: HeadArtifact, chosen: Choices, questions: Mapping[str, StoredQuestion]) -> Markup:
    """Return all examples, and how they came to be chosen."""
    parts = [weighed(head, choice.selection) for choice in chosen.examples]
    full = brightest([each for every in parts for each in every])
    total = sum(chosen.outcomes.values())
    tally = [tag("li", tag("b", f"{chosen.outcomes[kind]:,}"), tag("span", words)) for kind, words in OUTCOMES.items()]
    return tag(
        "section",
        tag("h2", "What the head looks at"),
        tag(
            "p",
            f"Here the head and majority choose among the first {DRAWN} completions of each question; of equal votes "
            f"majority takes the first. So end {count(total, 'question')}:",
        ),
        tag("ul", *tally, class_="tiles"),
        tag(
            "p",
            "The examples were picked by no one: each kind gives one in turn, wins and losses alike, in the order of a "
            "hash of the question’s id.",
        ),
        legend(full),
        *(_example(choice, each, full, questions) for choice, each in zip(chosen.examples, parts, strict=True)),
    )


def _example(
    choice: Choice, parts: Sequence[Weighed | None], full: float, questions: Mapping[str, StoredQuestion]
) -> Markup:
    question = questions.get(choice.question_id)
    messages = () if question is None else question.messages
    expected = None if question is None else question.answer
    candidates = choice.selection.candidates
    told = {"gained": "up", "lost": "down"}.get(choice.outcome, "")
    return tag(
        "article",
        tag("h3", tag("span", OUTCOMES[choice.outcome], class_=f"told {told}".strip()), " ", choice.question_id),
        *(_message(message, named=len(messages) > 1) for message in messages),
        tag("p", "Right answer: ", tag("b", expected, dir="auto"), class_="expected") if expected is not None else None,
        *(_candidate(each, choice, part, full) for each, part in zip(candidates, parts, strict=True)),
    )


def _message(message: Message, *, named: bool) -> Markup:
    said = content_text(message.get("content"))
    cut = said[:LONGEST_PROMPT] + ("…" if len(said) > LONGEST_PROMPT else "")
    who = tag("b", f"{message.get('role', '?')}: ") if named else None
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


def _shares_of_score(score: float | None, parts: Weighed | None) -> list[tuple[str, str]]:
    """Split a score into what its tokens brought and what the terms of the whole answer added."""
    if score is None or parts is None:
        return []
    return [("= tokens", decimal(parts.mean, 2)), ("+ whole answer", decimal(score - parts.mean, 2))]


def _candidate(candidate: Candidate, choice: Choice, parts: Weighed | None, full: float) -> Markup:
    index = candidate.completion.index
    label = choice.labels[index]
    verdict = tag("b", "✓ right", class_="right") if label == 1 else tag("b", "✗ wrong", class_="wrong")
    if math.isnan(label):
        verdict = tag("b", "? not graded", class_="soft")
    crowned = [
        tag("span", f"► {who}", class_="pick")
        for who, winner in (("head", choice.selection.winner), ("majority", choice.majority))
        if winner == index
    ]
    ending = ENDINGS.get(candidate.completion.finish_reason)
    facts = [
        ("answer", NONE if candidate.answer is None else candidate.answer),
        ("score", decimal(candidate.score, 2)),
        *_shares_of_score(candidate.score, parts),
        ("probability", NONE if candidate.probability is None else f"{percent(candidate.probability)}{PERCENT}"),
        ("weight", decimal(candidate.weight, 2)),
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
        coloured(candidate.completion, parts, full=full),
        class_="candidate won" if crowned else "candidate",
    )
