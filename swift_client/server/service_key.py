"""The service's own keys for providers, from environment variables."""

from __future__ import annotations

import os

from swift_client.errors import MissingApiKeyError


def read_service_key(variable: str | None) -> str | None:
    """Return the key in a variable; None without one, so that the provider's own variable is read.

    Raises:
        MissingApiKeyError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise MissingApiKeyError(
            f"The environment variable {variable!r} is not set.", hint="It must contain the upstream key."
        )
    return key
