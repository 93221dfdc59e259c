"""Which providers read a prompt that they have just seen from a cache, at a lower price, and from what length on.

Local servers cache too (vLLM, SGLang, llama.cpp, Ollama), which saves time and no money: they have no rows here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """How a provider caches the beginning of a prompt."""

    min_tokens: int
    """Prompt tokens from which on there is any caching; the largest of its models' where they differ."""
    step: int = 1
    """Tokens are cached in whole steps of so many."""
    needs_cache_control: bool = False
    """Whether the request must ask for it with ``cache_control``."""
    checked: str
    """ISO date on which these facts were last checked."""
    evidence: str
    """Where they come from."""

    def cached_tokens(self, prompt_tokens: int) -> int:
        """Return how many tokens of a prompt that was sent before are read from the cache."""
        return prompt_tokens // self.step * self.step if prompt_tokens >= self.min_tokens else 0


_CHECK_DATE = "2026-11-23"
_OPENAI = PrefixCache(
    min_tokens=1024,
    step=128,
    checked=_CHECK_DATE,
    evidence="https://developers.openai.com/api/docs/guides/prompt-caching",
)
_GOOGLE = PrefixCache(  # 2.5 models from 2,048 on; hits are likely, not promised
    min_tokens=4096, checked=_CHECK_DATE, evidence="https://ai.google.dev/gemini-api/docs/caching"
)

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
"""Name of a provider row → its cache. A row that is not here has none, or nobody has checked."""
