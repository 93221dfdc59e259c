"""A chat completion that arrives as server-sent events becomes the Reply that the same answer in one piece gives.

The events are sorted by choice and the choices written out as the JSON of an unstreamed reply; from there on it is the
same code, and so the same numbers. Entries of logprobs are passed on as they came, never decoded twice.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw

from swift_client.adapters.codecs.lenient_json import UNREADABLE, lenient
from swift_client.adapters.codecs.openai_chat.choice import thinking_text
from swift_client.adapters.codecs.openai_chat.response import error_of, read_body, read_choices
from swift_client.adapters.codecs.openai_chat.schema import Chunk, ChunkChoice, LogprobsDelta, Message, WireUsage
from swift_client.adapters.codecs.openai_chat.tokens import read_piece
from swift_client.adapters.codecs.reasoning import Unspoken
from swift_client.adapters.codecs.sse import Assembler
from swift_client.adapters.codecs.usage import cached_of
from swift_client.adapters.providers.provider import Reply
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion

_CHUNK = msgspec.json.Decoder(Chunk)
_NULL = Raw(b"null")
_PIECE = 8
"""Tokens that are decoded together while a stream is watched: one by one costs ten times as much."""


class StreamAssembler(Assembler[Chunk]):
    """Joins the events of one streamed reply, in whatever pieces the bytes arrive.

    Args:
        top_logprobs: exact number of columns; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
        echoes: whether the prompt may stand before the answer.
    """

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False, echoes: bool = False) -> None:
        super().__init__(_CHUNK.decode, top_logprobs=top_logprobs, token_ids=token_ids)
        self._options["echoes"] = echoes
        self._builders: dict[int, _Builder] = {}
        self._prompt_tokens: int | None = None
        self._counted_along: int | None = None
        self._counted_after: int | None = None
        self._cached_tokens = 0
        self._model: str | None = None

    def fresh(self) -> Completion | None:
        """Return the tokens that came since the last call, once they are worth decoding; see :class:`Assembler`."""
        if len(self._builders) != 1:
            return None
        (builder,) = self._builders.values()
        entries = builder.fresh(_PIECE)
        if not entries:
            return None
        try:
            return read_piece(entries, top_logprobs=self._options["top_logprobs"], token_ids=self._options["token_ids"])
        except (*UNREADABLE, UnusableLogprobs):  # the whole is read anew at the end, and says what is wrong
            return None

    @property
    def ended(self) -> bool:
        """Whether all choices have ended; usage may still come."""
        return all(builder.finish_reason for builder in self._builders.values())

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        return read_body(data, **self._options)

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._builders:
            raise self._nothing()
        builders = sorted(self._builders.items())
        counted = self._counted_along if self._counted_after is None else self._counted_after
        return (
            yield from read_choices(
                (builder.choice(index) for index, builder in builders),
                usage=WireUsage(self._prompt_tokens, counted),
                cached_tokens=self._cached_tokens,
                model=self._model,
                notes=self._notes([index for index, builder in builders if not builder.finish_reason]),
                **self._options,
            )
        )

    def _add(self, chunk: Chunk) -> None:
        self._model = self._model or lenient(chunk.model, str)
        if usage := lenient(chunk.usage, WireUsage):
            self._prompt_tokens = _larger(self._prompt_tokens, usage.prompt_tokens)
            self._cached_tokens = max(self._cached_tokens, cached_of(chunk.usage))
            if chunk.choices:  # grows along the stream (vLLM's continuous usage)
                self._counted_along = _larger(self._counted_along, usage.completion_tokens)
            elif usage.completion_tokens is not None:  # final; llama.cpp sends one for each choice
                self._counted_after = (self._counted_after or 0) + usage.completion_tokens
        self._error = self._error or error_of(chunk)
        for choice in chunk.choices or ():
            self._builders.setdefault(choice.index or 0, _Builder()).add(choice)


class _Builder:
    """One choice while it arrives."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._stop_reason: Any = None
        self._parts: list[Any] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._logprobs: dict[str, list[Raw]] = {}
        self._told = 0
        self._unspoken = Unspoken()

    def add(self, choice: ChunkChoice) -> None:
        """Append one chunk's part; any field may be missing, empty or repeated."""
        delta = choice.delta or Message(content=choice.text)
        self.finish_reason = self.finish_reason or choice.finish_reason or None
        self._stop_reason = choice.stop_reason if self._stop_reason is None else self._stop_reason
        content = delta.content
        self._parts += content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        self._refusal.append(delta.refusal or "")
        thinking = thinking_text(delta)
        self._reasoning.append(thinking)
        for call in delta.tool_calls or ():
            if isinstance(call, dict):
                self._add_call(call.get("index"), call.get("function"))
        self._add_call(0, delta.function_call)
        if isinstance(choice.logprobs, float):  # Together: the logprob of the one token in this delta
            token, number = Raw(msgspec.json.encode(content)), Raw(msgspec.json.encode(choice.logprobs))
            self._add_logprobs(LogprobsDelta(tokens=[token], token_logprobs=[number]))
        elif choice.logprobs:
            self._add_logprobs(choice.logprobs)
        if self._unspoken(thinking, content if isinstance(content, str) else ""):
            self._told = len(self._logprobs.get("content", ()))  # a running score is of the answer alone

    def fresh(self, least: int) -> list[Raw]:
        """Return the entries that came since the last call, where there are ``least`` or more."""
        entries = self._logprobs.get("content", [])[self._told :]
        if len(entries) < least:
            return []
        self._told += len(entries)
        return entries

    def choice(self, index: int) -> bytes:
        """Write the choice as the JSON of a reply in one piece."""
        message = {
            "content": self._parts,
            "refusal": "".join(self._refusal),
            "reasoning": "".join(self._reasoning),
            "tool_calls": [{"function": call} for _, call in sorted(self._calls.items())],
        }
        whole = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs or None,
            "finish_reason": self.finish_reason or "error",
            "stop_reason": self._stop_reason,
        }
        return msgspec.json.encode(whole)

    def _add_call(self, index: object, function: object) -> None:
        if isinstance(function, dict):
            call = self._calls.setdefault(index if isinstance(index, int) else 0, {"name": "", "arguments": ""})
            for field in call:
                call[field] += function[field] if isinstance(function.get(field), str) else ""

    def _add_logprobs(self, delta: LogprobsDelta) -> None:
        rows = delta.top_logprobs
        fields = {
            "content": delta.content,
            "refusal": delta.refusal,
            "reasoning_content": lenient(delta.reasoning_content, list[Raw]),
            "tokens": delta.tokens,
            "token_logprobs": delta.token_logprobs,
            "top_logprobs": [Raw(msgspec.json.encode(rows))] if isinstance(rows, dict) else rows,
        }
        for field, entries in fields.items():
            if entries:
                self._logprobs.setdefault(field, []).extend(entries)
        if "tokens" in self._logprobs:  # a delta without numbers must not shift the next one's
            for field in ("token_logprobs", "top_logprobs"):
                column = self._logprobs.setdefault(field, [])
                column += [_NULL] * (len(self._logprobs["tokens"]) - len(column))


def _larger(one: int | None, two: int | None) -> int | None:
    return max((count for count in (one, two) if count is not None), default=None)
