"""What ``demo`` shows a newcomer."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from swift_client.cli import output
from swift_client.cli.demo.graded import GradedQuestion, count_correct, total_usage
from swift_client.display import escape_unsafe, selection_table

if TYPE_CHECKING:
    from swift_client.models import AnyHead

MAX_CANDIDATES = 6
"""Candidates shown a question; the winner is always among them."""

INTRODUCTION = """\
A very small language model comes with this package. It now runs on this machine, on a real llama.cpp server, and it \
is often wrong. So it is asked each question {n} times, and the best of its {n} answers is chosen (►): answers that \
agree vote together, and {weight}. The choice never sees the truth; ✓ and ✗ are for you."""

WITH_HEAD = """\
each vote weighs as much as a small trained head, which reads how sure the model was of every token, believes it"""

WITHOUT_HEAD = "the score, how sure the model was of its tokens, decides ties"

NEXT_STEPS = """\
Ask it again yourself:
    swift-client best-of {prompt} --provider pocket

Ask a model that can do more:
    export OPENAI_API_KEY=...
    swift-client best-of "What is 17 * 24? End with: The answer is N." --provider openai --n 8

The same in Python:
    from swift_client import SwiftReranker
    with SwiftReranker("openai") as reranker:
        print(reranker.best_of("What is 17 * 24? End with: The answer is N.", n=8).text)"""


def show_introduction(n: int, head: AnyHead | None) -> None:
    """Say what is about to happen."""
    output.show(Text(INTRODUCTION.format(n=n, weight=WITH_HEAD if head and head.beats_majority else WITHOUT_HEAD)), "")


def show_question(graded_question: GradedQuestion, title: str) -> None:
    """Show one question, its candidates and the choice."""
    selection, right = graded_question.selection, graded_question.correct_flags
    table = selection_table(selection, correct_by_index=dict(enumerate(right)), max_rows=MAX_CANDIDATES)
    verdict = Text("chosen ").append(*_mark_answer(graded_question, selection.winner))
    verdict.append("   most frequent ").append(*_mark_answer(graded_question, graded_question.majority_index))
    verdict.append(f"   truth {graded_question.question.answer}   right: {sum(right)} of {len(right)}")
    output.show(
        Rule(f"{title} · {graded_question.question.family}", align="left", style="dim"),
        Text(escape_unsafe(graded_question.question.prompt)),
        "",
        table,
        verdict,
        "",
    )


def _mark_answer(graded_question: GradedQuestion, index: int) -> tuple[str, str]:
    answer = graded_question.selection.candidates[index].answer
    shown = "nothing readable" if answer is None else escape_unsafe(answer)
    return (f"✓ {shown}", "green") if graded_question.correct_flags[index] else (f"✗ {shown}", "red")


def show_summary(graded_questions: Sequence[GradedQuestion], n: int, head: AnyHead | None) -> None:
    """Compare the choice with its alternatives over questions that were not shown, if there was time for any."""
    if not graded_questions:
        return
    labels = {
        "first": "one answer, no choice",
        "majority": f"the most frequent of {n}",
        "chosen": "the vote weighed by the head" if head and head.beats_majority else "swift-client's choice",
        "any": f"at least one of {n} is right",
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, count in count_correct(graded_questions).items():
        share = count / len(graded_questions)
        style = "bold green" if name == "chosen" else "dim" if name == "any" else ""
        bar = "█" * round(30 * share) + "░" * (30 - round(30 * share))
        table.add_row(labels[name], bar, f"{count} of {len(graded_questions)}", f"{share:.0%}", style=style)
    chance = 100 * math.sqrt(0.25 / len(graded_questions))
    output.show(
        Rule(
            f"{len(graded_questions)} further questions, counted only: how often is the answer right?",
            align="left",
            style="dim",
        ),
        table,
        Text(
            f"With {len(graded_questions)} questions, luck alone moves each line by about {chance:.0f} points.",
            style="dim",
        ),
        Text(_head_note(head), style="dim"),
        "",
    )


def _head_note(head: AnyHead | None) -> str:
    if head is None:
        return "No head is trained for this model yet: the answers vote, and the score decides ties."
    if not head.beats_majority:
        return "The head for this model was no better than majority, so it is put aside: votes count 1 each."
    learned = head.training.get("questions", {}).get("train")
    return f"The head learned from {learned or 'some'} other questions, with `swift-client train`."


def show_end(graded_questions: Sequence[GradedQuestion], elapsed: float) -> None:
    """Say what it cost and what to type next."""
    usage = total_usage(graded_questions)
    cost = f"All of it cost {usage.completion_tokens:,} tokens in {usage.calls} calls and {elapsed:.1f} s."
    output.show(Text(cost, style="dim"), Rule("What next", align="left", style="dim"))
    output.show(Text(NEXT_STEPS.format(prompt=shlex.quote(graded_questions[0].question.prompt))), wrap=False)
