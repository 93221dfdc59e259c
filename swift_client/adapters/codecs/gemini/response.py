"""A ``generateContentResponse``, whole or in a stream of several, becomes a Reply.

Logprobs cover the visible answer only. ``avgLogprobs`` is never read: it counts the hidden thinking tokens too
(recorded: -1.09 where the answer's own tokens average -0.01).
"""

from __future__ import annotations

from collections.abc import Generator

from msgspec import Raw

from swift_client.adapters.codecs.gemini.candidate import CandidateBuilder
from swift_client.adapters.codecs.gemini.schema import PIECE, Piece, Usage, pieces_of, read_candidate, salvaged_pieces
from swift_client.adapters.codecs.lenient_json import UNREADABLE, excerpt, filled, lenient
from swift_client.adapters.codecs.reply import joined
from swift_client.adapters.codecs.sse import Assembler
from swift_client.adapters.codecs.usage import cached_of
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, ResponseDecodeError


class StreamAssembler(Assembler[Piece]):
    """Joins the pieces of one reply; arguments as in :class:`Assembler`."""

    def __init__(self, *, top_logprobs: int | None = None, token_ids: bool = False) -> None:
        super().__init__(PIECE.decode, top_logprobs=top_logprobs, token_ids=token_ids)
        self._builders: dict[int, CandidateBuilder] = {}
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
            self._error = self._error or error_responses.from_error_object(lenient(piece.error, object))
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
        self._builders.setdefault(key, CandidateBuilder()).add(candidate, fault)

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


def _blocked(feedback: Raw) -> ProviderError | None:
    reason = (lenient(feedback, dict) or {}).get("blockReason")
    if not reason:
        return None
    return error_responses.from_error_object(
        {"code": "content_filter", "message": f"Google blocked the prompt: {reason}."}
    )
