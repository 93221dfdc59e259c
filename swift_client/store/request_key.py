"""Which request a stored completion answers: equal keys are equal questions, asked in the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from swift_client.store.records import StoredQuestion
from swift_client.store.rows import to_json
from swift_client.types import Message

_IGNORED_FIELDS = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields of a request that say who asks, how fast and what is logged: no answer depends on them."""


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """A request, without how many completions it wants: those are numbered."""

    provider: str
    model: str | None
    base_url: str | None
    """Where it goes; credentials and query are left out of the key and of the file."""
    messages: tuple[Message, ...]
    top_logprobs: int | None
    """Alternatives a token that are asked for; None where no logprobs are."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields that go to the provider: ``temperature``, ``max_tokens``, ..."""
    seed: int | None = None
    """Completion i is asked for with ``seed`` + i."""
    head: str | None = None
    """Digest of the head whose projections a local model computes while it answers; None otherwise."""

    @cached_property
    def settings_json(self) -> str:
        """All but the messages, as JSON. Raises ConfigurationError for a field that JSON cannot hold."""
        return to_json(
            {
                "provider": self.provider,
                "model": self.model,
                "base_url": None if self.base_url is None else _strip_credentials(self.base_url),
                "top_logprobs": self.top_logprobs,
                "sampling": {name: value for name, value in self.sampling.items() if name not in _IGNORED_FIELDS},
                "seed": self.seed,
                "head": self.head,
            }
        )

    @cached_property
    def question(self) -> StoredQuestion:
        """The question, whose id is the key. Raises ConfigurationError for a field that JSON cannot hold."""
        parts = [json.loads(self.settings_json), json.loads(to_json(self.messages))]
        plain = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return StoredQuestion(id=f"asked-{hashlib.sha256(plain.encode()).hexdigest()[:32]}", messages=self.messages)


def _strip_credentials(url: str) -> str:
    """Return an address without user, password, query and fragment, any of which may be a key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
