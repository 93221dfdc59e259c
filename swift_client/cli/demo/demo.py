"""``demo``: the whole road on the packaged model, with no key and no network, and honest numbers at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swift_client.cli import options, output
from swift_client.cli.demo.graded import GradedQuestion, count_correct, grade, total_usage

if TYPE_CHECKING:
    from swift_client.pocket.questions import Question


def demo(
    questions: Annotated[int, typer.Option(min=1, max=20, help="Questions to show in full.")] = 3,
    further: Annotated[int, typer.Option(min=0, max=1000, help="Further questions at most, only counted.")] = 30,
    seconds: Annotated[float, typer.Option(min=0, help="No further question is begun after so many seconds.")] = 7.0,
    n: Annotated[int, typer.Option(min=1, max=64, help="Answers a question.")] = 16,
    seed: Annotated[int, typer.Option(help="Other seeds ask other questions.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Choose answers of the packaged model: no key, no network, about ten seconds."""
    from rich.progress import track

    from swift_client.cli.demo.output import show_end, show_introduction, show_question, show_summary
    from swift_client.pocket.questions import questions as draw
    from swift_client.reranker import SwiftReranker

    start = time.perf_counter()
    drawn = draw(questions + further, seed=seed)
    asked: list[GradedQuestion] = []
    with SwiftReranker("pocket") as reranker:

        def ask(question: Question) -> GradedQuestion:
            selection = reranker.best_of(question.prompt, n, seed=seed + len(asked) * n, temperature=0.8)
            asked.append(GradedQuestion(question, selection, grade(question, selection)))
            return asked[-1]

        if not as_json:
            show_introduction(n, reranker.head)
        for number, question in enumerate(drawn[:questions], start=1):
            answered = ask(question)
            if not as_json:
                show_question(answered, f"Question {number} of {questions}")
        for question in track(drawn[questions:], "further questions", console=output.stderr_console(), transient=True):
            if time.perf_counter() - start > seconds:
                break
            ask(question)
    elapsed = time.perf_counter() - start
    if as_json:
        head = reranker.head.training if reranker.head else None
        output.print_json({"head": head, **_document(asked[:questions], asked[questions:], n, elapsed)})
        return
    show_summary(asked[questions:], n, reranker.head)
    show_end(asked, elapsed)


def _document(
    shown_questions: Sequence[GradedQuestion], further_questions: Sequence[GradedQuestion], n: int, elapsed: float
) -> dict[str, Any]:
    usage = total_usage([*shown_questions, *further_questions])
    return {
        "n": n,
        "questions": [
            {
                "family": each.question.family,
                "prompt": each.question.prompt,
                "truth": each.question.answer,
                "right": list(each.correct_flags),
                "majority": each.selection.candidates[each.majority_index].answer,
                **{f"{name}_is_right": right for name, right in each.outcomes().items()},
                "selection": each.selection.to_dict(),
            }
            for each in shown_questions
        ],
        "further": {"questions": len(further_questions), **count_correct(further_questions)},
        "usage": {"completion_tokens": usage.completion_tokens, "calls": usage.calls},
        "elapsed": elapsed,
    }
