"""Numbers in English words."""

from __future__ import annotations

from swift_client.answers.values.value import Value


def parse_number_words(text: str, written: str) -> Value | None:
    """Return the number that ``text`` in lower case is as a whole, in words; or None."""
    return None
