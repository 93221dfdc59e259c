"""``POST /v1/feedback``: a client says whether a chosen answer was right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from swift_client.errors import ConfigurationError, UnknownSelectionError
from swift_client.server.access.identity import Caller
from swift_client.server.config import ServerConfig
from swift_client.server.http.body import read_body
from swift_client.server.http.error_reply import HttpError
from swift_client.server.http.json_reply import JsonReply
from swift_client.server.virtual_model import ModelSet, VirtualModel
from swift_client.store import ReplyStore

logger = logging.getLogger(__name__)

_MAX_BODY_BYTES = 4096


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a request.

    Attributes:
        id: ``swift.id`` of a reply.
        correct: Whether its answer was right; None withdraws earlier feedback.
    """

    id: str
    correct: bool | None


class FeedbackEndpoint:
    """Stores feedback on the selections of the models that a caller may use."""

    def __init__(self, limits: ServerConfig) -> None:
        self._limits = limits

    async def __call__(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        """Store feedback.

        Raises:
            HttpError: 400 or 404: the body is wrong, or there is no such selection for this caller; or 503: a
                samples file cannot be used.
        """
        data = await read_body(request, max_bytes=_MAX_BODY_BYTES, timeout=self._limits.body_timeout)
        body = _parse(data)
        allowed = {name: model for name, model in models.models.items() if caller.may_use(name)}
        store = await find_store(body.id, allowed, caller)
        if store is None:
            raise HttpError(
                404, f"There is no selection {body.id[:80]!r}, or its model has no samples file (store).",
                code="selection_not_found", param="id",
            )  # fmt: skip
        await save_feedback(store, body.id, body.correct)
        return JsonReply({"id": body.id, "correct": body.correct})


async def find_store(selection_id: str, models: Mapping[str, VirtualModel], caller: Caller) -> ReplyStore | None:
    """Return the samples file of ``models`` that has a selection of one of them; None if none has it.

    Args:
        selection_id: ``Selection.id``.
        models: virtual models by name.
        caller: whose files are read; if it may use all models, selections of the library count too.

    Raises:
        HttpError: 503: a file cannot be read.
    """
    stores = {store.path: store for model in models.values() if (store := model.store(caller.tenant)) is not None}
    for store in stores.values():
        try:
            selection = await asyncio.to_thread(store.read, lambda file: file.selection(selection_id))
        except ConfigurationError as error:
            raise _unavailable(error) from error
        if selection is not None and (caller.models is None or selection.served_as in models):
            return store
    return None


async def save_feedback(store: ReplyStore, selection_id: str, correct: bool | None) -> None:
    """Store feedback. Raises HttpError: 404: the selection is gone, or 503: the file cannot be written."""
    try:
        await asyncio.wrap_future(store.save_feedback(selection_id, correct))
    except UnknownSelectionError as error:
        raise HttpError(404, "The selection is gone.", code="selection_not_found", param="id") from error
    except ConfigurationError as error:
        raise _unavailable(error) from error


def _unavailable(error: ConfigurationError) -> HttpError:
    logger.warning("A samples file cannot be used. %s", error)  # the reply must not show its path
    return HttpError(503, "The samples file cannot be used; try again later.", code="store_unavailable", retry_after=5)


def _parse(data: bytes) -> FeedbackBody:
    try:
        return msgspec.json.decode(data, type=FeedbackBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"The body is not feedback: {error}.", code="invalid_value") from error
