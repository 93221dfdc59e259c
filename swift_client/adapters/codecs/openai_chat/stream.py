"""Decoding of a streamed chat completion, with the same result as the unstreamed reply.

Events are collected per choice, and each choice is encoded as the JSON of an unstreamed reply; the rest is the same
code, and so the same numbers. Entries of logprobs are passed on as raw JSON, never decoded twice.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Unpack

import msgspec
from msgspec import Raw

from swift_client.adapters.codecs.assembler import Assembler
from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_counts,
    decode_leniently,
    decode_or_none,
    dump_json,
    has_value,
    nonsense_note,
)
from swift_client.adapters.codecs.openai_chat.choice import thinking_text
from swift_client.adapters.codecs.openai_chat.response import extract_error, read_body, read_choices
from swift_client.adapters.codecs.openai_chat.schema import (
    Chunk,
    ChunkChoice,
    LogprobsDelta,
    Message,
    WireUsage,
    drop_misfits,
)
from swift_client.adapters.codecs.openai_chat.tokens import read_partial_choice
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reasoning import ReasoningFilter
from swift_client.adapters.codecs.reply import count_cached_tokens, is_wire_index
from swift_client.adapters.providers.provider import Reply
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion

_CHUNK_DECODER = msgspec.json.Decoder(Chunk)
_NULL = Raw(b"null")
_IMPOSSIBLE_INDEX = 10_000  # stands for an index that no choice can have
_SLOT_STRIDE = 100_000
_MIN_NEW_TOKENS = 8  # decoded together while a stream is monitored: one by one costs ten times as much


def _decode_chunk(data: bytes | memoryview) -> Chunk:
    """Decode an event; values of wrong types are dropped. Raises one of DECODE_ERRORS."""
    try:
        return _CHUNK_DECODER.decode(data)
    except msgspec.ValidationError:
        event = decode_leniently(bytes(data).decode("utf-8", "replace"))
        if not isinstance(event, dict) or not isinstance(event.get("choices"), list):
            raise
        choices = [drop_misfits(choice) for choice in event["choices"] if isinstance(choice, dict)]
        for choice in choices:
            if isinstance(choice, dict) and decode_or_none(dump_json(choice), ChunkChoice) is None:
                choice["logprobs"] = None
        return _CHUNK_DECODER.decode(dump_json({**event, "choices": choices}))


class StreamAssembler(Assembler[Chunk]):
    """Decodes one reply, streamed or not; arguments as for ``Assembler``."""

    decode_event = staticmethod(_decode_chunk)
    echo = False  # whether the prompt may precede the answer

    def __init__(self, **options: Unpack[DecodeOptions]) -> None:
        super().__init__(**options)
        self._builders: dict[int, _ChoiceBuilder] = {}
        self._final_completion_tokens: int | None = None
        self._usage_note: str | None = None
        self._current: dict[int, _ChoiceBuilder] = {}  # the choice that each index stands for now
        self._arrivals: list[ChunkChoice] | None = []
        self._last_text_slot: int | None = None

    @classmethod
    def parse_steps(cls, data: bytes, **options: Unpack[DecodeOptions]) -> Generator[None, None, Reply]:
        """Decode a complete reply step by step; a JSON document needs no assembler."""
        if data.startswith(b"{"):
            return read_body(data, echo=cls.echo, **options)
        return super().parse_steps(data, **options)

    def take_new_tokens(self) -> Completion | None:
        """Return the tokens that arrived since the last call, once there are enough; see ``Assembler``."""
        if len(self._builders) != 1:
            return None
        (builder,) = self._builders.values()
        entries = builder.take_new_entries(_MIN_NEW_TOKENS)
        if not entries:
            return None
        try:
            return read_partial_choice(entries, **self._options)
        except (*DECODE_ERRORS, UnusableLogprobs):  # the complete choice is decoded at the end and reports the fault
            return None

    @property
    def finished(self) -> bool:
        """True if all choices have ended; usage may still arrive."""
        return all(builder.finish_reason for builder in self._builders.values())

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        return read_body(data, echo=self.echo, **self._options)

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._builders:
            raise self._empty_stream_error()
        self._join_counted_chunks()
        builders = sorted(self._builders.items())
        if self._final_completion_tokens is not None:
            self._metadata.completion_tokens = self._final_completion_tokens
        choices = (builder.to_choice_json(index) for index, builder in builders)
        notes = self._notes([index for index, builder in builders if not builder.finish_reason])
        notes += [self._usage_note] if self._usage_note else []
        return (yield from read_choices(choices, self._metadata, notes=notes, echo=self.echo, **self._options))

    def _add(self, chunk: Chunk) -> None:
        metadata = self._metadata
        metadata.model = metadata.model or decode_or_none(chunk.model, str)
        if metadata.system_fingerprint is None:
            metadata.system_fingerprint = decode_or_none(chunk.system_fingerprint, str)
        if usage := decode_counts(chunk.usage, WireUsage):
            self._usage_note = self._usage_note or nonsense_note(chunk.usage)
            metadata.prompt_tokens = _larger(metadata.prompt_tokens, usage.prompt_tokens)
            metadata.cached_tokens = max(metadata.cached_tokens, count_cached_tokens(chunk.usage))
            if chunk.choices:  # grows along the stream (vLLM's continuous usage)
                metadata.completion_tokens = _larger(metadata.completion_tokens, usage.completion_tokens)
            elif usage.completion_tokens is not None:  # final; llama.cpp sends one per choice
                self._final_completion_tokens = (self._final_completion_tokens or 0) + usage.completion_tokens
        self._error = self._error or extract_error(chunk)
        seen: list[int] = []
        for choice in chunk.choices or ():
            slot = 0 if choice.index is None else choice.index if is_wire_index(choice.index) else _IMPOSSIBLE_INDEX
            self._record_arrival(slot, choice)
            slot += _SLOT_STRIDE * seen.count(slot)  # two choices of one chunk are two, whatever their index
            seen.append(slot)
            self._builder_of(slot, choice).add(choice)

    def _builder_of(self, slot: int, choice: ChunkChoice) -> _ChoiceBuilder:
        """Return the builder of an index; a text after the end of a choice starts another one."""
        builder = self._current.get(slot)
        if builder is None or (builder.ended and _has_text(choice)):
            key = slot if builder is None else max(self._builders) + _SLOT_STRIDE
            builder = self._builders[key] = self._current[slot] = _ChoiceBuilder()
        return builder

    def _record_arrival(self, slot: int, choice: ChunkChoice) -> None:
        """Keep the pieces as long as every text has the next higher index: the server may count its chunks."""
        if self._arrivals is None:
            return
        self._arrivals.append(choice)
        if _has_text(choice):
            is_next = self._last_text_slot is None or slot == self._last_text_slot + 1
            self._last_text_slot = slot
            self._arrivals = self._arrivals if is_next else None

    def _join_counted_chunks(self) -> None:
        """Join the pieces of a single choice whose index counted up; of several choices, each would have ended."""
        n_ended = sum(bool(builder.finish_reason) for builder in self._builders.values())
        if not self._arrivals or n_ended != 1 or self._error or not self._arrivals[-1].finish_reason:
            return
        # Without a [DONE], the stream of two choices may have been cut.
        if len(self._builders) > (1 if self._events.is_done else 2):
            builder = _ChoiceBuilder()
            for choice in self._arrivals:
                builder.add(choice)
            self._builders = {0: builder}


class _ChoiceBuilder:
    """A choice that is still arriving."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.ended = False  # a chunk after its first text ended it; some servers repeat the reason in every chunk
        self._has_text = self._ended_at_once = False
        self._stop_reason: Any = None
        self._error = _NULL
        self._content_parts: list[Any] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, dict[str, str]] = {}
        self._logprobs: dict[str, list[Raw]] = {}
        self._n_taken = 0
        self._reasoning_filter = ReasoningFilter()

    def add(self, choice: ChunkChoice) -> None:
        """Append the choice's part of one chunk; any field may be missing, empty or repeated."""
        delta = choice.delta or Message(content=choice.text)
        # An error after the end of a choice is one of the stream: the choice is complete, and paid for.
        if has_value(choice.error) and self._error is _NULL and not self.finish_reason:
            self._error = choice.error
        self.finish_reason = self.finish_reason or choice.finish_reason or None
        if choice.finish_reason:
            self.ended = self._has_text and (self.ended or not self._ended_at_once)
            self._ended_at_once = self._ended_at_once or not self._has_text
        self._has_text = self._has_text or _has_text(choice)
        self._stop_reason = choice.stop_reason if self._stop_reason is None else self._stop_reason
        content = delta.content
        self._content_parts += content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        self._refusal.append(delta.refusal or "")
        thinking = thinking_text(delta)
        self._reasoning.append(thinking)
        # Tool calls arrive as pieces of their names and arguments.
        for call in delta.tool_calls or ():
            if isinstance(call, dict):
                self._add_call(call.get("index"), call.get("function"))
        self._add_call(0, delta.function_call)
        # Logprobs stay raw JSON until the choice is complete.
        if isinstance(choice.logprobs, float):  # Together: the logprob of the one token in this delta
            token, number = Raw(msgspec.json.encode(content)), Raw(msgspec.json.encode(choice.logprobs))
            self._add_logprobs(LogprobsDelta(tokens=[token], token_logprobs=[number]))
        elif choice.logprobs:
            self._add_logprobs(choice.logprobs)
        if self._reasoning_filter(thinking, content if isinstance(content, str) else ""):
            self._n_taken = len(self._logprobs.get("content", ()))  # a running score covers the answer only

    def take_new_entries(self, minimum: int) -> list[Raw]:
        """Return the entries that arrived since the last call; none if there are fewer than ``minimum``."""
        entries = self._logprobs.get("content", [])[self._n_taken :]
        if len(entries) < minimum:
            return []
        self._n_taken += len(entries)
        return entries

    def to_choice_json(self, index: int) -> bytes:
        """Encode the choice as the JSON of an unstreamed reply."""
        message = {
            "content": self._content_parts,
            "refusal": "".join(self._refusal),
            "reasoning": "".join(self._reasoning),
            "tool_calls": [{"function": call} for _, call in sorted(self._tool_calls.items())],
        }
        choice = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs or None,
            "finish_reason": self.finish_reason or "error",
            "stop_reason": self._stop_reason,
            "error": self._error,
        }
        return msgspec.json.encode(choice)

    def _add_call(self, index: object, function: object) -> None:
        if isinstance(function, dict):
            call = self._tool_calls.setdefault(index if isinstance(index, int) else 0, {"name": "", "arguments": ""})
            for field in call:
                call[field] += function[field] if isinstance(function.get(field), str) else ""

    def _add_logprobs(self, delta: LogprobsDelta) -> None:
        fields = msgspec.structs.asdict(delta)
        fields["reasoning_content"] = decode_or_none(delta.reasoning_content, list[Raw])
        if isinstance(delta.top_logprobs, dict):  # of a single token
            fields["top_logprobs"] = [Raw(msgspec.json.encode(delta.top_logprobs))]
        for field, entries in fields.items():
            if entries:
                self._logprobs.setdefault(field, []).extend(entries)
        if "tokens" in self._logprobs:  # a delta without logprobs must not shift those of the next
            for field in ("token_logprobs", "top_logprobs"):
                column = self._logprobs.setdefault(field, [])
                column += [_NULL] * (len(self._logprobs["tokens"]) - len(column))


def _has_text(choice: ChunkChoice) -> bool:
    return bool(choice.delta.content if choice.delta else choice.text)


def _larger(first: int | None, second: int | None) -> int | None:
    return max((count for count in (first, second) if count is not None), default=None)
