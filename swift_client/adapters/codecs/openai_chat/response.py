"""Decoding of a chat completion reply, choice by choice."""

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
from swift_client.adapters.codecs.reply import ParsedChoice, build_reply, count_cached_tokens
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport import error_responses
from swift_client.errors import ProviderError, ResponseDecodeError


def read_body(
    data: bytes, *, top_logprobs: int | None = None, token_ids: bool = False, echo: bool = False
) -> Generator[None, None, Reply]:
    """Decode a body, yielding after each choice.

    Args:
        data: the body of a response with status 200.
        top_logprobs: number of columns of every ``top_logprobs``; None means the longest list of each completion.
        token_ids: whether to fill in ``top_ids``.
        echo: whether the prompt may precede the answers.

    Raises:
        ResponseDecodeError: the data is not a chat completion, and contains no complete choice.
        ProviderError: the reply contains an error instead of choices.
    """
    options: dict[str, Any] = {"top_logprobs": top_logprobs, "token_ids": token_ids, "echo": echo}
    # Fast path for a reply without faults.
    envelope = split_choices_fast(data)
    if envelope:
        with suppress(*DECODE_ERRORS):
            return (yield from _read_envelope(envelope, strict=True, **options))
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
    """Decode choices one by one, yielding after each, and build the Reply.

    Args:
        choices: the JSON of each choice.
        usage: token counts of the reply, as reported.
        cached_tokens: prompt tokens read from a cache, as reported.
        model: as reported.
        usage_counts_one_choice: whether ``usage`` counts the completion tokens of one choice only.
        notes: further notes for the user.
        strict: whether to raise ValueError or RecursionError for an unreadable choice, instead of adding a note.
        has_ties: whether equal logprobs are to be expected.
        top_logprobs: as for :func:`read_body`, like ``token_ids`` and ``echo``.
        token_ids: see ``top_logprobs``.
        echo: see ``top_logprobs``.
    """
    usage = usage or WireUsage()
    options: dict[str, Any] = {
        "top_logprobs": top_logprobs,
        "token_ids": token_ids,
        "prompt_tokens": (usage.prompt_tokens or 0) if echo else 0,
    }
    parsed: list[ParsedChoice] = []
    n_unreadable = 0
    for choice in choices:
        has_ties = parsed[-1].has_ties if parsed else has_ties  # if one choice has ties, the next one has too
        try:
            parsed.append(read_choice(choice, with_texts=has_ties, **options))
        except DECODE_ERRORS:
            if strict:
                raise
            n_unreadable += 1
        yield
    if n_unreadable:
        notes = [*notes, f"{n_unreadable} choice(s) of the reply cannot be read and are left out."]
    return build_reply(
        parsed,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=cached_tokens,
        usage_counts_one_choice=usage_counts_one_choice,
        model=model,
        notes=notes,
    )


def _read_envelope(envelope: Envelope, *, notes: Iterable[str] = (), **options: Any) -> Generator[None, None, Reply]:
    error = extract_error(envelope)
    if error:
        notes = [*notes, f"The reply contains an error besides its choices: {error}"]
    return read_choices(
        envelope.choices or [],
        usage=decode_or_none(envelope.usage, WireUsage),
        cached_tokens=count_cached_tokens(envelope.usage),
        model=decode_or_none(envelope.model, str),
        usage_counts_one_choice=has_value(envelope.timings),
        notes=notes,
        **options,
    )


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
