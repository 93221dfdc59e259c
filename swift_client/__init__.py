"""Best-of-N answer selection from token logprobs, for any language model API.

``SwiftReranker(provider="openai").best_of(prompt, n=16)`` samples N answers, reads the token logprobs of each, scores
the answers on the client and returns the best one with everything that the choice rests on.

Importing this package loads no provider SDK, opens no socket and reads no key.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swift_client.pricing import Price
    from swift_client.reranker import AsyncCascade, AsyncSwiftReranker, Cascade, SwiftReranker, parse_response, rank
    from swift_client.sampling.budget import Budget
    from swift_client.sampling.rate_limiter import RateLimit
    from swift_client.types import Candidate, Completion, Event, Failure, Selection, Usage, Verification
    from swift_client.verify.verifier import Verifier

__version__ = "0.2.0"

__all__ = [
    "AsyncCascade",
    "AsyncSwiftReranker",
    "Budget",
    "Candidate",
    "Cascade",
    "Completion",
    "Event",
    "Failure",
    "Price",
    "RateLimit",
    "Selection",
    "SwiftReranker",
    "Usage",
    "Verification",
    "Verifier",
    "__version__",
    "parse_response",
    "rank",
]

# numpy and the codecs load on first use, so that `import swift_client` is cheap.
_PUBLIC_NAMES = {
    "swift_client.reranker": (
        "AsyncCascade",
        "AsyncSwiftReranker",
        "Cascade",
        "SwiftReranker",
        "parse_response",
        "rank",
    ),
    "swift_client.sampling": ("Budget", "RateLimit"),
    "swift_client.pricing": ("Price",),
    "swift_client.types": ("Candidate", "Completion", "Event", "Failure", "Selection", "Usage", "Verification"),
    "swift_client.verify.verifier": ("Verifier",),
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    for module, names in _PUBLIC_NAMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
