"""Selections in the samples file of ``store=``, and the feedback on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from swift_client.display import selection_dict
from swift_client.errors import ConfigurationError
from swift_client.store import AnswerStore, ReplyStore
from swift_client.store.pending_writes import PendingWrites
from swift_client.types import Message, Selection

logger = logging.getLogger(__name__)

# Members of ``Selection.to_dict()`` that the stored samples have, or that are the caller's own.
_LEFT_OUT = ("id", "text", "parsed", "fields")


async def record_selection(
    store: ReplyStore,
    selection: Selection,
    question_id: str,
    *,
    messages: Sequence[Message],
    served_as: str | None,
    users: Sequence[bytes],
    deadline_at: float | None,
) -> Selection:
    """Store a selection, so that feedback can name it; if that fails, a note says so.

    Args:
        store: the file.
        selection: the choice, whose completions are in the file.
        question_id: the stored question.
        messages: its messages.
        served_as: name of a service's virtual model.
        users: digests of who asked, as of ``RequestKey.user_digests``.
        deadline_at: the call's deadline in the running loop's time; None without one.
    """
    completions = [candidate.completion for candidate in selection.candidates]
    write = store.save_selection(
        selection.id,
        selection_facts(selection),
        completions,
        question_id=question_id,
        prompt=_last_text(messages),
        served_as=served_as,
        users=users,
    )
    writes = PendingWrites(store.place, deadline_at=deadline_at)
    writes.add("The choice is", write)
    problems = await writes.problems()
    for problem in problems:
        logger.warning("store: %s", problem)
    return replace(selection, notes=(*selection.notes, *problems))


def selection_facts(selection: Selection) -> dict[str, Any]:
    """Return ``Selection.to_dict()`` without texts and objects."""
    facts = {name: value for name, value in selection_dict(selection).items() if name not in _LEFT_OUT}
    facts["candidates"] = [
        {name: value for name, value in row.items() if name != "text"} for row in facts["candidates"]
    ]
    return facts


def _last_text(messages: Sequence[Message]) -> str:
    """Return the text of the last message; its other parts are left out."""
    content = messages[-1].get("content") if messages else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def queue_feedback(store: AnswerStore | None, selection_id: object, correct: object) -> Future[None]:
    """Queue feedback on a selection, and return the future of its storage.

    Raises:
        ConfigurationError: there is no samples file, or an argument has the wrong type.
        UnknownSelectionError: the file does not exist.
    """
    selections = None if store is None else store.selections
    if selections is None:
        raise ConfigurationError(
            "Feedback needs a samples file, and this reranker has none.",
            hint="Pass store=, the path of one: choices are then recorded in it by their id.",
        )
    if not isinstance(selection_id, str) or not isinstance(correct, bool | None):
        raise ConfigurationError(
            "Feedback is the id of a Selection as text, and True, False or None.",
            hint="Take the id from Selection.id.",
        )
    return selections.save_feedback(selection_id, correct)
