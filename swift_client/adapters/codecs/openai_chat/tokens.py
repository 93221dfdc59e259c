"""The tokens of one choice of a chat completion, in either shape: their bytes, logprobs and thinking."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Literal, Unpack

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_or_none
from swift_client.adapters.codecs.openai_chat.schema import (
    Alternative,
    BytesAlternative,
    Choice,
    TextAlternative,
    TextChoice,
    Token,
)
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reasoning import thinking_span
from swift_client.adapters.codecs.tokens import clean_logprob_fields
from swift_client.logprobs.clean import UnusableLogprobs
from swift_client.types import Completion

NUMBER_DECODER = msgspec.json.Decoder(Choice[Alternative])
TEXT_DECODER = msgspec.json.Decoder(Choice[TextAlternative])
_BYTES_DECODER = msgspec.json.Decoder(Choice[BytesAlternative])
_BYTE_VALUES_DECODER = msgspec.json.Decoder(list[int])
_ESCAPED_BYTES = re.compile(rb"bytes:(?:\\x[0-9a-f]{2})+")

TextSource = Literal["content", "refusal", "calls"]  # the field that a completion's text comes from
Redecode = Callable[[Decoder[Any]], list[Token[Any]]]  # decodes the tokens again, with more fields


def listed_tokens(choice: TextChoice, source: TextSource | Literal["thinking"]) -> list[Token[Any]]:
    """Return the tokens of a choice, whichever shape they have."""
    wire = choice.logprobs if isinstance(choice, Choice) else None
    if wire is None:
        return []
    if source == "thinking":
        return decode_or_none(wire.reasoning_content, list[Token[BytesAlternative]]) or []
    if wire.tokens is None:
        return (wire.refusal if source == "refusal" else wire.content) or []
    rows = wire.top_logprobs or []
    if isinstance(rows, dict):  # as in Together's types; it can only belong to a single token
        rows = [rows]
    count = len(wire.tokens)
    columns = zip_longest(wire.tokens, (wire.token_logprobs or [])[:count], rows[:count])
    return [Token(token, number, top_logprobs=_to_alternatives(row)) for token, number, row in columns]


def _to_alternatives(row: dict[str, float | None] | list[Any] | None) -> list[Any] | None:
    return [BytesAlternative(number, token) for token, number in row.items()] if isinstance(row, dict) else row


def logprob_fields(
    tokens: list[Token[Any]], span: slice, redecode: Redecode, **options: Unpack[DecodeOptions]
) -> tuple[dict[str, Any], bool]:
    """Return the arrays of ``tokens[span]``, and whether logprobs tie; raise UnusableLogprobs."""
    answer = tokens[span]
    alternatives = _LazyAlternatives(
        answer, lambda decoder: [entry for token in redecode(decoder)[span] for entry in token.top_logprobs or ()]
    )
    fields = clean_logprob_fields(
        [token.logprob for token in answer],
        [entry.logprob for entry in alternatives.entries],
        [len(token.top_logprobs or ()) for token in answer],
        texts=alternatives.texts,
        token_bytes=alternatives.token_bytes,
        **options,
    )
    return fields, alternatives.has_ties


def read_thinking(
    text: str, tokens: list[Token[Any]], redecode: Redecode, **options: Unpack[DecodeOptions]
) -> Completion:
    """Build the completion of the thinking from the tokens before the answer."""
    pieces = token_bytes(tokens)
    span = thinking_span(pieces, text.encode("utf-8", "replace"))
    try:
        fields, _ = logprob_fields(tokens, span, redecode, **options)
    except UnusableLogprobs:
        return Completion(text=text)
    return Completion(text=text, tokens=tuple(piece.decode("utf-8", "replace") for piece in pieces[span]), **fields)


def read_partial_choice(entries: Sequence[Raw], **options: Unpack[DecodeOptions]) -> Completion:
    """Decode some tokens of a choice that is still arriving: their arrays, without a text.

    Raises:
        ValueError, RecursionError, UnusableLogprobs: the entries are not tokens.
    """
    data = msgspec.json.encode({"logprobs": {"content": entries}})

    def decode(decoder: Decoder[Any]) -> list[Token[Any]]:
        return listed_tokens(decoder.decode(data), "content")

    tokens = decode(TEXT_DECODER)
    fields, _ = logprob_fields(tokens, slice(None), decode, **options)
    return Completion(text="", tokens=tuple(token.token or "" for token in tokens), **fields)


class _LazyAlternatives:
    """The alternatives of one completion's tokens, decoded again with texts or bytes if logprobs tie."""

    def __init__(self, tokens: list[Token[Any]], redecode: Callable[[Decoder[Any]], list[Any]]) -> None:
        self.entries = [entry for token in tokens for entry in token.top_logprobs or ()]
        self.has_ties = False
        self._redecode = redecode
        self._texts: list[str | None] = []
        self._token_bytes: list[bytes] = []

    def texts(self) -> list[str | None]:
        """Return the text of each alternative; only ties need it."""
        self.has_ties = True
        if not self._texts:
            with_texts = all(isinstance(entry, TextAlternative) for entry in self.entries[:1])
            self._texts = [entry.token for entry in (self.entries if with_texts else self._redecode(TEXT_DECODER))]
        return self._texts

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of each alternative."""
        if not self._token_bytes:
            self._token_bytes = [_encode_token(entry.token, entry.bytes) for entry in self._redecode(_BYTES_DECODER)]
        return self._token_bytes


def token_bytes(tokens: Sequence[Token[Any]]) -> list[bytes]:
    """Return the bytes of each token."""
    return [_encode_token(token.token, token.bytes) for token in tokens]


def _encode_token(token: str | None, byte_values: Raw) -> bytes:
    """Return a token's bytes from its list of byte values, or from its text if that is not a list."""
    try:
        if values := bytes(_BYTE_VALUES_DECODER.decode(byte_values)):
            return values
    except DECODE_ERRORS:
        pass
    text = (token or "").encode("utf-8", "replace")
    # OpenAI's legacy completions write a piece of a character like this: "bytes:\xe2\x80".
    return bytes.fromhex(text[6:].decode().replace("\\x", "")) if _ESCAPED_BYTES.fullmatch(text) else text
