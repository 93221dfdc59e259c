"""Samples from replies that you have already: JSON lines of raw provider replies, or a batch job's output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from swift_client.adapters import Provider, Reply, resolve
from swift_client.adapters.codecs import detect
from swift_client.atomic_write import atomic_write
from swift_client.collect.budget import Prices
from swift_client.collect.result import CollectFailure, CollectResult
from swift_client.dataset.questions import error_at_line, read_lines, read_questions
from swift_client.errors import ConfigurationError, ProviderError, SwiftClientError
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Usage

_FORMAT_HINT = (
    'A line is {"id": "q1", "reply": {...}}, a line of a batch job\'s output ("custom_id" is the question\'s id), or a '
    "raw reply; then there are as many lines as questions, in the same order."
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
) -> CollectResult:
    """Write the new samples file ``out`` from replies; it is there whole, or not at all.

    Several lines may answer one question. A line whose reply is an error, or is not readable, costs itself alone and
    stands in the result's ``failures``.

    Args:
        questions: a questions file, or questions.
        replies: JSON lines, see ``_FORM``.
        out: must not exist.
        provider: whose they are; their wire format shows by itself.
        model: default: what the first reply says; replies of another model are refused.
        token_ids: also keep which tokens the alternatives were.
        prices: what a million tokens cost; without them every cost is None.

    Raises:
        ConfigurationError: a wrong line in either file, an unknown question, two models, or ``out`` exists.
    """
    asked = read_questions(questions) if isinstance(questions, (str, os.PathLike)) else list(questions)
    row = resolve(provider, model or "any")[0]
    lines = list(_match_replies(replies, read_lines(replies, "replies"), asked))
    read: list[tuple[str, Reply]] = []
    failures: list[CollectFailure] = []
    for number, question_id, raw in lines:
        try:
            reply = detect.parse(msgspec.json.encode(raw), token_ids=token_ids, default_codec=row.codec)
        except ProviderError as error:
            failures.append(CollectFailure(question_id=question_id, lost=1, error=error))
            continue
        model = model or reply.model
        if reply.model not in (None, model):
            wrong = ConfigurationError(
                f"a reply of {reply.model!r} among those of {model!r}.", hint="One file, one model."
            )
            raise error_at_line(replies, number, wrong)
        read.append((question_id, reply))
    if not read:
        first: SwiftClientError = (
            failures[0].error if failures else ConfigurationError(f"{replies} holds no reply.", hint=_FORMAT_HINT)
        )
        raise first
    usage = sum((replace(reply.usage, calls=1) for _, reply in read), Usage())
    listed = [completion.top_logprobs.shape[1] for _, reply in read for completion in reply.completions]
    with _open_new_store(Path(out)) as store:
        store.begin(Meta(provider=row.name, model=model, top_logprobs=max(listed, default=0), sampling={}))
        store.add_questions(asked)
        for question_id, reply in read:
            cost = prices.cost(reply.usage) if prices else None
            store.add_samples(question_id, reply.completions, usage=replace(reply.usage, calls=1), cost=cost)
    return CollectResult(
        path=str(out),
        questions=len(asked),
        added=len(listed),
        samples=len(listed),
        wanted=len(listed) + len(failures),
        requests=0,
        usage=usage,
        cost=prices.cost(usage) if prices else None,
        failures=tuple(failures),
        notes=tuple(dict.fromkeys(note for _, reply in read for note in reply.notes)),
    )


def _match_replies(
    path: str | os.PathLike[str], lines: Sequence[tuple[int, dict[str, Any]]], questions: Sequence[StoredQuestion]
) -> Iterator[tuple[int, str, Any]]:
    """Yield line number, question id and raw reply."""
    known = {question.id for question in questions}
    for place, (number, value) in enumerate(lines):
        match value:
            case {"id": str(identity), "reply": raw}:
                pass
            case {"custom_id": str(identity)} | {"key": str(identity), "response": _}:  # of a batch's output
                raw = value
            case {"choices": _} | {"candidates": _} | {"output": _} | {"content": _} | {"error": _}:
                if len(lines) != len(questions):
                    wrong = f"a raw reply names no question, and {len(lines)} lines are not {len(questions)} questions."
                    raise error_at_line(path, number, ConfigurationError(wrong, hint=_FORMAT_HINT))
                identity, raw = questions[place].id, value
            case _:
                raise error_at_line(path, number, ConfigurationError("it is no reply.", hint=_FORMAT_HINT))
        if identity not in known:
            wrong = f"there is no question {identity!r}."
            raise error_at_line(path, number, ConfigurationError(wrong, hint="Ids are those of the questions file."))
        yield number, identity, raw


@contextmanager
def _open_new_store(out: Path) -> Iterator[SampleStore]:
    """Fill a file beside ``out`` and give it that name once it is whole."""
    if out.exists():
        raise ConfigurationError(f"{out} exists already.", hint="Replies are imported into a new file; give its name.")
    with atomic_write(out) as draft:
        try:
            with SampleStore(draft, write=True) as store:
                yield store
        finally:
            draft.with_name(f"{draft.name}-wal").unlink(missing_ok=True)
