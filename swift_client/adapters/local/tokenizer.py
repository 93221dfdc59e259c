"""The bytes of tokens, the end of an answer, and the tokens it consists of, for tokenizers of transformers.

Nothing is tokenised again: text, tokens and numbers all come from the ids that were drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swift_client.adapters.codecs.reasoning import THINKING_TAGS, find_thinking, thinking_span
from swift_client.errors import ConfigurationError
from swift_client.logprobs import clean
from swift_client.types import U32, Message

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """The bytes of a tokenizer's tokens, and its prompts.

    Args:
        tokenizer: of transformers.
        end_token_ids: ids of more end-of-turn tokens, from the model's own configuration.
    """

    def __init__(self, tokenizer: Any, end_token_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self.end_token_ids = frozenset(end_token_ids) | ({tokenizer.eos_token_id} - {None})
        self._added_tokens: dict[int, str] = {
            token: str(added) for token, added in tokenizer.added_tokens_decoder.items()
        }
        self._special_ids = frozenset(tokenizer.all_special_ids)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        byte_level = backend is not None and b"ByteLevel" in bytes(backend.decoder.__getstate__())
        self._letter_bytes = _gpt2_letter_bytes() if byte_level else None
        self._bytes_cache: dict[int, bytes] = {}
        self._identity_cache: dict[int, int] = {}

    def token_bytes(self, token: int) -> bytes:
        """Return the token's bytes; empty for special tokens other than thinking tags."""
        if token not in self._bytes_cache:
            self._bytes_cache[token] = self._decode_token(token)
        return self._bytes_cache[token]

    def identities(self, tokens: NDArray[np.int64]) -> U32:
        """Return the hashed identities (``swift_client.logprobs.clean.token_id()``) of ids of any shape, uint32."""
        unique, inverse = np.unique(tokens, return_inverse=True)
        for token in unique.tolist():
            if token not in self._identity_cache:
                self._identity_cache[token] = clean.token_id(self.token_bytes(token))
        identities = np.array([self._identity_cache[token] for token in unique.tolist()], np.uint32)
        return identities[inverse].reshape(tokens.shape)

    def encode_prompt(self, messages: Sequence[Message], template_variables: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the ids of a prompt: by the chat template, or without one the plain text of the messages.

        ``template_variables`` are more variables of the chat template.

        Raises:
            ConfigurationError: the template refuses the messages, or they are not text.
        """
        plain = [{**message, "content": _message_text(message["content"])} for message in messages]
        if getattr(self._tokenizer, "chat_template", None):
            try:
                text = self._tokenizer.apply_chat_template(
                    plain, tokenize=False, add_generation_prompt=True, **template_variables
                )
            except Exception as error:  # a template is a program: it may raise anything, besides jinja2's errors
                raise ConfigurationError(f"The chat template refuses the messages: {error}") from error
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has added them
        else:
            ids = self._tokenizer("\n\n".join(message["content"] for message in plain))["input_ids"]
        if not ids:
            raise ConfigurationError("The prompt contains no tokens.", hint="Pass a question.")
        return tuple(int(token) for token in ids)

    def in_thinking_block(self, prompt: Sequence[int]) -> bool:
        """Return True if the prompt ends inside a thinking block, which some templates open."""
        tail = b"".join(self.token_bytes(token) for token in prompt[-16:])
        return any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in THINKING_TAGS)

    def _decode_token(self, token: int) -> bytes:
        is_control = token in self._special_ids or token in self.end_token_ids
        if (literal := self._added_tokens.get(token)) is not None:
            data = literal.encode()
            is_thinking_tag = any(data.strip() in pair for pair in THINKING_TAGS)
            return b"" if is_control and not is_thinking_tag else data
        word: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if word is None or is_control:  # None: the vocabulary is padded with unused rows
            return b""
        # Byte-level BPE (GPT-2) writes each byte as a letter; SentencePiece has <0xNN> tokens and "▁" for a space.
        if self._letter_bytes is not None:
            return b"".join(self._letter_bytes.get(letter, letter.encode()) for letter in word)
        if code := _BYTE_TOKEN.fullmatch(word):
            return bytes([int(code[1], 16)])
        return word.replace("▁", " ").encode()


class EndDetector:
    """Detects the end of one completion, token by token."""

    def __init__(self, vocabulary: Vocabulary, stop_strings: Sequence[bytes]) -> None:
        self._vocabulary, self._stop_strings = vocabulary, stop_strings
        self._max_stop_length = max(map(len, stop_strings), default=0)
        self._tail = b""

    def __call__(self, tokens: Sequence[int]) -> Literal["end", "stop"] | None:
        """Return "end" at the model's own end-of-turn token, "stop" after a stop string, else None."""
        if tokens[-1] in self._vocabulary.end_token_ids:
            return "end"
        if self._stop_strings:
            self._tail += self._vocabulary.token_bytes(tokens[-1])
            if any(stop in self._tail for stop in self._stop_strings):
                return "stop"
            # A stop string may span tokens, so the last bytes are kept.
            self._tail = self._tail[-self._max_stop_length :]
        return None


def find_answer(
    pieces: Sequence[bytes], *, stop_strings: Sequence[bytes], in_thinking_block: bool
) -> tuple[slice, bytes]:
    """Return the tokens of the answer and its bytes: after the thinking, before the first stop string.

    The slice includes tokens of which only a part belongs to the answer. ``in_thinking_block``: the prompt ends inside
    a thinking block.
    """
    stream = b"".join(pieces)
    stop = _find_stop(stream, stop_strings)
    _, _, start = find_thinking(stream[:stop], opened_in_prompt=in_thinking_block)
    # ends[i] is the byte at which token i ends; the slice covers every token that overlaps stream[start:stop].
    ends = np.cumsum(np.fromiter(map(len, pieces), np.intp, len(pieces)))
    if start >= stop:
        return slice(0, 0), b""
    span = slice(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop, "left")) + 1)
    return span, stream[start:stop]


def locate_thinking(
    pieces: Sequence[bytes], *, stop_strings: Sequence[bytes], in_thinking_block: bool
) -> tuple[slice, str] | None:
    """Return the tokens of the thinking before an answer and its text, or None if there is none."""
    stream = b"".join(pieces)
    start, stop, answer = find_thinking(stream[: _find_stop(stream, stop_strings)], opened_in_prompt=in_thinking_block)
    span = thinking_span(pieces, stream[start:stop])
    text = stream[start:stop].decode("utf-8", "replace").strip()
    return (span, text) if answer and text else None


def _find_stop(stream: bytes, stop_strings: Sequence[bytes]) -> int:
    positions = (stream.find(stop_string) for stop_string in stop_strings)
    return min((position for position in positions if position >= 0), default=len(stream))


def _message_text(content: object) -> str:
    """Return a message's text, with its parts joined."""
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, (list, tuple)) else []
    texts = [part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    if len(texts) < len(parts) or not parts:
        raise ConfigurationError("The local model reads only text.", hint="Leave out images and other parts.")
    return "".join(texts)


def _gpt2_letter_bytes() -> dict[str, bytes]:
    """Return the byte of each letter of GPT-2's alphabet: printable bytes are themselves, others are shifted up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + offset): bytes([byte]) for offset, byte in enumerate(others)}
