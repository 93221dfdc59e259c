"""A ``generateContentResponse``, whole or in a stream of several, becomes a Reply.

Logprobs cover the visible answer only. ``avgLogprobs`` is never read: it counts the hidden thinking tokens too
(recorded: -1.09 where the answer's own tokens average -0.01).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from msgspec import Raw

from swift_client.adapters import failures
from swift_client.adapters.cached import cached_of
from swift_client.adapters.choices import ReadChoice, canonical_calls, finish_reason, joined
from swift_client.adapters.gemini_wire import (
    PIECE,
    BareCandidate,
    Candidate,
    Entry,
    Piece,
    Usage,
    pieces_of,
    read_candidate,
    salvaged_pieces,
)
from swift_client.adapters.provider import Reply
from swift_client.adapters.sse import Assembler
from swift_client.adapters.thinking import thinking_span
from swift_client.adapters.tokens import answer_tokens, clean_fields
from swift_client.adapters.tolerant import (
    UNREADABLE,
    excerpt,
    filled,
    lenient,
)
from swift_client.errors import ProviderError, ResponseDecodeError
from swift_client.logprobs import UnusableLogprobs
from swift_client.types import Completion


class StreamAssembler(Assembler[Piece]):
    """Joins the pieces of one reply; arguments as in :class:`Assembler`."""

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False) -> None:
        super().__init__(PIECE.decode, top_logprobs=top_logprobs, token_ids=token_ids)
        self._builders: dict[int, _Builder] = {}
        self._usage: Usage | None = None
        self._cached_tokens = 0
        self._model: str | None = None
        self._said_something = False
        self._unreadable = 0

    def _add(self, event: Piece) -> None:
        self._take(event)
        for data in event.candidates or ():
            self._take_candidate(data, None)

    def _take(self, piece: Piece) -> None:
        self._said_something |= any(map(filled, (piece.usage_metadata, piece.model_version, piece.response_id)))
        self._usage = lenient(piece.usage_metadata, Usage) or self._usage
        self._cached_tokens = max(self._cached_tokens, cached_of(piece.usage_metadata))
        self._model = lenient(piece.model_version, str) or self._model
        if filled(piece.error):
            self._error = self._error or failures.from_error_object(lenient(piece.error, object))
        elif not piece.candidates and filled(piece.prompt_feedback):
            self._error = self._error or _blocked(piece.prompt_feedback)

    def _take_candidate(self, data: Raw, position: int | None) -> None:
        """Read one; in a reply in one piece, candidates that share an index are told by their position."""
        try:
            candidate, fault = read_candidate(data)
        except UNREADABLE:
            self._unreadable += 1
            return
        key = candidate.index or 0
        if position is not None and key in self._builders:
            key = max(self._builders) + 1
        self._builders.setdefault(key, _Builder()).add(candidate, fault)

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            pieces, note = pieces_of(data), None
        except UNREADABLE as problem:
            pieces, note = yield from salvaged_pieces(data, problem)
        for piece in pieces:
            self._take(piece)
            for position, candidate in enumerate(piece.candidates or ()):
                self._take_candidate(candidate, position if len(pieces) == 1 else None)
                yield
        if self._error and not self._builders:
            raise self._error
        if not self._builders and (self._unreadable or not self._said_something):
            raise ResponseDecodeError(
                f"The reply has no candidates: {excerpt(data)}", hint="Check that base_url= is Google's."
            )
        return (yield from self._join([note] if note else [], ended="unknown"))

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._builders:
            raise self._nothing()
        unended = [index for index, builder in sorted(self._builders.items()) if not builder.finish_reason]
        return (yield from self._join(self._notes(unended), ended="error"))

    def _join(self, notes: list[str], *, ended: str) -> Generator[None, None, Reply]:
        read = []
        for index, builder in sorted(self._builders.items()):
            read.append(builder.read(index, ended, **self._options))
            yield
        if self._unreadable:
            notes = [*notes, f"{self._unreadable} candidate(s) of the reply cannot be read and are left out."]
        usage = self._usage or Usage()
        # Thinking is paid for as output. What is zero is not written.
        output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        counted = None if self._usage is None or (not output and any(item.listed_tokens for item in read)) else output
        return joined(
            read,
            prompt_tokens=usage.prompt_token_count,
            cached_tokens=self._cached_tokens,
            completion_tokens=counted,
            model=self._model,
            notes=notes,
        )


class _Builder:
    """One candidate while it arrives."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._thoughts: list[str] = []
        self._chosen: list[Entry] = []
        self._rows: list[list[Entry]] = []
        self._fault: str | None = None

    def add(self, candidate: BareCandidate, fault: str | None) -> None:
        """Append a piece."""
        self._fault = self._fault or fault
        self.finish_reason = candidate.finish_reason or self.finish_reason
        for part in candidate.content.parts or () if candidate.content else ():
            if part.text:
                (self._thoughts if part.thought else self._texts).append(part.text)
            if part.function_call:
                self._calls.append(
                    {"name": part.function_call.get("name"), "arguments": part.function_call.get("args")}
                )
        result = candidate.logprobs_result if isinstance(candidate, Candidate) else None
        if result and result.chosen_candidates:
            self._chosen += result.chosen_candidates
            rows = [row.candidates or [] for row in result.top_candidates or ()][: len(result.chosen_candidates)]
            self._rows += rows + [[]] * (len(result.chosen_candidates) - len(rows))

    def read(self, index: int, ended: str, *, top_logprobs: int | None, token_ids: bool) -> ReadChoice:
        """Return the completion; ``ended`` is the reason of one that gave none."""
        text, fault, fields = "".join(self._texts), self._fault, {}
        finish = finish_reason(self.finish_reason or ended)
        calls = bool(self._calls) and not text
        if calls:
            text = canonical_calls(self._calls)
            finish = "tool_calls" if finish in ("stop", "unknown") else finish
        start, tokens, misfit = answer_tokens(
            [entry.token or "" for entry in self._chosen],
            text,
            lambda: [(entry.token or "").encode("utf-8", "replace") for entry in self._chosen],
            thought=bool(self._thoughts),
            markup=calls,
        )
        options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids}
        if tokens:
            try:
                fields = self._numbers(slice(start, start + len(tokens)), **options)
            except UnusableLogprobs as why:
                tokens, misfit = [], f"has no logprobs: {why}"
        thinking = self._thinking(start, **options)
        return ReadChoice(
            completion=Completion(text=text, finish_reason=finish, tokens=tuple(tokens), thinking=thinking, **fields),
            index=index,
            listed_tokens=len(self._chosen),
            fault=misfit or fault,
        )

    def _numbers(self, span: slice, *, top_logprobs: int | None, token_ids: bool) -> dict[str, Any]:
        """Return the arrays of the tokens in ``span``; raise UnusableLogprobs."""
        rows = self._rows[span]
        entries = [entry for row in rows for entry in row]
        return clean_fields(
            [entry.number for entry in self._chosen[span]],
            [entry.number for entry in entries],
            [len(row) for row in rows],
            texts=lambda: [entry.token for entry in entries],
            spellings=lambda: [entry.spelled for entry in entries],
            top_logprobs=top_logprobs,
            token_ids=token_ids,
        )

    def _thinking(self, answer: int, **options: Any) -> Completion | None:
        """Return the thinking, with its tokens where those are listed before the answer's."""
        text = "".join(self._thoughts)
        if not text:
            return None
        spelled = [(entry.token or "").encode("utf-8", "replace") for entry in self._chosen[:answer]]
        span = thinking_span(spelled, text.encode("utf-8", "replace"))
        tokens = tuple(entry.token or "" for entry in self._chosen[span])
        try:
            return Completion(text=text, tokens=tokens, **self._numbers(span, **options))
        except UnusableLogprobs:
            return Completion(text=text)


def _blocked(feedback: Raw) -> ProviderError | None:
    reason = (lenient(feedback, dict) or {}).get("blockReason")
    if not reason:
        return None
    return failures.from_error_object({"code": "content_filter", "message": f"Google blocked the prompt: {reason}."})
