"""How many tokens of a prompt a provider read from its cache, by any provider's name for it."""

from __future__ import annotations

from msgspec import Raw, Struct, field

from swift_client.adapters.codecs.lenient_json import decode_or_none


class _Details(Struct, gc=False):
    cached_tokens: int | None = None


class _Counts(Struct, gc=False):
    prompt_tokens_details: _Details | None = None
    """OpenAI's chat, and most that follow it."""
    input_tokens_details: _Details | None = None
    """OpenAI's Responses."""
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek."""
    cache_read_input_tokens: int | None = None
    """Anthropic."""
    google: int | None = field(name="cachedContentTokenCount", default=None)


def count_cached_tokens(usage: Raw) -> int:
    """Return the count that a reply's usage object holds; 0 where there is none, or nothing readable."""
    counts = decode_or_none(usage, _Counts) or _Counts()
    details = counts.prompt_tokens_details or counts.input_tokens_details or _Details()
    given = (
        details.cached_tokens,
        counts.prompt_cache_hit_tokens,
        counts.cache_read_input_tokens,
        counts.google,
    )
    return max(0, *(count or 0 for count in given))
