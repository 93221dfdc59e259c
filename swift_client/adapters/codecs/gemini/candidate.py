"""Assembly of one of Google's candidates from the pieces of a stream."""

from __future__ import annotations

from typing import Any, Unpack

from swift_client.adapters.codecs.gemini.schema import BareCandidate, Candidate, Entry
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reasoning import thinking_span
from swift_client.adapters.codecs.reply import (
    ParsedChoice,
    canonical_tool_calls,
    normalize_finish_reason,
    read_tool_calls,
)
from swift_client.adapters.codecs.tokens import answer_tokens, clean_logprob_fields
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion


class CandidateBuilder:
    """A candidate that is still arriving."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._thoughts: list[str] = []
        self._chosen_entries: list[Entry] = []
        self._alternatives: list[list[Entry]] = []
        self._fault: str | None = None

    def add(self, candidate: BareCandidate, fault: str | None) -> None:
        """Append a piece."""
        self._fault = self._fault or fault
        self.finish_reason = candidate.finish_reason or self.finish_reason
        for part in candidate.content.parts or () if candidate.content else ():
            if part.text:
                (self._thoughts if part.thought else self._texts).append(part.text)
            if part.function_call:
                self._tool_calls.append(
                    {"name": part.function_call.get("name"), "arguments": part.function_call.get("args")}
                )
        result = candidate.logprobs_result if isinstance(candidate, Candidate) else None
        if result and result.chosen_candidates:
            self._chosen_entries += result.chosen_candidates
            rows = [row.candidates or [] for row in result.top_candidates or ()][: len(result.chosen_candidates)]
            # Every chosen token gets a list, if only an empty one.
            self._alternatives += rows + [[]] * (len(result.chosen_candidates) - len(rows))

    def build(self, index: int, default_reason: str, **options: Unpack[DecodeOptions]) -> ParsedChoice:
        """Return the completion; ``default_reason`` is the finish reason of one that gave none."""
        text, fault, fields = "".join(self._texts), self._fault, {}
        finish = normalize_finish_reason(self.finish_reason or default_reason)
        is_call = bool(self._tool_calls) and not text
        if is_call:
            text = canonical_tool_calls(self._tool_calls)
            finish = "tool_calls" if finish in ("stop", "unknown") else finish
        # The tokens of the answer and their arrays.
        start, tokens, mismatch = answer_tokens(
            [entry.token or "" for entry in self._chosen_entries],
            text,
            lambda: _encode_texts(self._chosen_entries),
            has_thinking=bool(self._thoughts),
            markup=is_call,
        )
        if tokens:
            try:
                fields = self._logprob_fields(slice(start, start + len(tokens)), **options)
            except UnusableLogprobs as error:
                tokens, mismatch = [], f"has no logprobs: {error}"
        thinking = self._read_thinking(start, **options)
        return ParsedChoice(
            completion=Completion(
                text=text,
                finish_reason=finish,
                tokens=tuple(tokens),
                thinking=thinking,
                tool_calls=read_tool_calls(self._tool_calls),
                **fields,
            ),
            index=index,
            n_listed_tokens=len(self._chosen_entries),
            fault=mismatch or fault,
        )

    def _logprob_fields(self, span: slice, **options: Unpack[DecodeOptions]) -> dict[str, Any]:
        """Return the arrays of the tokens in ``span``; raise UnusableLogprobs."""
        rows = self._alternatives[span]
        entries = [entry for row in rows for entry in row]
        return clean_logprob_fields(
            [entry.logprob for entry in self._chosen_entries[span]],
            [entry.logprob for entry in entries],
            [len(row) for row in rows],
            texts=lambda: [entry.token for entry in entries],
            token_bytes=lambda: [entry.token_bytes for entry in entries],
            **options,
        )

    def _read_thinking(self, answer_start: int, **options: Unpack[DecodeOptions]) -> Completion | None:
        """Return the thinking, with its tokens if they are listed before the answer's."""
        text = "".join(self._thoughts)
        if not text:
            return None
        span = thinking_span(_encode_texts(self._chosen_entries[:answer_start]), text.encode("utf-8", "replace"))
        tokens = tuple(entry.token or "" for entry in self._chosen_entries[span])
        try:
            return Completion(text=text, tokens=tokens, **self._logprob_fields(span, **options))
        except UnusableLogprobs:
            return Completion(text=text)


def _encode_texts(entries: list[Entry]) -> list[bytes]:
    return [(entry.token or "").encode("utf-8", "replace") for entry in entries]
