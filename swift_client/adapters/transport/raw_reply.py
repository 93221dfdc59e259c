"""A reply that is passed on as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RawReply:
    """One reply as it arrives, whatever its status.

    Attributes:
        status: HTTP status code, not a redirect.
        headers: Names in lower case.
        chunks: Bytes of the body, decompressed. Reading them raises SwiftClientError if the reply breaks off.
        secrets: Keys that the body may repeat.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    secrets: Sequence[str]
