"""A response of OpenAI's Responses API, whole or as events, becomes a Reply.

Its items are written out as one choice of a chat completion; from there on it is the same code, and so the same
numbers. A stream's deltas hold full floats and no bytes, the final objects bytes and floats rounded to six decimals:
the numbers of the one and the bytes of the other are taken.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec
from msgspec import Raw

from swift_client.adapters import failures
from swift_client.adapters.openai_body import read_choices
from swift_client.adapters.openai_wire import WireUsage
from swift_client.adapters.provider import Reply
from swift_client.adapters.responses_wire import EVENT, RESPONSE, Event, Item, Part, Response, Usage, mixed
from swift_client.adapters.sse import Assembler
from swift_client.adapters.tolerant import UNREADABLE, excerpt, filled, lenient, repaired, undecodable
from swift_client.errors import ResponseDecodeError


class _Deltas:
    """What a stream brought for one part."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.logprobs: list[Raw] = []


class StreamAssembler(Assembler[Event]):
    """Reads one response; arguments as in :class:`Assembler`."""

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False) -> None:
        super().__init__(EVENT, top_logprobs=top_logprobs, token_ids=token_ids)
        self._response: Response | None = None
        self._ended = False
        self._items: dict[int, Raw] = {}
        self._deltas: dict[tuple[int, int], _Deltas] = {}

    def _add(self, event: Event) -> None:
        kind = event.type or ""
        if response := lenient(event.response, Response):
            self._response = response
            self._ended |= kind in ("response.completed", "response.incomplete", "response.failed")
        if kind == "error" or filled(event.error):
            said = lenient(event.error, object) if filled(event.error) else None
            self._error = failures.from_error_object(said or {"code": event.code, "message": event.message})
        if kind == "response.output_item.done":
            self._items[event.output_index or 0] = event.item
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            deltas = self._deltas.setdefault((event.output_index or 0, event.content_index or 0), _Deltas())
            texts = deltas.refusals if kind == "response.refusal.delta" else deltas.texts
            texts.append(lenient(event.delta, str) or "")
            deltas.logprobs += event.logprobs or []

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            try:
                response = RESPONSE.decode(data)
            except UNREADABLE:
                response = RESPONSE.decode(repaired(data))
        except UNREADABLE as problem:
            raise undecodable(data, problem, "response") from None
        if not response.output and filled(response.error):
            raise failures.from_error_object(lenient(response.error, object))
        if response.output is None:
            raise ResponseDecodeError(
                f"The reply has no output: {excerpt(data)}", hint="Check that base_url= is a Responses server's."
            )
        return (yield from self._join(response, dict(enumerate(response.output)), []))

    def _finish(self) -> Generator[None, None, Reply]:
        response = self._response or Response()
        if not response.output and filled(response.error):
            self._error = self._error or failures.from_error_object(lenient(response.error, object))
        # The gateway behind OpenAI's Codex leaves the last event's output empty.
        items = dict(enumerate(response.output or ())) or self._items
        if not items and not self._deltas and (self._error or not self._ended):
            raise self._nothing()
        return (yield from self._join(response, items, self._notes([] if self._ended else [0])))

    def _join(self, response: Response, items: dict[int, Raw], notes: list[str]) -> Generator[None, None, Reply]:
        read = {at: lenient(raw, Item) for at, raw in items.items()}
        odd = sum(item is None for item in read.values())
        # A stream that broke off has deltas of items that never were done.
        unfinished = {at for at, _ in self._deltas} - set(read) if not self._ended else set()
        known = [(at, item) for at, item in read.items() if item] + [(at, Item(type="message")) for at in unfinished]
        messages = [(at, item) for at, item in sorted(known, key=lambda pair: pair[0]) if item.type == "message"]
        messages = [(at, item) for at, item in messages if item.phase != "commentary"] or messages
        parts = [part for at, item in messages for part in self._parts(at, item)]
        calls = [item for _, item in known if item.type in ("function_call", "custom_tool_call")]
        message = {
            "content": [{"type": "text", "text": part.text or ""} for part in parts],
            "refusal": "".join(part.refusal or "" for part in parts),
            "reasoning": any(item.type == "reasoning" for _, item in known),
            "tool_calls": [
                {"function": {"name": call.name, "arguments": call.input if call.arguments is None else call.arguments}}
                for call in calls
            ],
        }
        why = response.incomplete_details.reason if response.incomplete_details else None
        ended = why or response.status if self._ended or not self._events.streamed else "error"
        logprobs = {"content": [entry for part in parts for entry in part.logprobs or ()]}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": ended}
        usage = lenient(response.usage, Usage) or Usage()
        reply = yield from read_choices(
            [msgspec.json.encode(choice)],
            usage=WireUsage(usage.input_tokens, usage.output_tokens),
            model=lenient(response.model, str),
            notes=[*notes, *([f"{odd} item(s) of the output cannot be read and are left out."] if odd else [])],
            echoes=False,
            **self._options,
        )
        return reply

    def _parts(self, at: int, item: Item) -> list[Part]:
        """Return a message's parts, with the numbers of their deltas where those are whole."""
        parts = [lenient(raw, Part) or Part() for raw in item.content or ()]
        if not parts:
            pieces = [deltas for (of, _), deltas in sorted(self._deltas.items()) if of == at]
            return [Part("".join(piece.texts), "".join(piece.refusals), piece.logprobs) for piece in pieces]
        for number, part in enumerate(parts):
            deltas = self._deltas.get((at, number))
            if deltas and len(deltas.logprobs) >= len(part.logprobs or ()) and "".join(deltas.texts) == part.text:
                part.logprobs = mixed(deltas.logprobs, part.logprobs or [])
        return parts
