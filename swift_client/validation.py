"""Checks of numeric arguments, shared by every public function that takes one."""

from __future__ import annotations

import math

from swift_client.errors import ConfigurationError


def require_int(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raise ConfigurationError unless ``value`` is an int, not a bool, in ``low..high`` (None: no upper limit)."""
    limits = f"from {low} to {high:,}" if high is not None else f"of at least {low}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ConfigurationError(f"{name} must be a whole number {limits}, not {value!r}.")


def require_positive(name: str, value: object, *, unit: str = "of seconds") -> None:
    """Raise ConfigurationError unless ``value`` is a finite number above 0; ``unit`` completes the message."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise ConfigurationError(f"{name} must be a number {unit} above 0, not {value!r}.")
