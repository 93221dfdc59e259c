"""Samples from replies that already exist: JSON lines of raw provider replies, or a batch's output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from swift_client.adapters import Provider, Reply, resolve
from swift_client.adapters.codecs import detect
from swift_client.collect.logs.completions import parse_label
from swift_client.collect.logs.problems import Problems
from swift_client.collect.result import CollectFailure, CollectResult, grade_by_answer
from swift_client.collect.setup import Prices
from swift_client.dataset.questions import error_at_line, parse_text, read_lines, read_questions
from swift_client.errors import ConfigurationError, ProviderError, SwiftClientError
from swift_client.reranker.config import Redact, resolve_policy
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.store.atomic_write import atomic_write
from swift_client.types import Usage

if TYPE_CHECKING:
    from swift_client.redaction.policy import StoragePolicy

_FORMAT_HINT = (
    'A line is {"id": "q1", "reply": {...}, "label": 1}, a line of a batch job\'s output ("custom_id" is the id of the '
    "question), or a raw reply; then there are as many lines as questions, in the same order."
)


def import_replies(
    questions: str | os.PathLike[str] | Sequence[StoredQuestion],
    replies: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    provider: str | Provider = "openai",
    model: str | None = None,
    token_ids: bool = True,
    prices: Prices | None = None,
    redact: Redact = None,
    keep: Literal["all", "arrays"] = "all",
) -> CollectResult:
    """Write replies to the new samples file ``out``, completely or not at all.

    Several lines may answer one question. Lines with an error or an unreadable reply are skipped, and listed in the
    result's ``failures``. Labels are stored: ``"label"`` is 0 or 1, or a list of these, one per completion.

    Args:
        questions: a questions file, or questions.
        replies: JSON lines: ``{"id": question id, "reply": {...}, "label"?}``, lines of a batch's output, or raw
            replies in the order of the questions.
        out: must not exist.
        provider: the provider of the replies; their wire format is detected.
        model: default: the model of the first reply; replies of other models are refused.
        token_ids: also store the identities of the alternatives.
        prices: prices per million tokens; without them every cost is None.
        redact: as for ``collect``; so is keep.
        keep: "arrays" stores no text.

    Raises:
        ConfigurationError: a wrong line in either file, an unknown question, two models, or ``out`` exists.
    """
    question_list = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    row = resolve(provider, model or "any")[0]
    lines = list(_match_replies(replies, read_lines(replies, "replies"), question_list))
    # Decode every reply, and check that all are of one model.
    decoded: list[tuple[str, Reply, list[float | None]]] = []
    failures: list[CollectFailure] = []
    problems = Problems()
    for line_number, question_id, raw, given_labels in lines:
        try:
            reply = detect.parse(msgspec.json.encode(raw), token_ids=token_ids, default_codec=row.codec)
        except ProviderError as error:
            failures.append(CollectFailure(question_id=question_id, lost=1, error=error))
            continue
        model = model or reply.model
        if reply.model not in (None, model):
            mixed = ConfigurationError(
                f"a reply of {reply.model!r} among those of {model!r}.", hint="One file holds one model."
            )
            raise error_at_line(replies, line_number, mixed)
        labels = _parse_labels(given_labels, len(reply.completions), line_number, problems)
        decoded.append((question_id, replace(reply, usage=replace(reply.usage, calls=1)), labels))
    if not decoded:
        raise failures[0].error if failures else ConfigurationError(f"{replies} holds no reply.", hint=_FORMAT_HINT)
    # Write the file.
    usage = sum((reply.usage for _, reply, _ in decoded), Usage())
    widths = [completion.top_logprobs.shape[1] for _, reply, _ in decoded for completion in reply.completions]
    with open_new_store(Path(out), resolve_policy(redact, keep, "auto")) as store:
        store.begin(Meta(provider=row.name, model=model, top_logprobs=max(widths, default=0), sampling={}))
        store.add_questions(question_list)
        reference_answers = {question.id: question.answer for question in question_list}
        known_labels: dict[tuple[str, int], float | None] = {}
        for question_id, reply, labels in decoded:
            cost = prices.cost(reply.usage) if prices else None
            grade = partial(grade_by_answer, reference_answers.get(question_id))
            indices = store.add_samples(question_id, reply.completions, usage=reply.usage, cost=cost, grade=grade)
            known_labels |= {(question_id, index): label for index, label in zip(indices, labels, strict=True)}
        store.set_labels({key: label for key, label in known_labels.items() if label is not None})
    return CollectResult(
        path=str(out),
        questions=len(question_list),
        added=len(widths),
        samples=len(widths),
        wanted=len(widths) + len(failures),
        requests=0,
        usage=usage,
        cost=prices.cost(usage) if prices else None,
        failures=tuple(failures),
        notes=(*problems.notes(), *dict.fromkeys(note for _, reply, _ in decoded for note in reply.notes)),
    )


def _parse_labels(given: Any, count: int, line: int, problems: Problems) -> list[float | None]:
    """Return the labels of a reply's completions, None where unknown; wrong ones are counted in ``problems``."""
    labels = given if isinstance(given, list) else [given]
    if given is None:
        return [None] * count
    if len(labels) != count:
        problems.add("line", '"label" is not one per completion; dropped', line)
        return [None] * count
    return [parse_label(label, line, problems) for label in labels]


def _match_replies(
    path: str | os.PathLike[str], lines: Sequence[tuple[int, dict[str, Any]]], questions: Sequence[StoredQuestion]
) -> Iterator[tuple[int, str, Any, Any]]:
    """Yield the line number, question id, raw reply and labels of each line."""
    question_ids = {question.id for question in questions}

    def invalid_line(line_number: int, message: str, hint: str = _FORMAT_HINT) -> SwiftClientError:
        return error_at_line(path, line_number, ConfigurationError(message, hint=hint))

    for position, (line_number, value) in enumerate(lines):
        match value:
            case {"id": str() | int() as given_id, "reply": raw}:
                pass
            # Of a batch's output.
            case {"custom_id": str() | int() as given_id} | {"key": str() | int() as given_id, "response": _}:
                raw = value
            case {"choices": _} | {"candidates": _} | {"output": _} | {"content": _} | {"error": _}:
                if len(lines) != len(questions):
                    count = f"{len(lines)} lines are not {len(questions)} questions."
                    raise invalid_line(line_number, f"a raw reply names no question, and {count}")
                given_id, raw = questions[position].id, value
            case _:
                raise invalid_line(line_number, "it is not a reply.")
        question_id = str(parse_text("id", given_id))
        if question_id not in question_ids:
            hint = "Ids are those of the questions file."
            raise invalid_line(line_number, f"there is no question {question_id!r}.", hint)
        yield line_number, question_id, raw, value.get("label", value.get("labels"))


@contextmanager
def open_new_store(out: Path, policy: StoragePolicy | None = None) -> Iterator[SampleStore]:
    """Open a new samples file beside ``out``, and give it that name once it is complete."""
    if out.exists():
        raise ConfigurationError(f"{out} exists already.", hint="Give the name of a new file.")
    with atomic_write(out) as draft:
        try:
            with SampleStore(draft, write=True, policy=policy) as store:
                store.postpone_sync()  # atomic_write() syncs the complete draft
                yield store
        finally:
            draft.with_name(f"{draft.name}-wal").unlink(missing_ok=True)
