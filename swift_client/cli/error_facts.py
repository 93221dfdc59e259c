"""Errors as exit codes and as JSON."""

from __future__ import annotations

from typing import Any

from swift_client.cli.command_words import CommandWords
from swift_client.display import escape_unsafe
from swift_client.errors import (
    AuthenticationError,
    BudgetExceededError,
    NoCompletionError,
    ProviderError,
    RejectedError,
    SwiftClientError,
)

USAGE, CONFIGURATION, PROVIDER, BUDGET, NO_COMPLETION = 2, 3, 4, 5, 6
CHANGED = 7
"""Exit code, with ``--fail`` only, of a command that found a change; it is no error."""


def exit_code(error: SwiftClientError) -> int:
    """Return the exit code for an error, so that scripts can tell errors apart."""
    match error:
        case AuthenticationError():
            return CONFIGURATION
        case ProviderError():
            return PROVIDER
        case BudgetExceededError():
            return BUDGET
        case NoCompletionError() | RejectedError():
            return NO_COMPLETION
    return CONFIGURATION


def error_facts(error: SwiftClientError, words: CommandWords) -> dict[str, Any]:
    """Return an error as JSON-ready values, in the words of the command."""
    hint = words.translate(error.hint)
    facts: dict[str, Any] = {
        "type": type(error).__name__,
        "message": words.describe(error).replace(escape_unsafe(hint), "", 1).strip(),
        "hint": hint,
        "provider": error.provider,
        "status": error.status,
        "request_id": error.request_id,
        "retryable": error.retryable,
    }
    if isinstance(error, NoCompletionError):
        facts["causes"] = [error_facts(cause, words) for cause in error.causes]
    if isinstance(error, BudgetExceededError):
        facts["best"] = error.best.to_dict() if error.best else None
    if isinstance(error, RejectedError):
        facts["selection"] = error.selection.to_dict()
    return facts
