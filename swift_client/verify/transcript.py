"""Untrusted texts inside a prompt: sections between tags that no text inside can close.

Each section stands between ``<name-code>`` and ``</name-code>``. The code is ten decimal digits that occur in none of
the texts, not even written with other digits (full-width, Arabic) or with characters in between. So the text of a
section can neither end it nor write the tag of another section or of the verdict. A code is a hash of all sections up
to its own: requests that begin with the same sections begin with the same bytes, which prompt caches and stored
replies need.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from swift_client.types import Message

Part = Mapping[str, Any]  # a part of a message that is not text, such as an image

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_CALL_FIELDS = ("name", "tool_calls", "tool_call_id", "function_call")  # of a message, besides its content
# Types of parts that a user's message may have (OpenAI, Anthropic), and keys of Google's.
_MEDIA_TYPES = frozenset(
    ("image", "image_url", "input_image", "audio", "input_audio", "video_url", "file", "input_file", "document")
)
_MEDIA_KEYS = ("inlineData", "inline_data", "fileData", "file_data")

# Control tokens of chat templates, which open models' servers obey inside the text of a message too.
_CONTROL_TOKENS = re.compile(
    r"<(?=[|｜][^<>\n]{1,60}>|[^<>|\n]{1,60}[|｜]>|/?(?:s|bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|TOOL_CONTENT|ARGS|BOS|EOS|gMASK)\])"
)
_WORD_JOINER = "\u2060"  # invisible, and part of no control token


@dataclass(frozen=True, kw_only=True)
class Section:
    """A named section: its messages, each with a role and pieces. Role None: the pieces stand alone in the section."""

    name: str
    messages: tuple[tuple[str | None, tuple[str | Part, ...]], ...]


def text_section(name: str, text: str) -> Section:
    """Return a section with one text."""
    return Section(name=name, messages=((None, (neutralize(text),)),))


def question_section(messages: Sequence[Message]) -> Section:
    """Return the section of a question: one user message as it is, several as a transcript with their roles."""
    is_plain = len(messages) == 1 and _role(messages[0]) == "user"
    entries = tuple((None if is_plain else _role(message), tuple(_pieces(message))) for message in messages)
    return Section(name="question", messages=entries)


def neutralize(text: str) -> str:
    """Return a text as it is, except for what a request or a chat template could not take as text.

    Each control token of a chat template gets an invisible word joiner after its first character, and each lone
    surrogate, which UTF-8 cannot encode, becomes a question mark.
    """
    text = text.encode("utf-8", "replace").decode()
    return _CONTROL_TOKENS.sub(lambda match: match[0] + _WORD_JOINER, text)


@dataclass(frozen=True, kw_only=True)
class WrittenSections:
    """Sections between their tags.

    Attributes:
        pieces: Per section its texts and media, tags included.
        tags: Per section its tag, which is its name and code, without angle brackets.
        verdict_code: A code for the verdict's tag.
    """

    pieces: tuple[tuple[str | Part, ...], ...]
    tags: tuple[str, ...]
    verdict_code: str


def write_sections(sections: Sequence[Section], trusted: Sequence[str]) -> WrittenSections:
    """Write sections between their tags.

    Args:
        sections: in the order of the prompt.
        trusted: other texts of the prompt, such as criteria, which shall not contain a code either.
    """
    texts = [piece for section in sections for _, pieces in section.messages for piece in pieces]
    digits = "|".join(_digits(piece if isinstance(piece, str) else _to_json(piece)) for piece in (*texts, *trusted))
    history = hashlib.sha256()
    written: list[tuple[str | Part, ...]] = []
    tags: list[str] = []
    for section in sections:
        _add_to_hash(history, section)
        tag = f"{section.name}-{_unused_code(history.digest(), digits)}"
        written.append(tuple(_write(section, tag)))
        tags.append(tag)
    for text in trusted:
        _add_text(history, text)
    history.update(b"verdict")
    code = _unused_code(history.digest(), digits)
    return WrittenSections(pieces=tuple(written), tags=tuple(tags), verdict_code=code)


def _write(section: Section, tag: str) -> Iterator[str | Part]:
    code = tag.rpartition("-")[2]
    yield f"<{tag}>\n"
    for role, pieces in section.messages:
        if role is not None:
            yield f"<{role}-{code}>\n"
        yield from pieces
        yield "\n" if role is None else f"\n</{role}-{code}>\n"
    yield f"</{tag}>"


def _unused_code(key: bytes, digits: str) -> str:
    """Return ten decimal digits that follow from ``key`` and that ``digits`` does not contain."""
    for attempt in count():
        number = int.from_bytes(hashlib.sha256(b"%d:%b" % (attempt, key)).digest()[:8])
        code = f"{number % 10**10:010d}"
        if code not in digits:
            return code
    raise AssertionError("unreachable")


def _digits(text: str) -> str:
    """Return all decimal digits of a text, as ASCII and without anything in between."""
    if not text.isascii():
        text = re.sub(r"\D+", "", unicodedata.normalize("NFKC", text))
        return text if text.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in text)
    return re.sub("[^0-9]+", "", text)


def _add_to_hash(history: Any, section: Section) -> None:
    _add_text(history, section.name)
    for role, pieces in section.messages:
        _add_text(history, role or "")
        for piece in pieces:
            _add_text(history, piece if isinstance(piece, str) else _to_json(piece))


def _add_text(history: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    history.update(b"%d:%b" % (len(data), data))


def _role(message: Message) -> str:
    role = message.get("role")
    role = "assistant" if role == "model" else role  # Google's word
    return role if role in _ROLES else "other"


def _pieces(message: Message) -> Iterator[str | Part]:
    """Yield the texts and media of a message, then its tool calls as JSON."""
    content = message.get("parts", message.get("content"))
    parts = content if isinstance(content, list | tuple) else [] if content is None else [content]
    for number, part in enumerate(parts):
        if number and not _is_media(part) and not _is_media(parts[number - 1]):
            yield "\n"
        yield part if _is_media(part) else neutralize(_text_of(part))
    if calls := {name: message[name] for name in _CALL_FIELDS if message.get(name)}:
        yield ("\n" if parts else "") + neutralize(_to_json(calls))


def _is_media(part: object) -> bool:
    return isinstance(part, Mapping) and (
        part.get("type") in _MEDIA_TYPES or any(isinstance(part.get(key), Mapping) for key in _MEDIA_KEYS)
    )


def _text_of(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    return _to_json(part)


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
