"""The JSON schema of Google's ``generateContentResponse`` as msgspec structs.

It is proto3's JSON, which leaves out zeros: a missing ``logProbability`` is 0.0, a missing ``index`` 0, and null is the
same as missing. https://protobuf.dev/programming-guides/json
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from swift_client.adapters.codecs.lenient_json import (
    DECODE_ERRORS,
    decode_error,
    decode_or_repair,
    repair_json,
    salvage_array,
    truncation_note,
)


class Entry(Struct, rename="camel", gc=False):
    """One chosen or listed token."""

    token: str | None = None
    token_id: int | str | None = None
    log_probability: float | str | None = 0.0  # the texts "NaN" and "-Infinity" occur

    @property
    def logprob(self) -> float | str:
        """The logprob; a missing or null number means 0 in proto3."""
        return 0.0 if self.log_probability is None else self.log_probability

    @property
    def token_bytes(self) -> bytes:
        """The text in UTF-8; pieces of a character, which all read U+FFFD, are distinguished by their id."""
        text = self.token or ""
        return (f"{text}#{self.token_id}" if "\ufffd" in text else text).encode("utf-8", "replace")


class TopCandidates(Struct, gc=False):
    """The alternatives of one token."""

    candidates: list[Entry] | None = None


class LogprobsResult(Struct, rename="camel", gc=False):
    """Two parallel lists of T tokens each; without ``logprobs: k`` the second is missing."""

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
    """One candidate, or its next piece in a stream."""

    logprobs_result: LogprobsResult | None = None


class Usage(Struct, rename="camel", gc=False):
    """Token counts; in a stream, each piece has the counts so far."""

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
    """Decode a reply, or the list of a stream without ``alt=sse``; raise one of DECODE_ERRORS."""
    if not data[:64].lstrip().startswith(b"["):
        return [RESPONSE_DECODER.decode(data)]
    return _RESPONSE_LIST_DECODER.decode(data)


def read_candidate(data: Raw) -> tuple[BareCandidate, str | None]:
    """Decode a candidate; also return the fault of its logprobs, if any; raise one of DECODE_ERRORS."""
    try:
        return decode_or_repair(_CANDIDATE_DECODER.decode, data), None
    except DECODE_ERRORS:
        bare = decode_or_repair(_BARE_CANDIDATE_DECODER.decode, data)
        return bare, "has no logprobs: the server sent them in an unknown shape"


def salvage_responses(
    data: bytes, problem: BaseException
) -> Generator[None, None, tuple[list[GeminiResponse], str | None]]:
    """Decode a damaged reply up to the damage; also return a note if it is cut."""
    salvaged = yield from salvage_array(data.decode("utf-8", "replace"), "candidates")
    complete, rest = salvaged or ([], "")
    try:
        piece = RESPONSE_DECODER.decode(repair_json(rest.encode("utf-8", "replace")))
    except DECODE_ERRORS:
        if not complete:
            raise decode_error(data, problem, "reply of generateContent") from None
        return [GeminiResponse(candidates=complete)], truncation_note(len(complete))
    piece.candidates = complete
    return [piece], None


# Field names which show that an object of the google-genai client dumped itself, with Python's names.
PYTHON_FIELD_NAMES = (b"usage_metadata", b"finish_reason", b"prompt_feedback")


def to_camel_case(data: bytes) -> bytes:
    """Rename google-genai's Python field names to the wire format's: ``usage_metadata`` to ``usageMetadata``."""
    try:
        return msgspec.json.encode(_rename_fields(msgspec.json.decode(data)))
    except DECODE_ERRORS:
        return data


def _rename_fields(value: Any) -> Any:
    if isinstance(value, list):
        return [_rename_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {_camel_case_name(name): item if name == "args" else _rename_fields(item) for name, item in value.items()}


def _camel_case_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
