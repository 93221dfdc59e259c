"""The routes of the inspector: who may see it, its pages, feedback and files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.report.charts.chart import load_style
from swift_client.server.access.identity import Caller, caller_of_key, check_host_header
from swift_client.server.config import ServerConfig
from swift_client.server.feedback_endpoint import find_store, save_feedback
from swift_client.server.http.body import read_body
from swift_client.server.http.error_reply import HttpError
from swift_client.server.inspector.entry import Entry
from swift_client.server.inspector.listing import ListQuery, find_page, merge, with_feedback
from swift_client.server.inspector.pages import Pages
from swift_client.server.inspector.ring import SelectionRing
from swift_client.server.inspector.session import COOKIE, SECONDS, Sessions
from swift_client.server.inspector.stored import find_stored, list_stored
from swift_client.server.observability.record import RequestRecord
from swift_client.server.virtual_model import ModelSet
from swift_client.store import ReplyStore

logger = logging.getLogger(__name__)

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer, browsers would send forms without their origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_MAX_FORM_BYTES = 4096
_FILES = {"inspector.css": "text/css", "inspector.js": "text/javascript", "icon.svg": "image/svg+xml"}
_CORRECT: Mapping[str, bool | None] = {"right": True, "wrong": False, "none": None}

Handler = Callable[[Request, Caller, ModelSet], Awaitable[Response]]


class ServiceState(Protocol):
    """The parts of a running service that the inspector uses."""

    models: ModelSet

    @property
    def limits(self) -> ServerConfig:
        """The table ``[server]``."""


class Inspector:
    """Serves the pages below ``/ui``.

    Args:
        service: the service.

    Attributes:
        ring: Its last selections, a listener to its requests.
    """

    def __init__(self, service: ServiceState) -> None:
        self._service, self.ring = service, SelectionRing()
        self._root = f"{service.limits.path_prefix}/ui"
        self._pages, self._sessions = Pages(self._root), Sessions()
        folder = resources.files("swift_client.server.inspector").joinpath("static")
        self._files = {name: (folder.joinpath(name).read_bytes(), kind) for name, kind in _FILES.items()}
        self._files["report.css"] = (load_style().encode(), "text/css")

    def routes(self) -> list[Route]:
        """Return the routes."""
        root = self._root
        return [
            Route(root, self._guard(self._redirect_to_list, is_open=True), methods=["GET"]),
            Route(f"{root}/", self._guard(self._show_list), methods=["GET"]),
            Route(f"{root}/selections/{{id}}", self._guard(self._show_selection), methods=["GET"]),
            Route(f"{root}/feedback", self._guard(self._take_feedback), methods=["POST"]),
            Route(f"{root}/login", self._guard(self._log_in, is_open=True), methods=["POST"]),
            Route(f"{root}/logout", self._guard(self._log_out, is_open=True), methods=["POST"]),
            Route(f"{root}/static/{{name}}", self._guard(self._show_file, is_open=True), methods=["GET"]),
        ]

    # --- who may see it

    def _guard(self, handler: Handler, *, is_open: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler for callers with a session, or for all if ``is_open``; errors become pages."""

        async def endpoint(request: Request) -> Response:
            models = self._service.models
            record: RequestRecord = request.scope["state"]["record"]
            try:
                caller = self._identify(request, models)
                if caller is not None:
                    record.key = caller.name
                elif not is_open:
                    return self._html(self._pages.login(self._form_token(request)), 401)
                return await handler(request, caller or Caller(name=None, bearer="", models=()), models)
            except ClientDisconnect:
                return Response(status_code=499)
            except HttpError as error:
                record.error = error
                return self._html(self._pages.message("That did not work", error.message), error.status)
            except SwiftClientError as error:
                record.error = error
                logger.warning("The inspector failed. %s", error)  # its message may have the path of a file
                text = "A samples file cannot be read; the log of the service has the reason."
                return self._html(self._pages.message("That did not work", text), 500)

        return endpoint

    def _identify(self, request: Request, models: ModelSet) -> Caller | None:
        """Return the caller of a session, or of a service without keys, which is on loopback; else None."""
        config = models.config
        # Pages that may call the API from another origin (cors_origins) must not read the inspector.
        if request.headers.get("origin") in self._service.limits.cors_origins:
            raise HttpError(403, "The inspector is not for other origins.", code="foreign_origin")
        if not config.keys:
            check_host_header(request.headers.get("host", ""), self._service.limits.host)
            return Caller(name=None, bearer="")
        name = self._sessions.check(request.cookies.get(COOKIE, ""), config.keys)
        return None if name is None else caller_of_key(name, config)

    async def _log_in(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        form = await self._read_form(request)
        name = await asyncio.to_thread(models.keys.verify, form.get("key", "").strip())
        keys = models.config.keys
        if name is None or not keys[name].ui:
            problem = "That key is not valid." if name is None else "That key may not open the inspector."
            return self._html(self._pages.login(self._form_token(request), problem=problem), 403)
        response = _redirect(f"{self._root}/")
        response.set_cookie(
            COOKIE, self._sessions.create(name, keys), max_age=SECONDS, path=self._root, httponly=True,
            samesite="strict", secure=self._service.limits.tls_certificate is not None,
        )  # fmt: skip
        return response

    async def _log_out(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        await self._read_form(request)
        response = _redirect(f"{self._root}/")
        response.delete_cookie(COOKIE, path=self._root, httponly=True, samesite="strict")
        return response

    async def _read_form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form of ours. Raises HttpError for a forged, late or damaged one."""
        media_type, timeout = "application/x-www-form-urlencoded", self._service.limits.body_timeout
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HttpError(403, "The form was sent by another site.", code="forged_form")
        data = await read_body(request, max_bytes=_MAX_FORM_BYTES, timeout=timeout, media_type=media_type)
        try:
            form = dict(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=8))
        except ValueError as error:
            raise HttpError(400, "The form is damaged.", code="invalid_value") from error
        if not self._sessions.check_form_token(form.get("token", ""), request.cookies.get(COOKIE, "")):
            raise HttpError(403, "The form is too old: go back, reload the page and try again.", code="forged_form")
        return form

    def _form_token(self, request: Request) -> str:
        return self._sessions.form_token(request.cookies.get(COOKIE, ""))

    # --- pages

    async def _redirect_to_list(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        return _redirect(f"{self._root}/")

    async def _show_list(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        query = ListQuery.parse(request.query_params)
        recent = [entry for entry in self.ring.entries() if _may_see_recent(entry, caller, models)]

        def render() -> str:
            stored, problems = list_stored(_stores(caller, models), _may_see(caller))
            page = find_page(merge(recent, stored), query)
            return self._pages.selections(page, query, problems, **self._viewer(request, caller))

        return self._html(await asyncio.to_thread(render))

    async def _show_selection(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        entry = await self._find(request.path_params["id"], caller, models)
        viewer = self._viewer(request, caller)
        return self._html(await asyncio.to_thread(lambda: self._pages.selection(entry, **viewer)))

    async def _find(self, selection_id: str, caller: Caller, models: ModelSet) -> Entry:
        """Return an entry that the caller may see. Raises HttpError with status 404 for any other."""
        recent = self.ring.find(selection_id)
        if recent is not None and not _may_see_recent(recent, caller, models):
            recent = None
        try:
            stored = await asyncio.to_thread(find_stored, _stores(caller, models), selection_id, _may_see(caller))
        except ConfigurationError:
            if recent is None:
                raise
            stored = None
        entry = stored if recent is None else with_feedback(recent, stored)
        if entry is None:
            raise HttpError(404, "There is no such selection, or it is no longer kept.", code="selection_not_found")
        return entry

    async def _take_feedback(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        form = await self._read_form(request)
        entry = await self._find(form.get("id", ""), caller, models)
        if form.get("correct") not in _CORRECT:
            raise HttpError(400, "The form is damaged.", code="invalid_value")
        allowed = {name: model for name, model in models.models.items() if caller.may_use(name)}
        store = await find_store(entry.id, allowed, caller)
        if store is None:
            raise HttpError(404, "The model of this selection has no samples file (store).", code="no_store")
        await save_feedback(store, entry.id, _CORRECT[form["correct"]])
        return _redirect(f"{self._root}/selections/{entry.id}#feedback")

    async def _show_file(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HttpError(404, "There is no such file.", code="not_found")
        data, kind = file
        return Response(data, media_type=kind, headers={**_HEADERS, "cache-control": "max-age=300"})

    def _viewer(self, request: Request, caller: Caller) -> dict[str, str | None]:
        return {"viewer": caller.name, "form_token": self._form_token(request)}

    def _html(self, document: str, status: int = 200) -> Response:
        return Response(document.encode("utf-8", "replace"), status, _HEADERS, "text/html")


def _stores(caller: Caller, models: ModelSet) -> list[ReplyStore]:
    """Return each samples file of the models that the caller may use once."""
    stores = [model.store(caller.tenant) for name, model in models.models.items() if caller.may_use(name)]
    return list({store.path: store for store in stores if store is not None}.values())


def _may_see(caller: Caller) -> Callable[[str | None], bool]:
    return lambda served_as: caller.models is None or (served_as is not None and served_as in caller.models)


def _may_see_recent(entry: Entry, caller: Caller, models: ModelSet) -> bool:
    model = models.models.get(entry.model)
    if not caller.may_use(entry.model) or model is None or not model.is_per_tenant:
        return caller.may_use(entry.model)
    key = None if entry.key is None else models.config.keys.get(entry.key)
    return key is not None and (key.tenant or entry.key) == caller.tenant


def _redirect(path: str) -> Response:
    # The path alone: an address with a host would name the one that the client sent.
    return Response(status_code=303, headers={**_HEADERS, "location": path})
