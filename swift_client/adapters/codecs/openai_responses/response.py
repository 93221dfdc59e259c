"""Decoding of a response of OpenAI's Responses API, streamed or not, to a Reply.

Its items are encoded as one choice of a chat completion; the rest is the same code, and so the same numbers. A stream's
deltas have full floats and no bytes, the final objects bytes and floats rounded to six decimals: the floats of the
deltas and the bytes of the final objects are used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Unpack

import msgspec
from msgspec import Raw

from swift_client.adapters.codecs.assembler import Assembler
from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_counts,
    decode_error,
    decode_or_none,
    excerpt,
    has_value,
)
from swift_client.adapters.codecs.openai_chat.response import read_choices
from swift_client.adapters.codecs.openai_responses.schema import (
    Event,
    Item,
    Part,
    Response,
    UndecodedEvent,
    Usage,
    add_bytes,
    decode_event,
    decode_response,
)
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reply import ReplyMetadata, count_cached_tokens
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ResponseDecodeError


class _Deltas:
    """The deltas of one part of a message."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.logprobs: list[Raw] = []
        self.has_all_logprobs = True  # every text came with its logprobs

    def to_part(self) -> Part:
        """Join the deltas to a part."""
        logprobs = Raw(msgspec.json.encode(self.logprobs))
        return Part("".join(self.texts), "".join(self.refusals), logprobs)


class StreamAssembler(Assembler[Event]):
    """Decodes one response, streamed or not; arguments as for ``Assembler``."""

    decode_event = staticmethod(decode_event)

    def __init__(self, **options: Unpack[DecodeOptions]) -> None:
        super().__init__(**options)
        self._response: Response[Item] = Response()
        self._finished = False
        self._item_events: list[Event] = []
        self._unreadable_items = 0
        self._deltas: dict[tuple[int, int], _Deltas] = {}

    def _add(self, event: Event) -> None:
        kind = event.type or ""
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            deltas = self._deltas.setdefault((event.output_index or 0, event.content_index or 0), _Deltas())
            text = event.delta if isinstance(event.delta, str) else ""
            (deltas.refusals if kind == "response.refusal.delta" else deltas.texts).append(text)
            deltas.logprobs += event.logprobs or ()
            deltas.has_all_logprobs &= bool(event.logprobs) or not text
            return
        # The first and the last event contain the response.
        if has_value(event.response):
            with suppress(*DECODE_ERRORS):
                self._response, self._unreadable_items = decode_response(event.response)
                self._finished |= kind in ("response.completed", "response.incomplete", "response.failed")
        if kind == "error" or has_value(event.error):
            error = decode_or_none(event.error, object) if has_value(event.error) else None
            self._error = error_responses.error_from_object(error or {"code": event.code, "message": event.message})
        if isinstance(event, UndecodedEvent) or kind == "response.output_item.done":
            self._item_events.append(event)

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            response, self._unreadable_items = decode_response(data)
        except DECODE_ERRORS as problem:
            raise decode_error(data, problem, "response") from None
        if not response.output and has_value(response.error):
            raise error_responses.error_from_object(decode_or_none(response.error, object))
        if response.output is None:
            raise ResponseDecodeError(
                f"The reply has no output: {excerpt(data)}", hint="Check that base_url= is a Responses endpoint."
            )
        self._response, self._finished = response, True
        return (yield from self._build(dict(enumerate(response.output)), []))

    def _finish(self) -> Generator[None, None, Reply]:
        output, error = self._response.output, self._response.error
        if not output and has_value(error):
            self._error = self._error or error_responses.error_from_object(decode_or_none(error, object))
        if output:
            items = dict(enumerate(output))
        else:  # the stream broke off, or comes from OpenAI's Codex gateway, whose last event has no output
            done = [event.decode() if isinstance(event, UndecodedEvent) else event for event in self._item_events]
            items = {event.output_index or 0: decode_or_none(event.item, Item) or Item() for event in done}
        if not items and not self._deltas and (self._error or not self._finished):
            raise self._empty_stream_error()
        if not self._finished:
            for output_index, _ in self._deltas:
                items.setdefault(output_index, Item(type="message"))
        return (yield from self._build(items, self._notes([] if self._finished else [0])))

    def _build(self, items: dict[int, Item], notes: list[str]) -> Generator[None, None, Reply]:
        """Encode the items as one choice of a chat completion, and decode that."""
        response = self._response
        # Comments on the model's work are not the answer, unless there is nothing else.
        messages = [(index, item) for index, item in sorted(items.items()) if item.type == "message"]
        messages = [(index, item) for index, item in messages if item.phase != "commentary"] or messages
        parts = [part for index, item in messages for part in self._message_parts(index, item)]
        calls = [item for item in items.values() if item.type in ("function_call", "custom_tool_call")]
        message = {
            "content": [{"type": "text", "text": part.text or ""} for part in parts],
            "refusal": "".join(part.refusal or "" for part in parts),
            "reasoning": _read_reasoning(item for _, item in sorted(items.items()) if item.type == "reasoning"),
            "tool_calls": [
                {"function": {"name": call.name, "arguments": call.input if call.arguments is None else call.arguments}}
                for call in calls
            ],
        }
        reason = response.incomplete_details.reason if response.incomplete_details else None
        has_answer = calls or any(part.text or part.refusal for part in parts)
        if response.status == "completed" and message["reasoning"] and not has_answer:
            reason = "max_output_tokens"  # llama.cpp and Ollama report "completed" if reasoning uses up the budget
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": _concat_lists([part.logprobs for part in parts if has_value(part.logprobs)])},
            "finish_reason": (reason or response.status) if self._finished else "error",
        }
        usage = decode_counts(response.usage, Usage) or Usage()
        if self._unreadable_items:
            notes = [*notes, f"{self._unreadable_items} item(s) of the output cannot be read and are left out."]
        metadata = ReplyMetadata(
            model=decode_or_none(response.model, str),
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            cached_tokens=count_cached_tokens(response.usage),
        )
        # OpenAI rounds (logits to eighths, final objects to six decimals), so equal logprobs are common.
        data = [msgspec.json.encode(choice)]
        return (yield from read_choices(data, metadata, notes=notes, has_ties=True, **self._options))

    def _message_parts(self, output_index: int, item: Item) -> list[Part]:
        """Return the parts of a message, with the logprobs of their deltas if those are complete."""
        if not item.content:
            return [deltas.to_part() for (index, _), deltas in sorted(self._deltas.items()) if index == output_index]
        for number, part in enumerate(item.content):
            deltas = self._deltas.get((output_index, number))
            if deltas and deltas.logprobs and deltas.has_all_logprobs and "".join(deltas.texts) == part.text:
                part.logprobs = add_bytes(deltas.logprobs, part.logprobs)
        return item.content


def _read_reasoning(items: Iterable[Item]) -> str | bool:
    """Return the thinking or its summary; if both are hidden, whether there was any."""
    has_reasoning, texts = False, []
    for item in items:
        has_reasoning = True
        parts = item.content or decode_or_none(item.summary, list[Part]) or []
        texts += [part.text for part in parts if part.text]
    return "\n\n".join(texts) or has_reasoning


def _concat_lists(lists: list[Raw]) -> Raw | list[Raw]:
    if len(lists) == 1:
        return lists[0]
    return [entry for part in lists for entry in decode_or_none(part, list[Raw]) or ()]
