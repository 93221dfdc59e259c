"""One choice of a chat completion becomes a Completion: its text, why it ended, and its clean arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Literal

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from swift_client.adapters.choices import ReadChoice, canonical_calls, finish_reason
from swift_client.adapters.openai_wire import (
    Alternative,
    Choice,
    Message,
    SpelledAlternative,
    TextAlternative,
    TextChoice,
    Token,
)
from swift_client.adapters.thinking import split_thinking, thinking_span
from swift_client.adapters.tokens import answer_tokens, clean_fields
from swift_client.adapters.tolerant import UNREADABLE, filled, lenient, repaired
from swift_client.logprobs import UnusableLogprobs
from swift_client.types import Completion, FinishReason

_NUMBERS = msgspec.json.Decoder(Choice[Alternative])
_TEXTS = msgspec.json.Decoder(Choice[TextAlternative])
_SPELLINGS = msgspec.json.Decoder(Choice[SpelledAlternative])
_NO_LOGPROBS = msgspec.json.Decoder(TextChoice)
_BYTE_VALUES = msgspec.json.Decoder(list[int])
_ESCAPED = re.compile(rb"bytes:(?:\\x[0-9a-f]{2})+")

Source = Literal["content", "refusal", "calls"]
"""The field that a completion's text comes from."""
Again = Callable[[Decoder[Any]], list[Token[Any]]]
"""Decodes the tokens anew, and more of them."""


def read_choice(
    data: Raw | bytes, *, with_texts: bool, top_logprobs: int | None, token_ids: bool, prompt_tokens: int = 0
) -> ReadChoice:
    """Decode one choice.

    Args:
        data: the choice's JSON.
        with_texts: whether to decode the texts of listed tokens at once, which saves a second look where numbers tie.
        top_logprobs: exact number of columns; None means the longest list.
        token_ids: whether to fill in ``top_ids``.
        prompt_tokens: tokens of the prompt, which ``echo`` puts before the answer; 0 where no codec asks for that.

    Raises:
        ValueError, RecursionError: it is no choice.
    """
    fault = None
    choice: TextChoice
    decoder = _TEXTS if with_texts else _NUMBERS
    try:
        choice = decoder.decode(data)
    except UNREADABLE:
        data = repaired(data)
        try:
            choice = decoder.decode(data)
        except UNREADABLE:
            choice = _NO_LOGPROBS.decode(data)
            fault = "has no logprobs: the server's are of an unknown shape"
    message = choice.message or Message(content=choice.text)
    text, source, thinking = _visible_text(message)
    finish = _finish(choice.finish_reason, source)
    tokens = _listed(choice, source)
    if tokens and tokens[0].logprob is None and 0 < prompt_tokens < len(tokens):  # nothing comes before the first token
        text, skipped = _without_prompt(text, tokens, prompt_tokens)
    else:
        skipped = 0
    tokens = tokens[skipped : len(tokens) - _ends_with_numbered_end(tokens, choice)]
    start, texts, misfit = answer_tokens(
        [token.token or "" for token in tokens],
        text,
        lambda: _spellings(tokens),
        thought=bool(thinking) or filled(message.reasoning) or filled(message.reasoning_content),
        markup=source == "calls",
    )
    options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids}

    def again(decoder: Decoder[Any]) -> list[Token[Any]]:
        return _listed(decoder.decode(data), source)[skipped:]

    fields: dict[str, Any] = {}
    tied = False
    if texts:
        try:
            fields, tied = _numbers(tokens, slice(start, start + len(texts)), again, **options)
        except UnusableLogprobs as why:
            texts, misfit = [], f"has no logprobs: {why}"
    completion = Completion(text=text, finish_reason=finish, tokens=tuple(texts), **fields)
    if thinking:
        before = tokens[:start] if texts else [] if text else tokens
        if apart := _listed(choice, "thinking"):
            before, again = apart, lambda decoder: _listed(decoder.decode(data), "thinking")
        thought = replace(_thinking(thinking, before, again, options), finish_reason="stop" if text else finish)
        completion = replace(completion, thinking=thought)
    return ReadChoice(
        completion=completion, index=choice.index, listed_tokens=len(tokens), tied=tied, fault=misfit or fault
    )


def read_piece(entries: Sequence[Raw], *, top_logprobs: int | None, token_ids: bool) -> Completion:
    """Decode some tokens of a choice that still arrives: their arrays, without a text.

    Raises:
        ValueError, RecursionError, UnusableLogprobs: they are no tokens.
    """
    data = msgspec.json.encode({"logprobs": {"content": entries}})
    tokens = _listed(_TEXTS.decode(data), "content")
    fields, _ = _numbers(
        tokens,
        slice(None),
        lambda decoder: _listed(decoder.decode(data), "content"),
        top_logprobs=top_logprobs,
        token_ids=token_ids,
    )
    return Completion(text="", tokens=tuple(token.token or "" for token in tokens), **fields)


def thinking_text(message: Message) -> str:
    """Return what a reasoning parser took out of the answer; servers call it by one of two names, or by both."""
    return lenient(message.reasoning, str) or lenient(message.reasoning_content, str) or ""


def _numbers(
    tokens: list[Token[Any]], span: slice, again: Again, *, top_logprobs: int | None, token_ids: bool
) -> tuple[dict[str, Any], bool]:
    """Return the arrays of ``tokens[span]``, and whether texts were needed; raise UnusableLogprobs."""
    spoken = tokens[span]
    listed = _Listed(
        spoken, lambda decoder: [entry for token in again(decoder)[span] for entry in token.top_logprobs or ()]
    )
    fields = clean_fields(
        [token.logprob for token in spoken],
        [entry.logprob for entry in listed.entries],
        [len(token.top_logprobs or ()) for token in spoken],
        texts=listed.texts,
        spellings=listed.spellings,
        top_logprobs=top_logprobs,
        token_ids=token_ids,
    )
    return fields, listed.tied


def _thinking(text: str, tokens: list[Token[Any]], again: Again, options: dict[str, Any]) -> Completion:
    """Read the thinking among the tokens before the answer."""
    pieces = _spellings(tokens)
    span = thinking_span(pieces, text.encode("utf-8", "replace"))
    try:
        fields, _ = _numbers(tokens, span, again, **options)
    except UnusableLogprobs:
        return Completion(text=text)
    return Completion(text=text, tokens=tuple(piece.decode("utf-8", "replace") for piece in pieces[span]), **fields)


def _visible_text(message: Message) -> tuple[str, Source, str]:
    """Return what a person would read, which field it comes from, and what was thought before."""
    thinking = thinking_text(message)
    if message.refusal:
        return message.refusal, "refusal", thinking
    content = message.content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        refusals = "".join(str(part["refusal"]) for part in parts if isinstance(part.get("refusal"), str))
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
        if refusals and not content:
            return refusals, "refusal", thinking
    if content:
        inline, answer = split_thinking(content)
        return answer, "content", thinking or inline
    functions = [call.get("function") for call in message.tool_calls or () if isinstance(call, dict)]
    calls = [call for call in (*functions, message.function_call) if isinstance(call, dict)]
    return (canonical_calls(calls), "calls", thinking) if calls else ("", "content", thinking)


def _finish(reason: str | None, source: Source) -> FinishReason:
    if source == "refusal":
        return "refusal"
    finish = finish_reason(reason)
    # With a forced tool OpenAI ends with "stop" although a call is all there is.
    return "tool_calls" if source == "calls" and finish in ("stop", "unknown") else finish


def _listed(choice: TextChoice, source: Source | Literal["thinking"]) -> list[Token[Any]]:
    """Return the tokens of either shape."""
    wire = choice.logprobs if isinstance(choice, Choice) else None
    if wire is None:
        return []
    if source == "thinking":
        return wire.reasoning_content or []
    if wire.tokens is None:
        return (wire.refusal if source == "refusal" else wire.content) or []
    rows = wire.top_logprobs or []
    if isinstance(rows, dict):  # Together's types say so; it can only mean the one token
        rows = [rows]
    count = len(wire.tokens)
    columns = zip_longest(wire.tokens, (wire.token_logprobs or [])[:count], rows[:count])
    return [Token(token, number, top_logprobs=_alternatives(row)) for token, number, row in columns]


def _alternatives(row: dict[str, float | None] | list[Any] | None) -> list[Any] | None:
    return [SpelledAlternative(number, token) for token, number in row.items()] if isinstance(row, dict) else row


def _without_prompt(text: str, tokens: list[Token[Any]], count: int) -> tuple[str, int]:
    """Return the answer without the prompt that ``echo`` put before it, and how many tokens the prompt has.

    A prompt that its tokens do not spell stays where it is, and so do its tokens.
    """
    prompt = b"".join(_spellings(tokens[:count]))
    whole = text.encode("utf-8", "replace")
    return (whole[len(prompt) :].decode("utf-8", "replace"), count) if whole.startswith(prompt) else (text, 0)


def _ends_with_numbered_end(tokens: list[Token[Any]], choice: TextChoice) -> bool:
    """Whether the last token is an end-of-turn token that only its number stands for.

    That is vLLM with ``return_tokens_as_token_ids``; its ``stop_reason`` is a text where a stop word ended the answer,
    and null or a number where a token did, which is then listed.
    """
    numbered = bool(tokens) and (tokens[-1].token or "").startswith("token_id:")
    return numbered and choice.finish_reason == "stop" and not isinstance(choice.stop_reason, str)


class _Listed:
    """The listed tokens of one completion, with a second look at the wire where their numbers do not do."""

    def __init__(self, tokens: list[Token[Any]], look_again: Callable[[Decoder[Any]], list[Any]]) -> None:
        self.entries = [entry for token in tokens for entry in token.top_logprobs or ()]
        self.tied = False
        self._look_again = look_again
        self._texts: list[str | None] = []
        self._spelled: list[bytes] = []

    def texts(self) -> list[str | None]:
        """Return each entry's text, which only ties ask for."""
        self.tied = True
        if not self._texts:
            known = all(isinstance(entry, TextAlternative) for entry in self.entries[:1])
            self._texts = [entry.token for entry in (self.entries if known else self._look_again(_TEXTS))]
        return self._texts

    def spellings(self) -> list[bytes]:
        """Return each entry's bytes."""
        if not self._spelled:
            self._spelled = [_spelling(entry.token, entry.bytes) for entry in self._look_again(_SPELLINGS)]
        return self._spelled


def _spellings(tokens: Sequence[Token[Any]]) -> list[bytes]:
    return [_spelling(token.token, token.bytes) for token in tokens]


def _spelling(token: str | None, given: Raw) -> bytes:
    """Return a token's bytes: the given list of byte values where it is one, else what the text stands for."""
    try:
        if values := bytes(_BYTE_VALUES.decode(given)):
            return values
    except UNREADABLE:
        pass
    text = (token or "").encode("utf-8", "replace")
    # OpenAI's legacy completions write a piece of a character like this: "bytes:\xe2\x80".
    return bytes.fromhex(text[6:].decode().replace("\\x", "")) if _ESCAPED.fullmatch(text) else text
