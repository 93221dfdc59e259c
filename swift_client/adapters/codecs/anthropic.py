"""Codec of Anthropic's Messages API: text only, one answer per request.

There are no logprobs, no ``n`` and no ``seed``; the provider table says so, so ``require_logprobs=True`` fails before
anything is sent. https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Unpack

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.assembler import Assembler
from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_counts,
    decode_error,
    decode_or_none,
    decode_or_repair,
    excerpt,
    has_value,
)
from swift_client.adapters.codecs.options import CompletionRequest, DecodeOptions
from swift_client.adapters.codecs.reply import (
    ParsedChoice,
    build_reply,
    canonical_tool_calls,
    count_cached_tokens,
    normalize_finish_reason,
    read_tool_calls,
)
from swift_client.adapters.providers.provider import Reply, Request
from swift_client.adapters.transport import error_responses
from swift_client.errors import ConfigurationError, ResponseDecodeError
from swift_client.types import Completion

__all__ = ["StreamAssembler", "parse", "parse_steps", "request"]

# OpenAI's names of fields with the same meaning.
_FIELD_ALIASES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
_SYSTEM_ROLES = ("system", "developer")


def request(call: CompletionRequest) -> Request:
    """Build the request for one answer; see ``Codec``.

    The provider's ``extra_body`` has the ``max_tokens`` that the API requires. "system" and "developer" messages become
    ``system``, and sampling fields with OpenAI's names (``stop``) are renamed. ``top_logprobs`` is ignored.

    Raises:
        ConfigurationError: ``seed`` is given, which the API does not have.
    """
    if "seed" in call.sampling:
        hint = "Leave seed= out; answers differ anyway."
        raise ConfigurationError("Anthropic's API takes no seed.", hint=hint, provider=call.provider.name)
    dialogue = [message for message in call.messages if message.get("role") not in _SYSTEM_ROLES]
    system = [message.get("content") for message in call.messages if message.get("role") in _SYSTEM_ROLES]
    body: dict[str, Any] = {"model": call.model_name, "messages": dialogue, **call.provider.extra_body}
    if system:
        texts = [content for content in system if isinstance(content, str)]
        body["system"] = "\n\n".join(texts) if len(texts) == len(system) else _to_blocks(system)
    if call.stream:
        body["stream"] = True
    return call.post("/messages", body | dict(call.rename_sampling(_FIELD_ALIASES)))


def _to_blocks(system: list[Any]) -> list[Any]:
    """Join system prompts, of which some have blocks (for ``cache_control``), to one list of blocks."""
    return [
        block
        for content in system
        for block in ([{"type": "text", "text": content}] if isinstance(content, str) else content or ())
    ]


class Block(Struct, gc=False):
    """One block of content; ``input`` is a tool call's."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    input: Any = None


class Delta(Struct, gc=False):
    """The addition of one event to a block or to the message."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; tokens read from or written to the cache are extra. Later events repeat or raise them."""

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
    """A complete message, or one event of a stream."""

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
    """A block that is still arriving."""

    def __init__(self, content_block: Block) -> None:
        self.content_block = content_block
        self.texts = [content_block.thinking or "" if content_block.type == "thinking" else content_block.text or ""]
        self.arguments: list[str] = []

    def tool_call(self) -> dict[str, Any]:
        """Return the name and the arguments of a tool call; a stream sends those as pieces of JSON."""
        return {"name": self.content_block.name, "arguments": "".join(self.arguments) or self.content_block.input}


class StreamAssembler(Assembler[Event]):
    """Decodes one message, streamed or not; arguments as for ``Assembler``."""

    decode_event = staticmethod(_EVENT_DECODER.decode)

    def __init__(self, **options: Unpack[DecodeOptions]) -> None:
        super().__init__(**options)
        self._blocks: dict[int, _BlockBuilder] = {}
        self._has_content = False
        self._stop_reason: str | None = None
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
        metadata = self._metadata
        if usage := decode_counts(event.usage, Usage):
            metadata.cached_tokens = max(metadata.cached_tokens, count_cached_tokens(event.usage))
            if usage.prompt_tokens is not None:
                metadata.prompt_tokens = usage.prompt_tokens
            if usage.output_tokens is not None:
                metadata.completion_tokens = usage.output_tokens
        metadata.model = decode_or_none(event.model, str) or metadata.model
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
            event = decode_or_repair(_EVENT_DECODER.decode, data)
        except DECODE_ERRORS as problem:
            raise decode_error(data, problem, "message") from None
        self._add(event)
        if not self._has_content:
            raise self._error or ResponseDecodeError(
                f"The reply has no content: {excerpt(data)}", hint="Check that base_url= is Anthropic's endpoint."
            )
        return (yield from self._build([], default_reason="stop"))

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._has_content:
            raise self._empty_stream_error()
        return (yield from self._build(self._notes([] if self._stop_reason else [0]), default_reason="error"))

    def _build(self, notes: list[str], *, default_reason: str) -> Generator[None, None, Reply]:
        blocks = [block for _, block in sorted(self._blocks.items())]
        # Text blocks are the answer, thinking blocks its thinking; tool calls count only without a text.
        text, thinking = (
            "".join(part for block in blocks if block.content_block.type == kind for part in block.texts)
            for kind in ("text", "thinking")
        )
        finish = normalize_finish_reason(self._stop_reason or default_reason)
        calls = [block.tool_call() for block in blocks if block.content_block.type == "tool_use"]
        if calls and not text:
            text = canonical_tool_calls(calls)
        thought = Completion(text=thinking, finish_reason=finish if finish == "length" and not text else "stop")
        completion = Completion(
            text=text,
            finish_reason=finish,
            thinking=thought if thinking else None,
            tool_calls=read_tool_calls(calls),
        )
        if self._unreadable_blocks:
            notes = [*notes, f"{self._unreadable_blocks} block(s) of the reply cannot be read and are left out."]
        yield
        return build_reply([ParsedChoice(completion=completion, index=0)], self._metadata, notes)


parse, parse_steps = StreamAssembler.parse, StreamAssembler.parse_steps
