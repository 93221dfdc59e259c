"""Text output of ``demo``, written for someone who is new to swift-client."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.rule import Rule
from rich.text import Text

from swift_client.cli import output
from swift_client.display import escape_unsafe, selection_table

if TYPE_CHECKING:
    from swift_client.models import AnyHead
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

DIFFERENT = "The vote and the majority choose differently here, for the first time in {asked}."

NEVER_DIFFERENT = """\
The vote and the majority chose the same answer in {asked}. A longer run may find a question on which they differ: \
`swift-client demo --seconds 120 --further 200`."""


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


def show_difference(graded: GradedQuestion | None, asked: int) -> None:
    """Print the votes of the first question on which vote and majority differ, None if there was none."""
    count = f"{asked} question{'s' * (asked != 1)}"
    if graded is None:
        output.show(Text(NEVER_DIFFERENT.format(asked=count), style="yellow"), "")
        return
    output.show(Text(DIFFERENT.format(asked=count), style="bold"))
    total = sum(candidate.weight for candidate in graded.selection.candidates) or 1.0
    for index in (graded.selection.winner, graded.majority_index):
        votes, weight = graded.votes(index)
        line = Text("  ").append(*_mark_answer(graded, index))
        output.show(line.append(f"   {votes} vote{'s' * (votes != 1)}, {weight / total:.0%} of the weight"))
    if graded.votes(graded.selection.winner)[0] == graded.votes(graded.majority_index)[0]:
        output.show(Text("  Both have equally many votes; a majority then takes the one that came first.", style="dim"))
    output.show("")


def show_stored() -> None:
    """Print the stored comparisons, on hundreds of questions each."""
    from swift_client.cli.demo.stored import read_results, render

    output.show(Rule("Does it help? Stored results", align="left", style="dim"))
    for comparison in read_results():
        output.show(*render(comparison))


def show_end(model: str, graded_questions: Sequence[GradedQuestion], elapsed: float) -> None:
    """Print the cost and the next commands to try."""
    usage = total_usage(graded_questions)
    requests = f"{usage.calls} request{'s' * (usage.calls != 1)}"
    cost = f"In total: {usage.completion_tokens:,} tokens, {requests}, {elapsed:.1f} s."
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

    @property
    def differs(self) -> bool:
        """True if the vote and the majority choose different answers."""
        return self.majority_index not in self._equal_indices(self.selection.winner)

    def votes(self, index: int) -> tuple[int, float]:
        """Return the number and the weight of the votes for the answer of a candidate."""
        weights = [self.selection.candidates[i].weight for i in self._equal_indices(index)]
        return sum(weight > 0 for weight in weights), sum(weights)

    def _equal_indices(self, index: int) -> list[int]:
        answers = [candidate.answer for candidate in self.selection.candidates]
        return [i for i, answer in enumerate(answers) if answer == answers[index]]

    def outcomes(self) -> dict[str, bool]:
        """Return for each way to choose an answer if it is correct here."""
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
