"""Decoding of a ``generateContentResponse``, or of a stream of several, to a Reply.

Logprobs cover the visible answer only. ``avgLogprobs`` is ignored: it includes the hidden thinking tokens (a recorded
reply has -1.09, while the answer's own tokens average -0.01).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Unpack

from msgspec import Raw

from swift_client.adapters.codecs.assembler import Assembler
from swift_client.adapters.codecs.gemini.candidate import CandidateBuilder
from swift_client.adapters.codecs.gemini.schema import (
    RESPONSE_DECODER,
    GeminiResponse,
    Usage,
    decode_responses,
    read_candidate,
    salvage_responses,
)
from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_counts, decode_or_none, excerpt, has_value
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reply import build_reply, count_cached_tokens
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, ResponseDecodeError


class StreamAssembler(Assembler[GeminiResponse]):
    """Decodes one reply, streamed or not; arguments as for ``Assembler``."""

    decode_event = staticmethod(RESPONSE_DECODER.decode)

    def __init__(self, **options: Unpack[DecodeOptions]) -> None:
        super().__init__(**options)
        self._builders: dict[int, CandidateBuilder] = {}
        self._has_metadata = False
        self._unreadable_candidates = 0

    def _add(self, event: GeminiResponse) -> None:
        self._read_metadata(event)
        for data in event.candidates or ():
            self._add_candidate(data, None)

    def _read_metadata(self, response: GeminiResponse) -> None:
        self._has_metadata |= any(
            map(has_value, (response.usage_metadata, response.model_version, response.response_id))
        )
        metadata = self._metadata
        if usage := decode_counts(response.usage_metadata, Usage):
            # Thinking is billed as output.
            metadata.completion_tokens = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            metadata.prompt_tokens = usage.prompt_token_count
        metadata.cached_tokens = max(metadata.cached_tokens, count_cached_tokens(response.usage_metadata))
        metadata.model = decode_or_none(response.model_version, str) or metadata.model
        if has_value(response.error):
            self._error = self._error or error_responses.error_from_object(decode_or_none(response.error, object))
        elif not response.candidates and has_value(response.prompt_feedback):
            self._error = self._error or _prompt_block_error(response.prompt_feedback)

    def _add_candidate(self, data: Raw, position: int | None) -> None:
        """Add a piece. In a body, ``position`` tells candidates apart that share an index."""
        try:
            candidate, fault = read_candidate(data)
        except DECODE_ERRORS:
            self._unreadable_candidates += 1
            return
        key = candidate.index or 0
        if position is not None and key in self._builders:
            key = max(self._builders) + 1
        self._builders.setdefault(key, CandidateBuilder()).add(candidate, fault)

    def _read_body(self, data: bytes) -> Generator[None, None, Reply]:
        try:
            pieces, note = decode_responses(data), None
        except DECODE_ERRORS as problem:
            pieces, note = yield from salvage_responses(data, problem)
        for piece in pieces:
            self._read_metadata(piece)
            for position, candidate in enumerate(piece.candidates or ()):
                # Several pieces are a stream: then candidates of one index belong together.
                self._add_candidate(candidate, position if len(pieces) == 1 else None)
                yield
        if self._error and not self._builders:
            raise self._error
        if not self._builders and (self._unreadable_candidates or not self._has_metadata):
            raise ResponseDecodeError(
                f"The reply has no candidates: {excerpt(data)}", hint="Check that base_url= is Google's endpoint."
            )
        return (yield from self._join([note] if note else [], default_reason="stop"))

    def _finish(self) -> Generator[None, None, Reply]:
        if not self._builders:
            raise self._empty_stream_error()
        unfinished = [index for index, builder in sorted(self._builders.items()) if not builder.finish_reason]
        return (yield from self._join(self._notes(unfinished), default_reason="error"))

    def _join(self, notes: list[str], *, default_reason: str) -> Generator[None, None, Reply]:
        choices = []
        for index, builder in sorted(self._builders.items()):
            choices.append(builder.build(index, default_reason, **self._options))
            yield
        if self._unreadable_candidates:
            n_unreadable = self._unreadable_candidates
            notes = [*notes, f"{n_unreadable} candidate(s) of the reply cannot be read and are left out."]
        # Google leaves zeros out, so 0 beside listed tokens means that the count is missing.
        if not self._metadata.completion_tokens and any(choice.n_listed_tokens for choice in choices):
            self._metadata.completion_tokens = None
        return build_reply(choices, self._metadata, notes)


def _prompt_block_error(feedback: Raw) -> ProviderError | None:
    reason = (decode_or_none(feedback, dict) or {}).get("blockReason")
    error = {"code": "content_filter", "message": f"Google blocked the prompt: {reason}."}
    return error_responses.error_from_object(error) if reason else None
