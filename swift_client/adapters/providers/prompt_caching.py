"""Providers that bill a repeated prompt prefix at a lower price, and the rules of their caches.

Local servers cache too (vLLM, SGLang, llama.cpp, Ollama). That saves time but no money, so they have no rows here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """Rules by which a provider caches the beginning of a prompt.

    Attributes:
        min_tokens: prompt tokens from which on prompts are cached; the largest value if its models differ.
        step: tokens are cached in multiples of this.
        needs_cache_control: whether the request must ask for it with ``cache_control``.
        checked: ISO date on which these facts were last checked.
        evidence: their source.
    """

    min_tokens: int
    step: int = 1
    needs_cache_control: bool = False
    checked: str
    evidence: str

    def cached_tokens(self, prompt_tokens: int) -> int:
        """Return the number of tokens read from the cache when a prompt is sent again."""
        return prompt_tokens // self.step * self.step if prompt_tokens >= self.min_tokens else 0


_CHECK_DATE = "2026-11-23"
_OPENAI = PrefixCache(
    min_tokens=1024,
    step=128,
    checked=_CHECK_DATE,
    evidence="https://developers.openai.com/api/docs/guides/prompt-caching",
)
_GOOGLE = PrefixCache(  # 2.5 models from 2,048 on; hits are likely but not guaranteed
    min_tokens=4096, checked=_CHECK_DATE, evidence="https://ai.google.dev/gemini-api/docs/caching"
)

# Provider name → its cache. A provider that is not listed has none, or nobody has checked.
PREFIX_CACHES: Mapping[str, PrefixCache] = MappingProxyType(
    {
        "openai": _OPENAI,
        "openai-responses": _OPENAI,
        "azure": _OPENAI,
        "gemini": _GOOGLE,
        "vertex": _GOOGLE,
        "deepseek": PrefixCache(
            min_tokens=64, step=64, checked=_CHECK_DATE, evidence="https://api-docs.deepseek.com/guides/kv_cache"
        ),
        "anthropic": PrefixCache(  # Sonnet from 1,024 or 2,048 on
            min_tokens=4096,
            needs_cache_control=True,
            checked=_CHECK_DATE,
            evidence="https://platform.claude.com/docs/en/build-with-claude/prompt-caching",
        ),
    }
)
