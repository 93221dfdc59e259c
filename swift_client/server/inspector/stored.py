"""Selections in the samples files of virtual models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from swift_client.errors import ConfigurationError
from swift_client.server.inspector.entry import Entry, PromptPart, ShownCompletion, shorten_prompt
from swift_client.server.inspector.facts import parse_facts
from swift_client.store import ReplyStore, SelectionStore, ShownSelection

logger = logging.getLogger(__name__)

MAX_STORED = 500  # selections of a file that are listed, the newest ones


def list_stored(stores: Iterable[ReplyStore], may_see: Callable[[str | None], bool]) -> tuple[list[Entry], list[str]]:
    """Read the newest selections of all files; blocks.

    Args:
        stores: the files.
        may_see: whether the selections of a virtual model may be shown; None stands for calls of the library.

    Returns:
        The entries without their completions, and a sentence for each file that cannot be read.
    """
    entries, problems = [], []
    for store in stores:
        try:
            rows = store.read(lambda file: file.shown_selections(limit=MAX_STORED)) or []
        except ConfigurationError as error:
            logger.warning("The inspector cannot read a samples file. %s", error)
            problems.append("A samples file cannot be read; the log has the reason.")
            continue
        for row in rows:
            if may_see(row.selection.served_as):
                try:
                    prompt = (PromptPart("user", row.selection.prompt),)
                    entries.append(_create_entry(row, prompt, ()))
                except ValueError:
                    problems.append(f"The selection {row.selection.id[:80]!r} in a samples file is damaged.")
    return entries, problems


def find_stored(stores: Iterable[ReplyStore], selection_id: str, may_see: Callable[[str | None], bool]) -> Entry | None:
    """Read one selection with its completions; blocks. Raises ConfigurationError for a file that cannot be read."""

    def read_entry(file: SelectionStore) -> Entry | None:
        rows = file.shown_selections(limit=1, max_text=50_000, selection_id=selection_id)
        if not rows or not may_see(rows[0].selection.served_as):
            return None
        samples = {sample.index: sample.completion for sample in file.samples(rows[0].selection.question_id)}
        completions = [
            None if number is None or number not in samples else ShownCompletion.of(samples[number])
            for number in rows[0].selection.numbers
        ]
        question = file.question(rows[0].selection.question_id)
        prompt = shorten_prompt(() if question is None else question.messages)
        try:
            return _create_entry(rows[0], prompt, completions)
        except ValueError as error:
            raise ConfigurationError(f"{file.path} has a selection that is damaged.") from error

    for store in stores:
        if entry := store.read(read_entry):
            return entry
    return None


def _create_entry(
    row: ShownSelection, prompt: tuple[PromptPart, ...], completions: Sequence[ShownCompletion | None]
) -> Entry:
    """Return an entry. Raises ValueError if its facts are damaged."""
    selection, facts = row.selection, parse_facts(row.selection.facts)
    names = (facts.provider or "?", facts.model)
    return Entry(
        id=selection.id,
        time=selection.time,
        model=selection.served_as or "/".join(name for name in names if name),
        prompt=prompt,
        facts=facts,
        text=row.text or "",
        completions=tuple(completions),
        correct=row.correct,
        is_recorded=True,
    )
