"""A tokenizer of transformers as bytes: what each token spells, where an answer ends, and which tokens it is made of.

Nothing is tokenised again: text, tokens and numbers all come from the ids that were drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swift_client.adapters.codecs.reasoning import MARKS, thinking_place, thinking_span
from swift_client.errors import ConfigurationError
from swift_client.logprobs import clean
from swift_client.types import U32, Message

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """What the tokens of a tokenizer spell.

    Args:
        tokenizer: of transformers.
        ends: ids of further end-of-turn tokens, as the model's own configuration names them.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self.ends = frozenset(ends) | ({tokenizer.eos_token_id} - {None})
        self._added: dict[int, str] = {token: str(added) for token, added in tokenizer.added_tokens_decoder.items()}
        self._special = frozenset(tokenizer.all_special_ids)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        byte_level = backend is not None and b"ByteLevel" in bytes(backend.decoder.__getstate__())
        self._letters = _byte_letters() if byte_level else None
        self._spelled: dict[int, bytes] = {}
        self._identities: dict[int, int] = {}

    def spell(self, token: int) -> bytes:
        """Return the token's bytes; nothing for special tokens, but for marks of thinking."""
        if token not in self._spelled:
            self._spelled[token] = self._bytes_of(token)
        return self._spelled[token]

    def identities(self, tokens: NDArray[np.int64]) -> U32:
        """Return the hashed identities of ids of any shape, uint32, as :func:`logprobs.token_id` of their bytes."""
        names, where = np.unique(tokens, return_inverse=True)
        for token in names.tolist():
            if token not in self._identities:
                self._identities[token] = clean.token_id(self.spell(token))
        return np.array([self._identities[token] for token in names.tolist()], np.uint32)[where].reshape(tokens.shape)

    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the ids of a prompt: by the chat template, or without one the messages' text as it is.

        ``template`` holds further variables of the chat template.

        Raises:
            ConfigurationError: the template refuses the messages, or they are not text.
        """
        plain = [{**message, "content": _text(message["content"])} for message in messages]
        if getattr(self._tokenizer, "chat_template", None):
            try:
                text = self._tokenizer.apply_chat_template(
                    plain, tokenize=False, add_generation_prompt=True, **template
                )
            except Exception as error:  # a template is a program of its own: jinja2's errors and whatever it raises
                raise ConfigurationError(f"The chat template refuses the messages: {error}") from error
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written them
        else:
            ids = self._tokenizer("\n\n".join(message["content"] for message in plain))["input_ids"]
        if not ids:
            raise ConfigurationError("The prompt holds no token.", hint="Give a question.")
        return tuple(int(token) for token in ids)

    def thinks(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt ends within a block of thinking, as some templates open one."""
        tail = b"".join(self.spell(token) for token in prompt[-16:])
        return any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in MARKS)

    def _bytes_of(self, token: int) -> bytes:
        if (literal := self._added.get(token)) is not None:
            spelled = literal.encode()
            marks = any(spelled.strip() in pair for pair in MARKS)
            return spelled if marks or (token not in self._special and token not in self.ends) else b""
        word: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if word is None or token in self._special or token in self.ends:  # rows of padding in the vocabulary
            return b""
        if self._letters is not None:
            return b"".join(self._letters.get(letter, letter.encode()) for letter in word)
        if code := _BYTE.fullmatch(word):
            return bytes([int(code[1], 16)])
        return word.replace("▁", " ").encode()


class Ending:
    """Says after each token whether the answer is over. One of these for each completion."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[bytes]) -> None:
        self._vocabulary, self._stops = vocabulary, stops
        self._longest = max(map(len, stops), default=0)
        self._tail = b""

    def __call__(self, tokens: Sequence[int]) -> Literal["end", "stop"] | None:
        """Return "end" for the model's own end-of-turn token, "stop" where a stop string has come."""
        if tokens[-1] in self._vocabulary.ends:
            return "end"
        if self._stops:
            self._tail += self._vocabulary.spell(tokens[-1])
            if any(stop in self._tail for stop in self._stops):
                return "stop"
            self._tail = self._tail[-self._longest :]
        return None


def answer_of(pieces: Sequence[bytes], *, stops: Sequence[bytes], thinks: bool) -> tuple[slice, bytes]:
    """Return which tokens hold the answer, and its bytes: behind the thinking, before the first stop string.

    A token that is the answer's in part only is among them. ``thinks``: the prompt has opened the thinking.
    """
    stream = b"".join(pieces)
    stop = _first_stop(stream, stops)
    _, _, start = thinking_place(stream[:stop], opened=thinks)
    ends = np.cumsum(np.fromiter(map(len, pieces), np.intp, len(pieces)))
    if start >= stop:
        return slice(0, 0), b""
    return slice(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop, "left")) + 1), stream[
        start:stop
    ]


def thinking_of(pieces: Sequence[bytes], *, stops: Sequence[bytes], thinks: bool) -> tuple[slice, str] | None:
    """Return which of the tokens before an answer spell its thinking, and the thinking; None where there is none."""
    stream = b"".join(pieces)
    start, stop, answer = thinking_place(stream[: _first_stop(stream, stops)], opened=thinks)
    span = thinking_span(pieces, stream[start:stop])
    text = stream[start:stop].decode("utf-8", "replace").strip()
    return (span, text) if answer and text else None


def _first_stop(stream: bytes, stops: Sequence[bytes]) -> int:
    return min((at for mark in stops if (at := stream.find(mark)) >= 0), default=len(stream))


def _text(content: object) -> str:
    """Return a message's text; its parts are joined."""
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, (list, tuple)) else []
    texts = [part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    if len(texts) < len(parts) or not parts:
        raise ConfigurationError("The local model reads text alone.", hint="Leave images and other parts out.")
    return "".join(texts)


def _byte_letters() -> dict[str, bytes]:
    """Return the bytes that GPT-2's letters stand for: printable ones for themselves, the others shifted up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}
