"""The shapes of Google's ``generateContentResponse``, as msgspec structs that live only while a reply is decoded.

The wire is proto3's JSON, which leaves out what is zero: a missing ``logProbability`` is 0.0, a missing ``index`` 0,
and null is the same as missing. https://protobuf.dev/programming-guides/json
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import UNREADABLE, cut_note, repaired, salvaged, undecodable


class Entry(Struct, rename="camel", gc=False):
    """One chosen or listed token."""

    token: str | None = None
    token_id: int | str | None = None
    log_probability: float | str | None = 0.0
    """Text where it is "NaN" or "-Infinity"."""

    @property
    def number(self) -> float | str:
        """What a missing or null number means in proto3."""
        return 0.0 if self.log_probability is None else self.log_probability

    @property
    def spelled(self) -> bytes:
        """The text in UTF-8; pieces of characters, which all read U+FFFD, are told apart by their number."""
        text = self.token or ""
        return (f"{text}#{self.token_id}" if "\ufffd" in text else text).encode("utf-8", "replace")


class Listed(Struct, gc=False):
    """The alternatives of one token."""

    candidates: list[Entry] | None = None


class LogprobsResult(Struct, rename="camel", gc=False):
    """Two parallel lists, of T tokens each; the second is missing without ``logprobs: k``."""

    chosen_candidates: list[Entry] | None = None
    top_candidates: list[Listed] | None = None


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


class Piece(Struct, rename="camel", gc=False):
    """A reply, or one event of a stream."""

    candidates: list[Raw] | None = None
    prompt_feedback: Raw = Raw()
    usage_metadata: Raw = Raw()
    model_version: Raw = Raw()
    response_id: Raw = Raw()
    error: Raw = Raw()


PIECE = msgspec.json.Decoder(Piece)
_PIECES = msgspec.json.Decoder(list[Piece])
_CANDIDATE = msgspec.json.Decoder(Candidate)
_BARE = msgspec.json.Decoder(BareCandidate)


def pieces_of(data: bytes) -> list[Piece]:
    """Decode a reply, or the list of them that a stream without ``alt=sse`` is; raise one of UNREADABLE."""
    if not data[:64].lstrip().startswith(b"["):
        return [PIECE.decode(data)]
    return _PIECES.decode(data)


def read_candidate(data: Raw) -> tuple[BareCandidate, str | None]:
    """Decode a candidate and say what is wrong with its logprobs; raise one of UNREADABLE."""
    try:
        return _CANDIDATE.decode(data), None
    except UNREADABLE:
        data = Raw(repaired(data))
    try:
        return _CANDIDATE.decode(data), None
    except UNREADABLE:
        return _BARE.decode(data), "has no logprobs: the server's are of an unknown shape"


def salvaged_pieces(data: bytes, problem: BaseException) -> Generator[None, None, tuple[list[Piece], str | None]]:
    """Read a damaged reply as far as it is whole, and say so."""
    found = yield from salvaged(data.decode("utf-8", "replace"), "candidates")
    whole, rest = found or ([], "")
    try:
        piece = PIECE.decode(repaired(rest.encode("utf-8", "replace")))
    except UNREADABLE:
        if not whole:
            raise undecodable(data, problem, "reply of generateContent") from None
        return [Piece(candidates=whole)], cut_note(len(whole))
    piece.candidates = whole
    return [piece], None
