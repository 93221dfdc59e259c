"""Text output of ``demo``, written for someone who is new to swift-client."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from swift_client.cli import output
from swift_client.display import escape_unsafe, selection_table

if TYPE_CHECKING:
    from swift_client.models import AnyHead
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swift_client.pocket.questions import Question
    from swift_client.types import Selection, Usage

MAX_CANDIDATES = 6  # candidates shown per question; the winner is always among them

INTRODUCTION = """\
{model} It runs now on a local llama.cpp server. It is often wrong, so each question is asked {n} times and the best \
answer is chosen (►). Equal answers are counted together as votes, and {weight}. ✓ and ✗ show which answers are \
correct; the choice is made without knowing this."""

MODELS = {
    "pocket": "swift-client comes with a very small language model.",
    "smollm2": "SmolLM2-135M-Instruct is a real language model of 98 MB. "
    "It sees three or four solved examples before a question.",
}

WITH_HEAD = "each vote is weighted by a small trained scorer (head), which reads the log-probability of every token"

WITHOUT_HEAD = "each vote is weighted by the model's confidence in its tokens"

NEXT_STEPS = """\
Ask the question again yourself:
    swift-client best-of {prompt} --provider {provider}

Ask a more capable model:
    export OPENAI_API_KEY=...
    swift-client best-of "What is 17 * 24? End with: The answer is N." --provider openai --n 8

The same in Python:
    from swift_client import SwiftReranker
    with SwiftReranker("openai") as reranker:
        print(reranker.best_of("What is 17 * 24? End with: The answer is N.", n=8).text)"""


NO_FURTHER_QUESTIONS = """\
There was no time for further questions. To compare the choice with a majority vote, run \
`swift-client demo --seconds 120`."""


def show_introduction(model: str, n: int, head: AnyHead | None) -> None:
    """Print an explanation of the demo."""
    weight = WITH_HEAD if head and head.beats_majority else WITHOUT_HEAD
    output.show(Text(INTRODUCTION.format(model=MODELS[model], n=n, weight=weight)), "")


def show_question(graded: GradedQuestion, title: str) -> None:
    """Print one question, its candidates and the choice."""
    selection, flags = graded.selection, graded.correct_flags
    table = selection_table(selection, correct_by_index=dict(enumerate(flags)), max_rows=MAX_CANDIDATES)
    verdict = Text("chosen ").append(*_mark_answer(graded, selection.winner))
    verdict.append("   most frequent ").append(*_mark_answer(graded, graded.majority_index))
    verdict.append(f"   correct answer {graded.question.answer}   correct: {sum(flags)} of {len(flags)}")
    output.show(
        Rule(f"{title} · {graded.question.family}", align="left", style="dim"),
        output.safe(graded.question.prompt),
        "",
        table,
        verdict,
        "",
    )


def _mark_answer(graded: GradedQuestion, index: int) -> tuple[str, str]:
    answer = graded.selection.candidates[index].answer
    text = "no answer found" if answer is None else escape_unsafe(answer)
    return (f"✓ {text}", "green") if graded.correct_flags[index] else (f"✗ {text}", "red")


def show_summary(graded_questions: Sequence[GradedQuestion], n: int, head: AnyHead | None) -> None:
    """Compare the choice with its alternatives over the further questions, if there was time for any."""
    total = len(graded_questions)
    if not total:
        output.show(Text(NO_FURTHER_QUESTIONS, style="dim"), "")
        return
    labels = {
        "first": "a single answer",
        "majority": f"most frequent of {n}",
        "chosen": "vote weighted by the head" if head and head.beats_majority else "swift-client's choice",
        "any": f"at least one of {n} correct",
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, count in count_correct(graded_questions).items():
        filled = round(30 * count / total)
        style = "bold green" if name == "chosen" else "dim" if name == "any" else ""
        bar = "█" * filled + "░" * (30 - filled)
        table.add_row(labels[name], bar, f"{count} of {total}", f"{count / total:.0%}", style=style)
    standard_error = 100 * math.sqrt(0.25 / total)
    output.show(
        Rule(f"{total} further questions: how often is the answer correct?", align="left", style="dim"),
        table,
        Text(f"Standard error with {total} questions: about {standard_error:.0f} points per line.", style="dim"),
        Text(_head_note(head), style="dim"),
        "",
    )


def _head_note(head: AnyHead | None) -> str:
    from swift_client.models.artifact import describe_verdict  # it imports numpy

    if head is None:
        return "There is no head for this model: the model's confidence weighs the votes."
    if not head.beats_majority:
        return f"The head for this model {describe_verdict(head.training)}, so it is not used."
    questions = head.training.get("questions", {}).get("train")
    note = f"The head was trained on {questions or 'some'} other questions, with `swift-client train`."
    return f"{note} It {describe_verdict(head.training)}." if "comparison" in head.training else note


def show_end(model: str, graded_questions: Sequence[GradedQuestion], elapsed: float) -> None:
    """Print the cost and the next commands to try."""
    usage = total_usage(graded_questions)
    cost = f"In total: {usage.completion_tokens:,} tokens, {usage.calls} requests, {elapsed:.1f} s."
    output.show(Text(cost, style="dim"), Rule("Next steps", align="left", style="dim"))
    prompt = shlex.quote(graded_questions[0].question.prompt)
    provider = model if model == "pocket" else f"{model} --max-tokens 16"
    output.show(Text(NEXT_STEPS.format(prompt=prompt, provider=provider)), wrap=False)


@dataclass(frozen=True)
class GradedQuestion:
    """One question, its selection, and which candidates are correct."""

    question: Question
    selection: Selection
    correct_flags: tuple[bool, ...]  # (N,) by candidate index

    @property
    def majority_index(self) -> int:
        """Index of the first candidate with the most frequent answer: a plain vote, without scores."""
        votes = Counter(candidate.answer for candidate in self.selection.candidates if candidate.weight > 0)
        if not votes:
            return 0
        frequent = votes.most_common(1)[0][0]
        return next(i for i, candidate in enumerate(self.selection.candidates) if candidate.answer == frequent)

    def outcomes(self) -> dict[str, bool]:
        """Return for each way to choose an answer whether it is correct here."""
        return {
            "first": self.correct_flags[0],
            "majority": self.correct_flags[self.majority_index],
            "chosen": self.correct_flags[self.selection.winner],
            "any": any(self.correct_flags),
        }


def grade(question: Question, selection: Selection) -> tuple[bool, ...]:
    """Return for each candidate whether its answer equals the correct one."""
    from swift_client.answers import read

    texts = [candidate.answer or "" for candidate in selection.candidates]
    *groups, truth = read([*texts, question.answer], "text").groups
    return tuple(group is not None and group == truth for group in groups)


def total_usage(graded_questions: Sequence[GradedQuestion]) -> Usage:
    """Return the sum of the usage of all questions."""
    from swift_client.types import Usage

    return sum((graded.selection.usage for graded in graded_questions), start=Usage())


def count_correct(graded_questions: Sequence[GradedQuestion]) -> dict[str, int]:
    """Count for each way to choose an answer how often it is correct."""
    outcomes = [graded.outcomes() for graded in graded_questions]
    return {name: sum(outcome[name] for outcome in outcomes) for name in ("first", "majority", "chosen", "any")}
