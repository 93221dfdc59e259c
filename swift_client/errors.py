"""Every error that this package raises, in one tree.

::

    SwiftClientError
    ├── ConfigurationError            wrong before anything was sent
    │   ├── MissingApiKeyError
    │   ├── UnknownProviderError
    │   └── MissingExtraError
    ├── CapabilityError               the provider cannot do what was asked
    │   └── LogprobsUnavailableError
    ├── ProviderError                 one call failed
    │   ├── AuthenticationError       401, 403
    │   ├── BadRequestError           other 4xx
    │   ├── RateLimitError            429
    │   ├── ServerError               5xx
    │   ├── ConnectionFailedError
    │   ├── RequestTimeoutError
    │   └── ResponseDecodeError       a reply that is not what it claims to be
    ├── NoCompletionError             every call failed; each cause is inside
    ├── BudgetExceededError           the best so far is inside
    ├── RejectedError                 the answer is too unsure to be given; it is inside
    └── ArtifactError                 a head's file is not readable
        └── ArtifactMismatchError     readable, but made for something else
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swift_client.types import Completion, Selection


class SwiftClientError(Exception):
    """Base of every error here. ``str(error)`` is what happened, then what to do next."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        provider: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What happened, in one sentence; a provider's own sentence is kept."""
        self.hint = hint
        """What to do next, in one sentence; may be empty."""
        self.provider = provider
        """The provider row's name, where a provider was involved."""
        self.status = status
        """HTTP status code, where there was one."""
        self.request_id = request_id
        """The provider's id of the failed request, for its support desk."""
        self.retryable = retryable
        """Whether the same call may succeed later without a change."""

    def __str__(self) -> str:
        facts = [
            fact
            for fact in (
                self.provider,
                f"HTTP {self.status}" if self.status else None,
                f"request {self.request_id}" if self.request_id else None,
            )
            if fact
        ]
        where = f" ({', '.join(facts)})" if facts else ""
        return f"{self.message}{where} {self.hint}".rstrip()


class ConfigurationError(SwiftClientError):
    """A wrong argument or setting, found before anything was sent."""


class MissingApiKeyError(ConfigurationError):
    """No key was given and the provider's environment variable is not set."""


class UnknownProviderError(ConfigurationError):
    """The provider name is not a row of the table."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed; the message names the extra."""

    @classmethod
    def needs(cls, extra: str, purpose: str) -> MissingExtraError:
        """Build the error for ``purpose``, which needs ``pip install 'swift-client[extra]'``."""
        return cls(f"{purpose} needs the optional dependencies '{extra}'.", hint=f"pip install 'swift-client[{extra}]'")


class CapabilityError(SwiftClientError):
    """The provider or model cannot do what was asked."""


class LogprobsUnavailableError(CapabilityError):
    """``require_logprobs=True`` and the provider returns no token logprobs."""


class ProviderError(SwiftClientError):
    """One call to the provider failed."""


class AuthenticationError(ProviderError):
    """401 or 403: the key is wrong, or not allowed to do this."""


class BadRequestError(ProviderError):
    """Any other 4xx: the request itself is refused.

    ``param`` is the field that the provider named (``error.param``), where it named one.
    """

    param: str | None = None


class RateLimitError(ProviderError):
    """429. ``retry_after`` is the wait in seconds that the provider asked for, where it did."""

    retry_after: float | None = None


class ServerError(ProviderError):
    """5xx. ``retry_after`` as for :class:`RateLimitError`."""

    retry_after: float | None = None


class ConnectionFailedError(ProviderError):
    """No connection, or it broke before the reply ended.

    ``received`` is what had arrived of the body: completions in it are paid for, and a codec may find whole ones.
    """

    received: bytes = b""


class RequestTimeoutError(ProviderError):
    """No reply within the timeout."""


class ResponseDecodeError(ProviderError):
    """The reply is not the JSON that its wire format promises."""


class NoCompletionError(SwiftClientError):
    """No (or fewer than ``min_completions``) completions survived.

    ``causes`` holds every failure, ``completions`` those that came and were too few: they are paid for.
    """

    def __init__(
        self,
        message: str,
        *,
        causes: Sequence[SwiftClientError] = (),
        completions: Sequence[Completion] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint, retryable=any(cause.retryable for cause in causes))
        self.causes = tuple(causes)
        self.completions = tuple(completions)

    def __str__(self) -> str:
        distinct = list(dict.fromkeys(str(cause) for cause in self.causes))
        listed = "".join(f"\n  - {text}" for text in distinct)
        return f"{super().__str__()}{listed}"


class BudgetExceededError(SwiftClientError):
    """The budget ended before an answer could be chosen. ``best`` is the best so far, or None."""

    def __init__(self, message: str, *, best: Selection | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.best = best


class RejectedError(SwiftClientError):
    """``on_reject="abstain"``, and the answer is not known to hold the calibrated risk.

    ``selection`` is the choice that was not accepted, with what it cost.
    """

    def __init__(self, message: str, *, selection: Selection, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.selection = selection


class ArtifactError(SwiftClientError):
    """A head's file cannot be read, or is not a head."""


class ArtifactMismatchError(ArtifactError):
    """The head was trained for another model, k or feature set."""
