"""The tree of all errors that this package raises.

::

    SwiftClientError
    ├── ConfigurationError            wrong argument or setting; nothing was sent
    │   ├── MissingApiKeyError
    │   ├── UnknownProviderError
    │   ├── UnknownSelectionError     feedback names a selection that is not in the samples file
    │   └── MissingExtraError
    ├── CapabilityError               the provider or model cannot do this
    │   └── LogprobsUnavailableError
    ├── ProviderError                 one call failed
    │   ├── AuthenticationError       401, 403
    │   ├── BadRequestError           other 4xx
    │   ├── RateLimitError            429
    │   ├── ServerError               5xx
    │   ├── ConnectionFailedError
    │   ├── RequestTimeoutError
    │   └── ResponseDecodeError       the reply is not valid
    ├── NoCompletionError             too few completions; ``causes`` has every error
    ├── VerificationError             no judgement arrived; ``causes`` has every error
    ├── BudgetExceededError           ``best`` is the best selection so far
    ├── RejectedError                 the answer was not accepted; ``selection`` has it
    └── ArtifactError                 a head's file cannot be read
        └── ArtifactMismatchError     readable, but trained for another model or features
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.types import Completion, Selection


class SwiftClientError(Exception):
    """Base class of all errors; ``str(error)`` says what happened and what to do next."""

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
        """What happened, in one sentence; includes the provider's own message."""
        self.hint = hint
        """What to do next, in one sentence; may be empty."""
        self.provider = provider
        """Name of the provider, or None if no provider was involved."""
        self.status = status
        """HTTP status code, if there was one."""
        self.request_id = request_id
        """The provider's id of the failed request, for its support."""
        self.retryable = retryable
        """Whether the same call may succeed if it is repeated later."""

    def __str__(self) -> str:
        status = f"HTTP {self.status}" if self.status else None
        request = f"request {self.request_id}" if self.request_id else None
        provider = None if f"{self.provider!r}" in self.message else self.provider
        facts = ", ".join(filter(None, (provider, status, request)))
        # A server's text must not move a terminal's cursor or colour a log.
        return escape_unsafe(f"{self.message}{f' ({facts})' if facts else ''} {self.hint}".rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without calling ``__init__``, whose arguments differ per class."""
        return _restore_error, (type(self), self.args), self.__dict__


def _restore_error(kind: type[SwiftClientError], args: tuple[Any, ...]) -> SwiftClientError:
    return kind.__new__(kind, *args)


class ConfigurationError(SwiftClientError):
    """A wrong argument or setting; nothing was sent."""


class MissingApiKeyError(ConfigurationError):
    """The API key is missing: no argument, and no environment variable of the provider."""


class UnknownProviderError(ConfigurationError):
    """The provider name is unknown."""


class UnknownSelectionError(ConfigurationError):
    """The samples file has no selection with this id."""

    @classmethod
    def of_file(cls, selection_id: str, path: object) -> UnknownSelectionError:
        """Return the error for an id and the path of the samples file that lacks it."""
        return cls(
            f"{path} has no selection {selection_id[:80]!r}.",
            hint="Check the id, and that the choice was made with this samples file.",
        )


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed; the message names the extra."""

    @classmethod
    def needs(cls, extra: str, purpose: str) -> MissingExtraError:
        """Return the error for ``purpose``, which needs ``pip install 'swift-client[extra]'``."""
        return cls(f"{purpose} needs the optional dependencies '{extra}'.", hint=f"pip install 'swift-client[{extra}]'")


class CapabilityError(SwiftClientError):
    """The provider or model lacks a requested capability."""


class LogprobsUnavailableError(CapabilityError):
    """The provider returns no token logprobs, and ``require_logprobs=True``."""


class ProviderError(SwiftClientError):
    """One call to the provider failed."""


class AuthenticationError(ProviderError):
    """HTTP 401 or 403: the key is wrong or lacks permission."""


class BadRequestError(ProviderError):
    """Any other HTTP 4xx: the provider refused the request.

    Attributes:
        param: The request parameter that the provider named (``error.param``), if any.
    """

    param: str | None = None


class RateLimitError(ProviderError):
    """HTTP 429: too many requests.

    Attributes:
        retry_after: Seconds to wait, if the provider said so.
    """

    retry_after: float | None = None


class ServerError(ProviderError):
    """HTTP 5xx: the provider failed.

    Attributes:
        retry_after: Seconds to wait, if the provider said so.
    """

    retry_after: float | None = None


class ConnectionFailedError(ProviderError):
    """The connection failed, or broke before the reply ended.

    Attributes:
        received: The part of the body that arrived: completions in it are paid for, and a codec may find
            complete ones.
    """

    received: bytes = b""


class RequestTimeoutError(ProviderError):
    """The reply did not arrive within the timeout."""


class ResponseDecodeError(ProviderError):
    """The reply is not valid JSON of the provider's wire format."""


class NoCompletionError(SwiftClientError):
    """No completion, or fewer than ``min_completions``, could be sampled."""

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
        """The error of every failed call."""
        self.completions = tuple(completions)
        """The completions that arrived, which are paid for but too few."""

    def __str__(self) -> str:
        causes = dict.fromkeys(str(cause) for cause in self.causes)
        return super().__str__() + "".join(f"\n  - {cause}" for cause in causes)


class VerificationError(SwiftClientError):
    """No judgement of a required verifier arrived."""

    def __init__(
        self,
        message: str,
        *,
        causes: Sequence[SwiftClientError] = (),
        selection: Selection | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint, retryable=any(cause.retryable for cause in causes))
        self.causes = tuple(causes)
        """The error of every failed judgement."""
        self.selection = selection
        """The choice without the verifier, which is paid for."""


class BudgetExceededError(SwiftClientError):
    """The budget was used up before an answer could be chosen."""

    def __init__(self, message: str, *, best: Selection | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.best = best
        """The best selection so far, or None."""


class RejectedError(SwiftClientError):
    """The answer was not accepted at the calibrated risk, and ``on_reject="abstain"``."""

    def __init__(self, message: str, *, selection: Selection, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.selection = selection
        """The selection that was not accepted, with its cost."""


class ArtifactError(SwiftClientError):
    """A head's file cannot be read or written, or is not a head."""


class ArtifactMismatchError(ArtifactError):
    """The head was trained for another model, k or feature set."""
