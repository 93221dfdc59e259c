"""Codec of every format at once: it detects the wire format of a reply from the bytes.

Detected are the replies of every codec, streamed or not; google-genai's objects as they dump themselves
(``usage_metadata`` for ``usageMetadata``); lines of OpenAI's, Anthropic's and Google's batch output; and several of
these, in a list or as JSON lines.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Unpack

from msgspec import Raw

from swift_client.adapters.codecs import anthropic, gemini, openai_chat, openai_completions, openai_responses
from swift_client.adapters.codecs.assembler import run_steps
from swift_client.adapters.codecs.containers import extract_body, join_chunks, split_values
from swift_client.adapters.codecs.gemini.schema import PYTHON_FIELD_NAMES, to_camel_case
from swift_client.adapters.codecs.lenient_json import decode_or_none, has_value
from swift_client.adapters.codecs.openai_chat import StreamAssembler, request
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ProviderError, ResponseDecodeError
from swift_client.types import Usage

__all__ = ["StreamAssembler", "detect_codec", "parse", "parse_steps", "request"]

_CODECS: dict[str, Any] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
    "openai_responses": openai_responses,
    "gemini": gemini,
    "anthropic": anthropic,
}


# Google's fields, as on the wire and as its client names them.
_GEMINI_FIELDS = ("candidates", "usageMetadata", "usage_metadata", "promptFeedback", "prompt_feedback")
# Matches the most common reply, which may be large, without decoding it twice: "choices" after plain fields only.
_CHOICES_PREFIX = re.compile(rb'\s*\{(?:\s*"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*\s*"choices"\s*:\s*\[')
_LEADING_BYTES = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space may precede the JSON of a file


def parse(data: bytes, **options: Any) -> Reply:
    """Decode a complete reply at once; see ``parse_steps()``."""
    return run_steps(parse_steps(data, **options))


def parse_steps(
    data: bytes, *, default_codec: str = "openai_chat", strict: bool = False, **options: Unpack[DecodeOptions]
) -> Generator[None, None, Reply]:
    """Decode a reply of any format.

    Args:
        data: anything that the module's docstring lists.
        default_codec: name of the codec to use if the bytes do not show their format.
        strict: whether to raise if one of several replies is an error. If False, it is left out with a note.
        options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions``.

    Raises:
        ResponseDecodeError: it is not a reply, or one of several is not.
        ProviderError: it is an error, or all of several are.
    """
    data = data.lstrip(_LEADING_BYTES)
    parts = split_values(data)
    # The parts may be the chunks of one stream; else there is one reply, or each part is a reply.
    if parts and len(parts) > 1 and (stream := join_chunks(parts)):
        return (yield from _parse_one(stream, default_codec, **options))
    if not parts or _is_gemini_stream(parts):
        return (yield from _parse_one(data, default_codec, **options))
    return (yield from _parse_all(parts, strict=strict, default_codec=default_codec, **options))


def _parse_one(data: bytes, default_codec: str, **options: Unpack[DecodeOptions]) -> Generator[None, None, Reply]:
    name = detect_codec(data)
    if name is None and (inner := extract_body(data)):
        data, name = inner, detect_codec(inner)
    name = name or ("gemini" if data.startswith(b"[") and _mentions(data, b"candidates") else default_codec)
    if name == "gemini" and any(_mentions(data, field) for field in PYTHON_FIELD_NAMES):
        data = to_camel_case(data)
    reply: Reply = yield from _CODECS.get(name, openai_chat).parse_steps(data, **options)
    return reply


def detect_codec(data: bytes) -> str | None:
    """Return the codec's name for a reply or a recorded stream; None if the bytes do not show it."""
    # Fast path: chat completions and legacy completions, by their first bytes.
    head = data[:4096]
    if prefix := _CHOICES_PREFIX.match(head):
        return "openai_completions" if b'"text_completion"' in prefix[0] else "openai_chat"
    # A recorded stream: look at its first event.
    if not head.lstrip().startswith(b"{"):
        start = head.find(b"data:")
        if start < 0:
            return None
        end = data.find(b"\n", start)
        data = data[start + 5 : end if end > 0 else len(data)]
    # The names and types of the top-level fields.
    fields = decode_or_none(data, dict[str, Raw])
    if fields is None:
        return None
    kind, object_name = (decode_or_none(fields.get(name, b""), str) for name in ("type", "object"))
    if has_value(fields.get("choices", b"")):
        return "openai_completions" if object_name == "text_completion" else "openai_chat"
    if any(has_value(fields.get(name, b"")) for name in _GEMINI_FIELDS):
        return "gemini"
    if (
        (kind or "").startswith("response.")
        or object_name == "response"
        or bytes(fields.get("output", b""))[:1] == b"["
    ):
        return "openai_responses"
    if kind in ("message", "message_start") or ("stop_reason" in fields and not kind):
        return "anthropic"
    return None


def _mentions(data: bytes, field: bytes) -> bool:
    return b'"%b"' % field in data


def _is_gemini_stream(parts: list[bytes]) -> bool:
    """Return whether the parts are one stream of Google's: then the first has no finish reason."""
    first_finished = _mentions(parts[0], b"finishReason") or _mentions(parts[0], b"finish_reason")
    return (
        len(parts) > 1
        and not first_finished
        and detect_codec(parts[0]) == "gemini"
        and {*map(detect_codec, parts)} <= {"gemini", None}
    )


def _parse_all(parts: list[bytes], *, strict: bool, **options: Any) -> Generator[None, None, Reply]:
    """Decode several replies and number their completions consecutively."""
    replies: list[Reply] = []
    errors: list[ProviderError] = []
    notes: list[str] = []
    for number, part in enumerate(parts):
        try:
            reply = yield from parse_steps(part, strict=strict, **options)
        except ResponseDecodeError as problem:
            problem.message = f"Reply {number} of the list: {problem.message}"
            raise problem from None
        except ProviderError as problem:
            if strict:
                raise
            errors.append(problem)
            notes.append(f"Reply {number} is left out: {problem}")
            continue
        replies.append(reply)
        notes += [f"Reply {number}: {note}" for note in reply.notes]
    if errors and not replies:
        raise errors[0]
    completions = [completion for reply in replies for completion in reply.completions]
    return Reply(
        completions=tuple(replace(completion, index=index) for index, completion in enumerate(completions)),
        usage=sum((reply.usage for reply in replies), Usage()),
        model=next((reply.model for reply in replies if reply.model), None),
        notes=tuple(notes),
    )
