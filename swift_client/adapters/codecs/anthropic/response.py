"""A message of Anthropic's API, whole or as events, becomes a Reply. Thinking blocks stand apart from the answer."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_error,
    decode_or_none,
    excerpt,
    has_value,
    repair_json,
)
from swift_client.adapters.codecs.reply import ParsedChoice, build_reply, canonical_tool_calls, normalize_finish_reason
from swift_client.adapters.codecs.sse import Assembler
from swift_client.adapters.codecs.usage import count_cached_tokens
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ResponseDecodeError
from swift_client.types import Completion


class Block(Struct, gc=False):
    """One block of content; ``input`` is a tool call's."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    input: Any = None


class Delta(Struct, gc=False):
    """What an event adds to a block or to the message."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; what comes from or goes to the cache is counted apart. Events repeat or raise them."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cache_creation_input_tokens or 0) + (self.cache_read_input_tokens or 0)


class Event(Struct, gc=False):
    """A whole message, or one event of a stream."""

    type: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    model: Raw = Raw()
    usage: Raw = Raw()
    error: Raw = Raw()
    message: Raw = Raw()
    index: int | None = None
    content_block: Raw = Raw()
    delta: Raw = Raw()


_EVENT_DECODER = msgspec.json.Decoder(Event)


class _BlockBuilder:
    """One block while it arrives."""

    def __init__(self, content_block: Block) -> None:
        self.content_block = content_block
        self.texts = [content_block.thinking or "" if content_block.type == "thinking" else content_block.text or ""]
        self.arguments: list[str] = []

    def tool_call(self) -> dict[str, Any]:
        """Return a tool call's name and arguments, which a stream sends as pieces of JSON."""
        return {"name": self.content_block.name, "arguments": "".join(self.arguments) or self.content_block.input}


class StreamAssembler(Assembler[Event]):
    """Reads one message; arguments as in :class:`Assembler`."""

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False) -> None:
        super().__init__(_EVENT_DECODER.decode, top_logprobs=top_logprobs, token_ids=token_ids)
        self._blocks: dict[int, _BlockBuilder] = {}
        self._has_content = False
        self._stop_reason: str | None = None
        self._prompt_tokens: int | None = None
        self._output_tokens: int | None = None
        self._cached_tokens = 0
        self._model: str | None = None
        self._unreadable_blocks = 0

    def _add(self, event: Event) -> None:
        self._read_message_fields(event)
        if message := decode_or_none(event.message, Event):  # message_start
            self._read_message_fields(message)
        if has_value(event.content_block):
            self._start_block(event.index or 0, event.content_block)
        if delta := decode_or_none(event.delta, Delta):
            self._stop_reason = delta.stop_reason or self._stop_reason
            self._extend_block(event.index or 0, delta)

    def _read_message_fields(self, event: Event) -> None:
        if has_value(event.error):
            self._error = self._error or error_responses.error_from_object(decode_or_none(event.error, object))
        if event.content is not None:
            self._has_content = True
            for index, block in enumerate(event.content):
                self._start_block(index, block)
        if usage := decode_or_none(event.usage, Usage):
            self._prompt_tokens = usage.prompt_tokens if usage.prompt_tokens is not None else self._prompt_tokens
            self._cached_tokens = max(self._cached_tokens, count_cached_tokens(event.usage))
            self._output_tokens = usage.output_tokens if usage.output_tokens is not None else self._output_tokens
        self._model = decode_or_none(event.model, str) or self._model
        self._stop_reason = event.stop_reason or self._stop_reason

    def _start_block(self, index: int, data: Raw) -> None:
        block = decode_or_none(data, Block)
        self._unreadable_blocks += block is None
        self._blocks[index] = _BlockBuilder(block or Block())

    def _extend_block(self, index: int, delta: Delta) -> None:
        if delta.text is None and delta.partial_json is None and delta.thinking is None:
            return
        self._has_content = True
        block = self._blocks.setdefault(index, _BlockBuilder(Block(type="text")))
        block.texts.append(delta.text or delta.thinking or "")
        block.arguments.append(delta.partial_json or "")

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            try:
                event = _EVENT_DECODER.decode(data)
            except DECODE_ERRORS:
                event = _EVENT_DECODER.decode(repair_json(data))
        except DECODE_ERRORS as problem:
            raise decode_error(data, problem, "message") from None
        self._add(event)
        if not self._has_content:
            raise self._error or ResponseDecodeError(
                f"The reply has no content: {excerpt(data)}", hint="Check that base_url= is Anthropic's."
            )
        return (yield from self._join([], default_reason="unknown"))

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._has_content:
            raise self._empty_stream_error()
        return (yield from self._join(self._notes([] if self._stop_reason else [0]), default_reason="error"))

    def _join(self, notes: list[str], *, default_reason: str) -> Generator[None, None, Reply]:
        blocks = [block for _, block in sorted(self._blocks.items())]
        text, thinking = (
            "".join(part for block in blocks if block.content_block.type == kind for part in block.texts)
            for kind in ("text", "thinking")
        )
        finish = normalize_finish_reason(self._stop_reason or default_reason)
        calls = [block.tool_call() for block in blocks if block.content_block.type == "tool_use"]
        if calls and not text:
            text = canonical_tool_calls(calls)
        thought = Completion(text=thinking, finish_reason=finish if finish == "length" and not text else "stop")
        completion = Completion(text=text, finish_reason=finish, thinking=thought if thinking else None)
        if self._unreadable_blocks:
            notes = [*notes, f"{self._unreadable_blocks} block(s) of the reply cannot be read and are left out."]
        yield
        return build_reply(
            [ParsedChoice(completion=completion, index=0)],
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._output_tokens,
            cached_tokens=self._cached_tokens,
            model=self._model,
            notes=notes,
        )
