"""A message of Anthropic's API, whole or as events, becomes a Reply. Thinking blocks stand apart from the answer."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import UNREADABLE, excerpt, filled, lenient, repaired, undecodable
from swift_client.adapters.codecs.reply import ReadChoice, canonical_calls, finish_reason, joined
from swift_client.adapters.codecs.sse import Assembler
from swift_client.adapters.codecs.usage import cached_of
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


_EVENT = msgspec.json.Decoder(Event)


class _Block:
    """One block while it arrives."""

    def __init__(self, start: Block) -> None:
        self.start = start
        self.texts = [start.thinking or "" if start.type == "thinking" else start.text or ""]
        self.arguments: list[str] = []

    def call(self) -> dict[str, Any]:
        """Return a tool call's name and arguments, which a stream sends as pieces of JSON."""
        return {"name": self.start.name, "arguments": "".join(self.arguments) or self.start.input}


class StreamAssembler(Assembler[Event]):
    """Reads one message; arguments as in :class:`Assembler`."""

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False) -> None:
        super().__init__(_EVENT.decode, top_logprobs=top_logprobs, token_ids=token_ids)
        self._blocks: dict[int, _Block] = {}
        self._started = False
        self._stop_reason: str | None = None
        self._prompt_tokens: int | None = None
        self._output_tokens: int | None = None
        self._cached_tokens = 0
        self._model: str | None = None
        self._odd_blocks = 0

    def _add(self, event: Event) -> None:
        self._take(event)
        if message := lenient(event.message, Event):  # message_start
            self._take(message)
        if filled(event.content_block):
            self._start(event.index or 0, event.content_block)
        if delta := lenient(event.delta, Delta):
            self._stop_reason = delta.stop_reason or self._stop_reason
            self._extend(event.index or 0, delta)

    def _take(self, event: Event) -> None:
        if filled(event.error):
            self._error = self._error or error_responses.from_error_object(lenient(event.error, object))
        if event.content is not None:
            self._started = True
            for index, block in enumerate(event.content):
                self._start(index, block)
        if usage := lenient(event.usage, Usage):
            self._prompt_tokens = usage.prompt_tokens if usage.prompt_tokens is not None else self._prompt_tokens
            self._cached_tokens = max(self._cached_tokens, cached_of(event.usage))
            self._output_tokens = usage.output_tokens if usage.output_tokens is not None else self._output_tokens
        self._model = lenient(event.model, str) or self._model
        self._stop_reason = event.stop_reason or self._stop_reason

    def _start(self, index: int, data: Raw) -> None:
        block = lenient(data, Block)
        self._odd_blocks += block is None
        self._blocks[index] = _Block(block or Block())

    def _extend(self, index: int, delta: Delta) -> None:
        if delta.text is None and delta.partial_json is None and delta.thinking is None:
            return
        self._started = True
        block = self._blocks.setdefault(index, _Block(Block(type="text")))
        block.texts.append(delta.text or delta.thinking or "")
        block.arguments.append(delta.partial_json or "")

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            try:
                event = _EVENT.decode(data)
            except UNREADABLE:
                event = _EVENT.decode(repaired(data))
        except UNREADABLE as problem:
            raise undecodable(data, problem, "message") from None
        self._add(event)
        if not self._started:
            raise self._error or ResponseDecodeError(
                f"The reply has no content: {excerpt(data)}", hint="Check that base_url= is Anthropic's."
            )
        return (yield from self._join([], ended="unknown"))

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._started:
            raise self._nothing()
        return (yield from self._join(self._notes([] if self._stop_reason else [0]), ended="error"))

    def _join(self, notes: list[str], *, ended: str) -> Generator[None, None, Reply]:
        blocks = [block for _, block in sorted(self._blocks.items())]
        text, thinking = (
            "".join(part for block in blocks if block.start.type == kind for part in block.texts)
            for kind in ("text", "thinking")
        )
        finish = finish_reason(self._stop_reason or ended)
        calls = [block.call() for block in blocks if block.start.type == "tool_use"]
        if calls and not text:
            text = canonical_calls(calls)
        thought = Completion(text=thinking, finish_reason=finish if finish == "length" and not text else "stop")
        completion = Completion(text=text, finish_reason=finish, thinking=thought if thinking else None)
        if self._odd_blocks:
            notes = [*notes, f"{self._odd_blocks} block(s) of the reply cannot be read and are left out."]
        yield
        return joined(
            [ReadChoice(completion=completion, index=0)],
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._output_tokens,
            cached_tokens=self._cached_tokens,
            model=self._model,
            notes=notes,
        )
