"""Removal of keys, passwords and control characters from everything that errors and notes show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from swift_client.display import escape_unsafe
from swift_client.errors import SwiftClientError

_MAX_SCRUBBED_CHARS = 100_000  # of a longer text only the start is used
_LONGEST_KEY_CHARS = 4_000
# Characters without a width, which no error message needs.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
# White space, control characters, and characters that repr() has escaped.
_GAP = re.compile(r"[\s\x00-\x1f\x7f-\x9f]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\[nrt]")
_GAPS = re.compile(f"(?:{_GAP.pattern})*")
_URL_PASSWORD = re.compile(r"(?<=//)[^/\s@'\"]*@")
_API_KEY_PATTERN = re.compile(
    r"\b(?:sk|gsk|xai|fw|hf|pplx|nvapi|tgp)[-_][\w.*-]{6,}|\bAIza[\w-]{10,}|(?<=Bearer )\S{6,}"
)


def redact_error(error: SwiftClientError, secrets: Sequence[str]) -> None:
    """Remove secrets from an error and its causes. Foreign causes are dropped: they may hold the whole reply."""
    if not secrets:
        return
    pending: list[SwiftClientError] = [error]
    redacted: set[int] = set()
    while pending:
        current = pending.pop()
        if id(current) in redacted:
            continue
        redacted.add(id(current))
        for name in ("message", "hint", "request_id", "param"):
            if isinstance(text := getattr(current, name, None), str):
                setattr(current, name, scrub(text, secrets))
        current.args = (current.message,)
        pending += getattr(current, "causes", ())
        for cause in (current.__cause__, current.__context__):
            if isinstance(cause, SwiftClientError):
                pending.append(cause)
        if not isinstance(current.__context__, SwiftClientError):
            current.__context__ = None
        if not isinstance(current.__cause__, SwiftClientError | None):
            current.__cause__ = None


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace every secret, and everything that looks like an API key or a URL's password, with ``***``.

    Control characters are escaped.
    A secret is also found in part, percent-encoded, and with invisible characters or white space inside it.
    """
    is_cut = len(text) > _MAX_SCRUBBED_CHARS
    text = _INVISIBLE.sub("", text[:_MAX_SCRUBBED_CHARS])
    for secret in secrets:
        for spelling in {secret, quote(secret, safe="")}:
            text = _strike(text, spelling)
    text = _URL_PASSWORD.sub("***@", text)
    text = escape_unsafe(_API_KEY_PATTERN.sub("***", text))
    return text[:-_LONGEST_KEY_CHARS] if is_cut else text  # the cut may have gone through a key


def _strike(text: str, secret: str) -> str:
    """Replace one spelling of a secret."""
    if len(secret) < 4:  # a placeholder such as "x", which would garble the message
        return text
    text = text.replace(secret, "***")
    if len(secret) < 8:
        return text
    # The secret with gaps in it, or only its beginning, which is left if a message was cut.
    beginning = secret[: max(8, min(12, len(secret) // 3))]
    while beginning in _GAP.sub("", text):
        match = re.search(f"(?:{_GAP.pattern})*".join(map(re.escape, beginning)), text)
        if match is None:
            break
        end = match.end()
        for char in secret[len(beginning) :]:
            gap = _GAPS.match(text, end)
            start = gap.end() if gap else end
            if text[start : start + 1] != char:
                break
            end = start + 1
        text = f"{text[: match.start()]}***{text[end:]}"
    return text
