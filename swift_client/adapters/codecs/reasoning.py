"""Thinking that precedes an answer: its text, and the listed tokens that spell it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from swift_client.logprobs import clean

TagPairs = Sequence[tuple[bytes, bytes]]

# Tags that servers without a reasoning parser leave in the content: Qwen, DeepSeek and most others; Mistral; Claude's
# and fine-tunes' words; Seed; Kimi; Sky-T1. The first may lack its opening tag, which some chat templates write.
THINKING_TAGS: TagPairs = (
    (b"<think>", b"</think>"),
    (b"[THINK]", b"[/THINK]"),
    *((b"<%b>" % name, b"</%b>" % name) for name in (b"thinking", b"reasoning", b"thought", b"seed:think")),
    ("◁think▷".encode(), "◁/think▷".encode()),
    (b"<|begin_of_thought|>", b"<|end_of_thought|>"),
)

# gpt-oss writes "<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>".
_CHANNEL_STARTS = ("<|channel|>", "<|start|>")
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_FINAL_END = re.compile(r"<\|(?:return|end)\|>\s*\Z")
_CHANNEL_MARKUP = re.compile(r"(?:<\|start\|>[^<]*)?<\|channel\|>[^<]*(?:<\|constrain\|>[^<]*)?(?:<\|message\|>)?"
                             r"|<\|start\|>[^<]*|<\|(?:message|end|call|return)\|>")  # fmt: skip

_TAG_TEXTS = tuple((opening.decode(), closing.decode()) for opening, closing in THINKING_TAGS)
_FILTER_TAGS = (*_TAG_TEXTS, *((start, _FINAL_CHANNEL) for start in _CHANNEL_STARTS))
_OPENING_TAGS = tuple(opening for opening, _ in _TAG_TEXTS)
_LONGEST_CLOSING_TAG = max(len(closing) for _, closing in _FILTER_TAGS)


def find_thinking(stream: bytes, *, opened_in_prompt: bool = False) -> tuple[int, int, int]:
    """Find the thinking at the beginning of a text.

    Some chat templates put the opening tag into the prompt: ``opened_in_prompt`` says so, and a ``</think>`` without
    an opening tag before it shows it.

    Returns:
        (start, stop, answer): the thinking is ``stream[start:stop]`` and the answer ``stream[answer:]``, which is empty
        if the thinking never ends; (0, 0, 0) if there is no thinking.
    """
    lead = len(stream) - len(stream.lstrip())
    for opening, closing in THINKING_TAGS:
        opens = stream.startswith(opening, lead)
        start, close = lead + len(opening) if opens else 0, stream.find(closing)
        implied = (opening, closing) == THINKING_TAGS[0] and opening not in stream[: max(close, 0)]
        if close >= 0 and (opens or opened_in_prompt or implied):
            return start, close, close + len(closing)
        if opens and not opened_in_prompt:
            return start, len(stream), len(stream)
    return (0, len(stream), len(stream)) if opened_in_prompt else (0, 0, 0)


def split_thinking(content: str) -> tuple[str, str]:
    """Split a message's content into thinking and answer, both without the white space between them."""
    start_text = content[:64].lstrip() or content.lstrip()
    if start_text.startswith(_CHANNEL_STARTS):
        return _split_channels(content)
    if "</think>" not in content and not start_text.startswith(_OPENING_TAGS):
        return "", content
    stream = content.encode("utf-8", "replace")
    start, stop, answer = find_thinking(stream)
    if not answer:
        return "", content
    return stream[start:stop].decode().strip(), stream[answer:].decode().lstrip()


def _split_channels(content: str) -> tuple[str, str]:
    """Split gpt-oss's channels: the last "final" one is the answer, the others are thinking."""
    thinking, final, answer = content.rpartition(_FINAL_CHANNEL)
    if not final:
        thinking, answer = content, ""
    return _CHANNEL_MARKUP.sub("", thinking).strip(), _FINAL_END.sub("", answer).lstrip()


def thinking_span(pieces: Sequence[bytes], thinking: bytes) -> slice:
    """Return the slice of the tokens that spell the thinking, aligned by bytes; an empty one if none do.

    Args:
        pieces: the bytes of each token before the answer. Tags around the thinking are left out; a token that spells
            only a part of it is included.
        thinking: the text of the thinking.
    """
    target = thinking.strip()
    span = clean.answer_span(pieces, target) if target and pieces else None
    return slice(*span) if span else slice(0, 0)


class ReasoningFilter:
    """Tells, for each piece of a stream, whether its tokens come before the answer begins."""

    def __init__(self) -> None:
        self._answer_started = self._thinking_seen = self._inside_tags = False
        self._tail = ""

    def __call__(self, thinking: str, text: str) -> bool:
        """Take the next piece's thinking, if the server separates it, and its content."""
        if self._answer_started:
            return False
        self._tail += text
        tags = _FILTER_TAGS
        if not self._thinking_seen:
            self._inside_tags = self._tail.lstrip().startswith(tuple(opening for opening, _ in tags))
            self._thinking_seen = self._inside_tags or bool(thinking)
            if not self._thinking_seen:
                # Undecided as long as the text may still become an opening tag.
                start = self._tail.lstrip()
                self._answer_started = bool(start) and not any(opening.startswith(start) for opening, _ in tags)
                return False
        if self._inside_tags:
            ends = [index + len(closing) for _, closing in tags if (index := self._tail.find(closing)) >= 0]
            self._inside_tags = not ends
            self._tail = self._tail[ends[0] :] if ends else self._tail[-_LONGEST_CLOSING_TAG:]
            return True
        self._answer_started = bool(self._tail.strip())
        return not self._answer_started
