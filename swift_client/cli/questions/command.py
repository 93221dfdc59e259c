"""The part of ``best-of`` that answers a file of questions, and prints what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from swift_client.cli import output, progress
from swift_client.cli.command_words import CommandWords, option_flags
from swift_client.cli.questions.answers_file import open_answers
from swift_client.cli.questions.run import QuestionsRun, RunSummary, check_questions
from swift_client.reranker import SwiftReranker

_STOP_MESSAGES = {
    "budget": "Stopped at the end of the budget.",
    "failures": "Stopped, because one question after another failed.",
}


def answer_questions(
    reranker: SwiftReranker,
    questions: Path,
    out: Path,
    n: int,
    *,
    system: str | None,
    as_json: bool,
    settings: dict[str, Any],
) -> int:
    """Answer the questions that ``out`` lacks, and return the exit code; arguments as of ``best-of``.

    Raises:
        ConfigurationError: a question, a setting or the file of answers is wrong, or cannot be written.
        SwiftClientError: an error that every other question would meet as well.
    """
    config = reranker.pipeline.config
    context = output.current_context()
    words = CommandWords(option_flags(context.command.params if context else ()))
    with open_answers(out, provider=config.provider.name, model=config.model) as answers:
        check = check_questions(questions, answers.ids, system=system)
        output.warn(*check.notes)  # now, not at the end: nothing is paid for yet
        answers.begin()
        run = QuestionsRun(questions, answers, check=check, words=words, system=system)
        with progress.questions_bar() as update:
            summary = run.run(reranker, n, update, **settings)
    if as_json:
        output.print_json({"path": str(out), **summary.to_dict(), "notes": list(check.notes)})
    else:
        _show(summary, out)
    return summary.exit_code


def _show(summary: RunSummary, out: Path) -> None:
    usage = summary.usage
    n_answers = summary.questions - summary.missing
    cost = "" if summary.cost is None else f", cost {summary.cost:.4g}"
    rejected = f", {summary.rejected:,} not accepted" if summary.rejected else ""
    output.show(
        output.safe(f"{out}: answers to {n_answers:,} of {summary.questions:,} questions."),
        Text(
            f"{summary.answered:,} are new{rejected}: {usage.prompt_tokens:,} prompt + {usage.completion_tokens:,} "
            f"completion tokens{cost}.",
            style="dim",
        ),
    )
    messages = []
    if summary.failed:
        messages.append(f"{summary.failed:,} failed; their lines in {out} say why.")
    if summary.stopped:
        messages.append(_STOP_MESSAGES[summary.stopped])
    if summary.missing:
        messages.append("Run the same command again to ask the missing questions.")
    output.warn(*messages)
