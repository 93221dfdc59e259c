"""The part of ``best-of --questions`` that works on a cluster."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.cli.cluster.option import cluster, find_address, is_parquet
from swift_client.cli.questions.run import RunSummary
from swift_client.dataset.questions import load_questions
from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.errors import ConfigurationError
from swift_client.pricing import add_costs
from swift_client.ray.best_of import best_of_dataset
from swift_client.ray.folder import Folder
from swift_client.ray.run_folder import lock_folder
from swift_client.types import Usage

_ANSWERS = "answers"  # the folder of the answers
_BLOCK_QUESTIONS = 64  # questions of a block, which one worker gets
_MAX_ERRORS = 10  # errors that are shown


def answer_on_cluster(
    questions: Path,
    out: Path,
    *,
    address: str,
    workers: int,
    system: str | None,
    settings: Mapping[str, Any],
    as_json: bool,
) -> int:
    """Answer the questions that the folder ``out`` lacks, and return the exit code.

    Args:
        questions: a file of JSON lines, or a Parquet file or folder.
        out: the folder, or its URL.
        address: of the cluster, as of ``--ray``.
        workers: number of actors.
        system: system prompt of all questions in JSON lines.
        settings: further arguments of ``best_of_dataset()``.
        as_json: print one JSON document.

    Raises:
        ConfigurationError: a question, a setting or the folder is wrong.
        SwiftClientError: an error that every other question would meet as well.
    """
    folder = Folder(find_address(out))
    with lock_folder(folder), cluster(address) as ray:
        answered = set(_answered(folder))
        table, notes = _read_questions(ray, questions, system)
        output.warn(*notes)
        if "id" not in table.column_names:
            raise ConfigurationError(f"{questions} has no column 'id'.", hint="Give each question an id of its own.")
        ids = list(map(str, table.column("id").to_pylist()))
        if twice := next((question_id for question_id, count in Counter(ids).items() if count > 1), None):
            raise ConfigurationError(f"The id {twice!r} appears twice.", hint="Give each question its own id.")
        missing = [position for position, question_id in enumerate(ids) if question_id not in answered]
        summary = RunSummary(questions=len(ids), earlier=len(ids) - len(missing))
        errors: list[str] = []
        if missing:
            rest = table.take(missing)
            size = min(_BLOCK_QUESTIONS, math.ceil(len(rest) / workers))
            blocks = [rest.slice(start, size) for start in range(0, len(rest), size)]
            dataset = best_of_dataset(ray.data.from_arrow(blocks), workers=min(workers, len(blocks)), **settings)
            with progress.questions_bar() as update:
                for answers in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                    _store(folder, answers)
                    _count(summary, answers.to_pylist(), errors)
                    update(summary)
    if as_json:
        output.print_json({"path": str(folder), **summary.to_dict(), "errors": errors, "notes": list(notes)})
    else:
        _show(summary, folder, errors)
    return summary.exit_code


def _read_questions(ray: Any, path: Path, system: str | None) -> tuple[Any, tuple[str, ...]]:
    """Return the questions as a table of ids and messages (JSON), and notes."""
    arrow = import_pyarrow("Work on a cluster")
    if is_parquet(path):
        if system is not None:
            raise ConfigurationError("--system needs questions in JSON lines.", hint="Add it to the messages instead.")
        return arrow.concat_tables(ray.get(ray.data.read_parquet(find_address(path)).to_arrow_refs())), ()
    loaded = load_questions(path)
    messages = [list(question.messages) for question in loaded.questions]
    if system is not None:
        messages = [options.add_system_message(system, own) for own in messages]
    columns = {"id": [question.id for question in loaded.questions], "messages": list(map(json.dumps, messages))}
    return arrow.table(columns), tuple(note for note in loaded.notes if "no answer" not in note)


def _answered(folder: Folder) -> Iterator[str]:
    """Yield the questions whose answers the folder has."""
    arrow = import_pyarrow("Work on a cluster")
    for name in folder.list_files(_ANSWERS, ".parquet"):
        try:
            table = arrow.parquet.read_table(
                folder.address(name), filesystem=folder.file_system, columns=["question"], partitioning=None
            )
        except (arrow.ArrowException, OSError, KeyError) as error:
            raise ConfigurationError(
                f"{folder}/{name} is not a file of answers: {error}.", hint="Give another folder."
            ) from error
        yield from table.column("question").to_pylist()


def _store(folder: Folder, answers: Any) -> None:
    """Store the rows that are final: a question without a choice is asked again by the next run."""
    arrow = import_pyarrow("Work on a cluster")
    final = answers.filter(arrow.compute.is_valid(answers.column("id")))
    if len(final):
        sink = io.BytesIO()
        arrow.parquet.write_table(final, sink, compression="zstd")
        folder.write(f"{_ANSWERS}/part-{token_hex(8)}.parquet", sink.getbuffer())


def _count(summary: RunSummary, rows: Sequence[Mapping[str, Any]], errors: list[str]) -> None:
    for row in rows:
        if row["id"] is None:
            summary.failed += 1
            summary.stopped = "budget" if row["error_type"] == "BudgetExceededError" else summary.stopped
            if len(errors) < _MAX_ERRORS:
                errors.append(f"{row['question']}: {row['error']}")
            continue
        has_earlier = summary.answered or summary.rejected
        summary.cost = add_costs(summary.cost, row["cost"]) if has_earlier else row["cost"]
        counts = ("prompt_tokens", "completion_tokens", "calls")
        summary.usage += Usage(**{name: row[name] for name in counts})
        summary.answered += row["error"] is None
        summary.rejected += row["error"] is not None


def _show(summary: RunSummary, folder: Folder, errors: Sequence[str]) -> None:
    usage = summary.usage
    cost = "" if summary.cost is None else f", cost {summary.cost:.4g}"
    output.show(
        output.safe(
            f"{folder}: answers to {summary.questions - summary.missing:,} of {summary.questions:,} questions."
        ),
        Text(
            f"{summary.answered:,} are new: {usage.prompt_tokens:,} prompt + {usage.completion_tokens:,} completion "
            f"tokens{cost}.",
            style="dim",
        ),
    )
    messages = list(errors)
    if summary.stopped:
        messages.append("Stopped at the end of the budget.")
    if summary.missing:
        messages.append("Run the same command again to ask the missing questions.")
    output.warn(*messages)
