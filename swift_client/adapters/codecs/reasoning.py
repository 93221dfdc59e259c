"""What a model thought before it answered, apart from the answer: its text, and the listed tokens that spell it."""

from __future__ import annotations

from collections.abc import Sequence

from swift_client.logprobs import clean

TagPairs = Sequence[tuple[bytes, bytes]]

SERVER_TAGS: TagPairs = ((b"<think>", b"</think>"), (b"[THINK]", b"[/THINK]"))
"""What servers without a reasoning parser leave in the content: Qwen, DeepSeek and most others; Mistral."""
THINKING_TAGS: TagPairs = (*SERVER_TAGS, (b"<thinking>", b"</thinking>"))
"""With that of a few fine-tunes, which elsewhere is what a prompt asked for, and so a part of the answer."""


def find_thinking(
    stream: bytes, *, opened_in_prompt: bool = False, tags: TagPairs = THINKING_TAGS
) -> tuple[int, int, int]:
    """Find the thinking at the beginning of a text.

    The opening mark may be missing, since some chat templates put it into the prompt: ``opened`` says that it is so,
    and a first ``</think>`` without an opening before it shows it.

    Returns:
        (start, stop, answer): the thinking is ``stream[start:stop]`` and the answer ``stream[answer:]``, which is empty
        where the thinking never ends; (0, 0, 0) where there is none.
    """
    lead = len(stream) - len(stream.lstrip())
    for opening, closing in tags:
        begins = stream.startswith(opening, lead)
        start, close = lead + len(opening) if begins else 0, stream.find(closing)
        implied = (opening, closing) == THINKING_TAGS[0] and opening not in stream[: max(close, 0)]
        if close >= 0 and (begins or opened_in_prompt or implied):
            return start, close, close + len(closing)
        if begins and not opened_in_prompt:
            return start, len(stream), len(stream)
    return (0, len(stream), len(stream)) if opened_in_prompt else (0, 0, 0)


def split_thinking(content: str) -> tuple[str, str]:
    """Split what a server left in the content into thinking and answer, both without the white space between."""
    if "</think>" not in content and not content.lstrip().startswith(tuple(mark.decode() for mark, _ in SERVER_TAGS)):
        return "", content
    stream = content.encode("utf-8", "replace")
    start, stop, answer = find_thinking(stream, tags=SERVER_TAGS)
    if not answer:
        return "", content
    return stream[start:stop].decode().strip(), stream[answer:].decode().lstrip()


def thinking_span(pieces: Sequence[bytes], thinking: bytes) -> slice:
    """Return which of the tokens before an answer spell the thinking, aligned by bytes; none where they do not.

    ``pieces`` are the tokens' bytes. Marks stand before and after, and are left out; a token that is the thinking's in
    part only is in.
    """
    wanted = thinking.strip()
    span = clean.answer_span(pieces, wanted) if wanted and pieces else None
    return slice(*span) if span else slice(0, 0)


class ReasoningFilter:
    """Says of each piece of a stream whether its tokens come before the answer begins."""

    def __init__(self) -> None:
        self._answer_started = self._thinking_seen = self._inside_tags = False
        self._tail = ""

    def __call__(self, thinking: str, text: str) -> bool:
        """Take what a piece adds to the thinking, which a server may keep apart, and to the content."""
        if self._answer_started:
            return False
        self._tail += text
        marks = [(opening.decode(), closing.decode()) for opening, closing in SERVER_TAGS]
        if not self._thinking_seen:
            self._inside_tags = self._tail.lstrip().startswith(tuple(opening for opening, _ in marks))
            self._thinking_seen = self._inside_tags or bool(thinking)
            if not self._thinking_seen:
                head = self._tail.lstrip()
                self._answer_started = bool(head) and not any(opening.startswith(head) for opening, _ in marks)
                return False
        if self._inside_tags:
            ended = [at + len(closing) for _, closing in marks if (at := self._tail.find(closing)) >= 0]
            self._inside_tags = not ended
            self._tail = self._tail[ended[0] :] if ended else self._tail[-len("[/THINK]") :]
            return True
        self._answer_started = bool(self._tail.strip())
        return not self._answer_started
