"""The packages that the integrations are for: guidance if one is missing, and their errors in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from swift_client.errors import (
    ConnectionFailedError,
    MissingExtraError,
    NoCompletionError,
    ProviderError,
    RequestTimeoutError,
    SwiftClientError,
)

_MODULES = ("langchain_core.exceptions", "pydantic_ai.exceptions", "litellm", "dspy.utils.exceptions")
# Names of classes, one per module above, by HTTP status; 400 and 500 stand for all others of their hundred.
_CLASSES: dict[int | type, tuple[str, ...]] = {
    401: ("ModelAuthenticationError", "ModelAuthenticationError", "AuthenticationError", "LMAuthError"),
    403: ("ModelPermissionDeniedError", "ModelAuthenticationError", "AuthenticationError", "LMAuthError"),
    404: ("ModelNotFoundError", "ModelNotFoundError", "NotFoundError", "LMInvalidRequestError"),
    429: ("ModelRateLimitError", "ModelRateLimitError", "RateLimitError", "LMRateLimitError"),
    400: ("ModelInvalidRequestError", "ModelRequestRejectedError", "BadRequestError", "LMInvalidRequestError"),
    500: ("ModelAPIError", "ModelServerError", "InternalServerError", "LMServerError"),
    RequestTimeoutError: ("ModelTimeoutError", "ModelTimeoutError", "Timeout", "LMTimeoutError"),
    ConnectionFailedError: ("ModelConnectionError", "ModelConnectionError", "APIConnectionError", "LMTransportError"),
}


@contextmanager
def peer_package(name: str) -> Iterator[None]:
    """Import another package inside this block; if it is missing, the error says how to install it.

    Raises:
        MissingExtraError: a module that is imported in the block is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"This integration needs the package {name}.", hint=f"pip install {name}") from error


@contextmanager
def translated_errors(module: ModuleType | None, model: str) -> Iterator[None]:
    """Raise errors of the provider in this block as another package does, with ours as their cause.

    Several errors of one call count as the first one, and a reply that could not be read as a failure of the server.
    Errors without a provider, such as a wrong argument, stay ours; only LiteLLM, which repeats calls after errors that
    it does not know, gets them as a wrong request.

    Args:
        module: the module of its error classes, one of the table above; None: all errors stay ours.
        model: provider and model, for the error.
    """
    try:
        yield
    except SwiftClientError as error:
        causes = error.causes if isinstance(error, NoCompletionError) else (error,)
        cause = next((cause for cause in causes if isinstance(cause, ProviderError)), None)
        if module is None or (cause is None and module.__name__ != "litellm"):
            raise
        raise _translate(module, cause or ProviderError("", status=400), str(error), model) from error


def _translate(module: ModuleType, error: ProviderError, text: str, model: str) -> Exception:
    status = error.status or 500
    key: int | type = status if status in _CLASSES else 400 if 400 <= status < 500 else 500
    name = _CLASSES.get(type(error), _CLASSES[key])[_MODULES.index(module.__name__)]
    create: Callable[..., Exception] = getattr(module, name)
    match module.__name__:
        case "pydantic_ai.exceptions" if error.status:
            for_category: Callable[..., Exception] = module.ModelHTTPError.for_category
            return for_category(create, status_code=status, model_name=model, body={"message": text})
        case "pydantic_ai.exceptions":
            return create(model, text)
        case "litellm":
            return create(message=text, model=model, llm_provider=error.provider)
        case "dspy.utils.exceptions":
            return create(text, model=model, provider=error.provider, status=error.status, request_id=error.request_id)
    return create(text)
