"""Decoding of a chat completion reply, choice by choice."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Unpack

from msgspec import Raw

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_counts,
    decode_error,
    decode_or_none,
    excerpt,
    has_value,
    nonsense_note,
)
from swift_client.adapters.codecs.openai_chat.choice import read_choice
from swift_client.adapters.codecs.openai_chat.schema import (
    Chunk,
    Envelope,
    WireUsage,
    decode_envelope,
    split_choices_fast,
)
from swift_client.adapters.codecs.options import DecodeOptions
from swift_client.adapters.codecs.reply import (
    MAX_CHOICES,
    ParsedChoice,
    ReplyMetadata,
    build_reply,
    count_cached_tokens,
)
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, ResponseDecodeError


def read_body(data: bytes, *, echo: bool = False, **options: Unpack[DecodeOptions]) -> Generator[None, None, Reply]:
    """Decode a body, yielding after each choice.

    Args:
        data: the body of a response with status 200.
        echo: whether the prompt may precede the answers.
        options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions``.

    Raises:
        ResponseDecodeError: the data is not a chat completion, and contains no complete choice.
        ProviderError: the reply contains an error instead of choices.
    """
    # Fast path for a reply without faults.
    envelope = split_choices_fast(data)
    if envelope:
        with suppress(*DECODE_ERRORS):
            return (yield from _read_envelope(envelope, strict=True, echo=echo, **options))
    # Thorough path.
    try:
        envelope, note = yield from decode_envelope(data)
    except DECODE_ERRORS as problem:
        raise decode_error(data, problem, "chat completion") from None
    if not envelope.choices and (error := extract_error(envelope)):
        raise error
    if envelope.choices is None:
        raise ResponseDecodeError(
            f"The reply has no choices: {excerpt(data)}",
            hint="Check that base_url= is an OpenAI-compatible endpoint, not Ollama's or Cohere's native API.",
            retryable=b'"choices"' in data,  # null: the server failed
        )
    reply = yield from _read_envelope(envelope, notes=[note] if note else [], echo=echo, **options)
    if envelope.choices and not reply.completions:
        raise ResponseDecodeError(f"No choice of the reply can be read: {excerpt(data)}", retryable=True)
    return reply


def read_choices(
    choices: Iterable[Raw | bytes],
    metadata: ReplyMetadata,
    *,
    notes: Iterable[str] = (),
    strict: bool = False,
    has_ties: bool = False,
    echo: bool = False,
    error: ProviderError | None = None,
    **options: Unpack[DecodeOptions],
) -> Generator[None, None, Reply]:
    """Decode choices one by one, yielding after each, and build the Reply.

    Args:
        choices: the JSON of each choice.
        metadata: as reported for the reply.
        notes: further notes for the user.
        strict: whether to raise ValueError or RecursionError for an unreadable choice, instead of adding a note.
        has_ties: whether equal logprobs are to be expected.
        echo: whether the prompt may precede the answers.
        error: the reply's error beside its choices, which is raised if no choice has a text.
        options: ``top_logprobs`` and ``token_ids``, see ``DecodeOptions``.
    """
    prompt_tokens = (metadata.prompt_tokens or 0) if echo else 0
    parsed: list[ParsedChoice] = []
    n_unreadable = 0
    for choice in itertools.islice(choices, MAX_CHOICES):
        if not strict and bytes(memoryview(choice)[:1]) != b"{":  # not worth the attempts to repair it
            n_unreadable += 1
            continue
        has_ties = parsed[-1].has_ties if parsed else has_ties  # if one choice has ties, the next one has too
        try:
            parsed.append(read_choice(choice, with_texts=has_ties, prompt_tokens=prompt_tokens, **options))
        except DECODE_ERRORS:
            if strict:
                raise
            n_unreadable += 1
        yield
    if n_unreadable:
        notes = [*notes, f"{n_unreadable} choice(s) of the reply cannot be read and are left out."]
    # An error without a text is not a completion; an error and nothing else is raised.
    errors = [choice.error for choice in parsed if choice.error]
    if (error or (errors and len(errors) == len(parsed))) and not any(choice.completion.text for choice in parsed):
        raise error or errors[0]
    reply = build_reply(parsed, metadata, notes)
    if not errors:
        return reply
    return replace(reply, completions=tuple(c for c in reply.completions if c.text or c.finish_reason != "error"))


def _read_envelope(envelope: Envelope, *, notes: Iterable[str] = (), **options: Any) -> Generator[None, None, Reply]:
    error = extract_error(envelope)
    if error:
        notes = [*notes, f"The reply contains an error besides its choices: {error}"]
    if note := nonsense_note(envelope.usage):
        notes = [*notes, note]
    usage = decode_counts(envelope.usage, WireUsage) or WireUsage()
    metadata = ReplyMetadata(
        model=decode_or_none(envelope.model, str),
        system_fingerprint=decode_or_none(envelope.system_fingerprint, str),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=count_cached_tokens(envelope.usage),
        counts_one_choice=has_value(envelope.timings),
    )
    return read_choices(envelope.choices or [], metadata, notes=notes, error=error, **options)


def extract_error(envelope: Envelope | Chunk) -> ProviderError | None:
    """Return the error in a reply, in any of the shapes that servers send with status 200."""
    if has_value(envelope.error):
        return error_responses.error_from_object(decode_or_none(envelope.error, object))
    message = decode_or_none(envelope.message, object)
    is_answer = isinstance(message, dict) and "role" in message  # in Ollama's or Cohere's native format
    if envelope.choices is None and not is_answer and (has_value(envelope.message) or has_value(envelope.detail)):
        return error_responses.error_from_object(
            {"message": message, "detail": decode_or_none(envelope.detail, object)}
        )
    return None
