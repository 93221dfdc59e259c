"""A whole chat completion reply becomes a Reply, choice by choice, so that an event loop can breathe in between."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any

from msgspec import Raw

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS, decode_error, decode_or_none, excerpt, has_value
from swift_client.adapters.codecs.openai_chat.choice import read_choice
from swift_client.adapters.codecs.openai_chat.schema import (
    Chunk,
    Envelope,
    WireUsage,
    decode_envelope,
    split_choices_fast,
)
from swift_client.adapters.codecs.reply import ParsedChoice, build_reply
from swift_client.adapters.codecs.usage import count_cached_tokens
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, ResponseDecodeError


def read_body(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False, echo: bool = False
) -> Generator[None, None, Reply]:
    """Decode a reply, yielding after each choice.

    Args:
        data: the body of a 200.
        top_logprobs: exact number of columns of every ``top_logprobs``; None means each completion's longest list.
        token_ids: whether to fill in ``top_ids``.
        echoes: whether the prompt may stand before the answers.

    Raises:
        ResponseDecodeError: the bytes are no chat completion, and hold no whole choice.
        ProviderError: the 200 holds an error object instead of choices.
    """
    options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids, "echo": echo}
    envelope = split_choices_fast(data)
    if envelope:
        with suppress(*DECODE_ERRORS):
            return (yield from _read_envelope(envelope, strict=True, **options))
    try:
        envelope, note = yield from decode_envelope(data)
    except DECODE_ERRORS as problem:
        raise decode_error(data, problem, "chat completion") from None
    if not envelope.choices and (error := extract_error(envelope)):
        raise error
    if envelope.choices is None:
        raise ResponseDecodeError(
            f"The reply has no choices: {excerpt(data)}",
            hint="Check that base_url= is a chat completions server; Ollama's and Cohere's own doors are none.",
        )
    reply = yield from _read_envelope(envelope, notes=[note] if note else [], **options)
    if envelope.choices and not reply.completions:
        raise ResponseDecodeError(f"No choice of the reply can be read: {excerpt(data)}")
    return reply


def read_choices(
    choices: Iterable[Raw | bytes],
    *,
    usage: WireUsage | None,
    cached_tokens: int = 0,
    model: str | None,
    usage_counts_one_choice: bool = False,
    notes: Iterable[str] = (),
    strict: bool = False,
    has_ties: bool = False,
    top_logprobs: int | None,
    token_ids: bool,
    echo: bool,
) -> Generator[None, None, Reply]:
    """Decode choices one by one, yielding after each, and join them to a Reply.

    Unreadable choices leave a note; where ``strict``, they raise ValueError or RecursionError. ``counts_one`` says that
    ``usage`` counts the completion tokens of one choice only, ``tied`` that equal numbers are to be expected.
    """
    usage = usage or WireUsage()
    options: dict[str, Any] = {
        "top_logprobs": top_logprobs,
        "token_ids": token_ids,
        "prompt_tokens": (usage.prompt_tokens or 0) if echo else 0,
    }
    read: list[ParsedChoice] = []
    unreadable = 0
    for choice in choices:
        has_ties = read[-1].has_ties if read else has_ties  # where one choice's numbers tie, the next one's do
        try:
            read.append(read_choice(choice, with_texts=has_ties, **options))
        except DECODE_ERRORS:
            if strict:
                raise
            unreadable += 1
        yield
    lost = [f"{unreadable} choice(s) of the reply cannot be read and are left out."] if unreadable else []
    return build_reply(
        read,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=cached_tokens,
        usage_counts_one_choice=usage_counts_one_choice,
        model=model,
        notes=(*notes, *lost),
    )


def _read_envelope(envelope: Envelope, *, notes: Iterable[str] = (), **options: Any) -> Generator[None, None, Reply]:
    error = extract_error(envelope)
    beside = [f"The reply holds an error beside its choices: {error}"] if error else []
    return read_choices(
        envelope.choices or [],
        usage=decode_or_none(envelope.usage, WireUsage),
        cached_tokens=count_cached_tokens(envelope.usage),
        model=decode_or_none(envelope.model, str),
        usage_counts_one_choice=has_value(envelope.timings),
        notes=[*notes, *beside],
        **options,
    )


def extract_error(envelope: Envelope | Chunk) -> ProviderError | None:
    """Return the error that a reply holds, in any of the shapes that servers send with a 200."""
    if has_value(envelope.error):
        return error_responses.error_from_object(_decode_any(envelope.error))
    message = _decode_any(envelope.message)
    spoken = isinstance(message, dict) and "role" in message  # an answer in Ollama's or Cohere's own format
    if envelope.choices is None and not spoken and (has_value(envelope.message) or has_value(envelope.detail)):
        return error_responses.error_from_object({"message": message, "detail": _decode_any(envelope.detail)})
    return None


def _decode_any(raw: Raw) -> object:
    return decode_or_none(raw, object)
