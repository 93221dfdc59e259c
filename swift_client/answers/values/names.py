"""Keys of names and phrases: their articles, dots, hyphens, accents and titles do not count."""

from __future__ import annotations


def name_key(text: str) -> str:
    """Return the key by which a name or a phrase is compared."""
    return text
