"""One candidate of Google's, put together from the pieces that arrive, becomes a completion."""

from __future__ import annotations

from typing import Any

from swift_client.adapters.codecs.gemini.schema import BareCandidate, Candidate, Entry
from swift_client.adapters.codecs.reasoning import thinking_span
from swift_client.adapters.codecs.reply import ReadChoice, canonical_calls, finish_reason
from swift_client.adapters.codecs.tokens import answer_tokens, clean_fields
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion


class CandidateBuilder:
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
