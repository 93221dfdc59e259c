"""The shapes of OpenAI's Responses API, as msgspec structs that live only while a reply is decoded."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from swift_client.adapters.tolerant import lenient


class Part(Struct, gc=False):
    """One part of a message."""

    text: str | None = None
    refusal: str | None = None
    logprobs: list[Raw] | None = None


class Item(Struct, gc=False):
    """One item of the output: a message, reasoning, a call."""

    type: str | None = None
    phase: str | None = None
    """"commentary" on what the model is doing, before the "final_answer"."""
    content: list[Raw] | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class Incomplete(Struct, gc=False):
    """Why a response ended early."""

    reason: str | None = None


class Usage(Struct, gc=False):
    """Token counts; reasoning is part of the output."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Response(Struct, gc=False):
    """The whole response, as a body or inside the events that begin and end a stream."""

    output: list[Raw] | None = None
    status: str | None = None
    incomplete_details: Incomplete | None = None
    usage: Raw = Raw()
    model: Raw = Raw()
    error: Raw = Raw()


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str | None = None
    response: Raw = Raw()
    output_index: int | None = None
    content_index: int | None = None
    delta: Raw = Raw()
    logprobs: list[Raw] | None = None
    item: Raw = Raw()
    error: Raw = Raw()
    code: Any = None
    message: str | None = None


class Listed(Struct, gc=False):
    """One chosen or listed token, for mixing a delta's number with the final object's bytes."""

    token: str | None = None
    logprob: float | None = None
    bytes: Raw | UnsetType = UNSET
    top_logprobs: list[Listed] | UnsetType = UNSET


EVENT = msgspec.json.Decoder(Event)
RESPONSE = msgspec.json.Decoder(Response)


def mixed(exact: list[Raw], final: list[Raw]) -> list[Raw]:
    """Give the deltas' entries the final ones' bytes, where those are of the same tokens."""
    if len(exact) != len(final):
        return exact
    return [_mixed_entry(one, two) for one, two in zip(exact, final, strict=True)]


def _mixed_entry(exact: Raw, final: Raw) -> Raw:
    if b'"bytes"' in bytes(exact):
        return exact
    one, two = lenient(exact, Listed), lenient(final, Listed)
    if one is None or two is None or one.token != two.token:
        return exact
    pairs = [(one, two), *zip(one.top_logprobs or (), two.top_logprobs or (), strict=False)]
    for mine, theirs in pairs:
        if mine.token == theirs.token:
            mine.bytes = theirs.bytes
    return Raw(msgspec.json.encode(one))
