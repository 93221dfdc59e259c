"""The shapes of Google's ``generateContentResponse``, as msgspec structs that live only while a reply is decoded.

The wire is proto3's JSON, which leaves out what is zero: a missing ``logProbability`` is 0.0, a missing ``index`` 0,
and null is the same as missing. https://protobuf.dev/programming-guides/json
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_error,
    repair_json,
    salvage_array,
    truncation_note,
)


class Entry(Struct, rename="camel", gc=False):
    """One chosen or listed token."""

    token: str | None = None
    token_id: int | str | None = None
    log_probability: float | str | None = 0.0
    """Text where it is "NaN" or "-Infinity"."""

    @property
    def logprob(self) -> float | str:
        """What a missing or null number means in proto3."""
        return 0.0 if self.log_probability is None else self.log_probability

    @property
    def token_bytes(self) -> bytes:
        """The text in UTF-8; pieces of characters, which all read U+FFFD, are told apart by their number."""
        text = self.token or ""
        return (f"{text}#{self.token_id}" if "\ufffd" in text else text).encode("utf-8", "replace")


class TopCandidates(Struct, gc=False):
    """The alternatives of one token."""

    candidates: list[Entry] | None = None


class LogprobsResult(Struct, rename="camel", gc=False):
    """Two parallel lists, of T tokens each; the second is missing without ``logprobs: k``."""

    chosen_candidates: list[Entry] | None = None
    top_candidates: list[TopCandidates] | None = None


class Part(Struct, rename="camel", gc=False):
    """One part of an answer."""

    text: str | None = None
    thought: bool | None = None
    function_call: dict[str, Any] | None = None


class Content(Struct, gc=False):
    """The parts of an answer."""

    parts: list[Part] | None = None


class BareCandidate(Struct, rename="camel", gc=False):
    """One candidate without its logprobs."""

    index: int | None = None
    content: Content | None = None
    finish_reason: str | None = None


class Candidate(BareCandidate, rename="camel", gc=False):
    """One candidate, or in a stream its next piece."""

    logprobs_result: LogprobsResult | None = None


class Usage(Struct, rename="camel", gc=False):
    """Token counts; in a stream each piece has those up to there."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class GeminiResponse(Struct, rename="camel", gc=False):
    """A reply, or one event of a stream."""

    candidates: list[Raw] | None = None
    prompt_feedback: Raw = Raw()
    usage_metadata: Raw = Raw()
    model_version: Raw = Raw()
    response_id: Raw = Raw()
    error: Raw = Raw()


RESPONSE_DECODER = msgspec.json.Decoder(GeminiResponse)
_RESPONSE_LIST_DECODER = msgspec.json.Decoder(list[GeminiResponse])
_CANDIDATE_DECODER = msgspec.json.Decoder(Candidate)
_BARE_CANDIDATE_DECODER = msgspec.json.Decoder(BareCandidate)


def decode_responses(data: bytes) -> list[GeminiResponse]:
    """Decode a reply, or the list of them that a stream without ``alt=sse`` is; raise one of UNREADABLE."""
    if not data[:64].lstrip().startswith(b"["):
        return [RESPONSE_DECODER.decode(data)]
    return _RESPONSE_LIST_DECODER.decode(data)


def read_candidate(data: Raw) -> tuple[BareCandidate, str | None]:
    """Decode a candidate and say what is wrong with its logprobs; raise one of UNREADABLE."""
    try:
        return _CANDIDATE_DECODER.decode(data), None
    except DECODE_ERRORS:
        data = Raw(repair_json(data))
    try:
        return _CANDIDATE_DECODER.decode(data), None
    except DECODE_ERRORS:
        return _BARE_CANDIDATE_DECODER.decode(data), "has no logprobs: the server's are of an unknown shape"


def salvage_responses(
    data: bytes, problem: BaseException
) -> Generator[None, None, tuple[list[GeminiResponse], str | None]]:
    """Read a damaged reply as far as it is whole, and say so."""
    found = yield from salvage_array(data.decode("utf-8", "replace"), "candidates")
    whole, rest = found or ([], "")
    try:
        piece = RESPONSE_DECODER.decode(repair_json(rest.encode("utf-8", "replace")))
    except DECODE_ERRORS:
        if not whole:
            raise decode_error(data, problem, "reply of generateContent") from None
        return [GeminiResponse(candidates=whole)], truncation_note(len(whole))
    piece.candidates = whole
    return [piece], None
