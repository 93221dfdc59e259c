"""Checks of arguments that several packages share, and the form ``name:key=value`` of rules."""

from __future__ import annotations

import math

from swift_client.errors import ConfigurationError


def require_int(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raise ConfigurationError unless ``value`` is an int (not a bool) from ``low`` to ``high``."""
    limits = f"from {low} to {high:,}" if high is not None else f"of at least {low}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ConfigurationError(f"{name} must be a whole number {limits}, not {value!r}.")


def require_positive(name: str, value: object, *, unit: str = "of seconds") -> None:
    """Raise ConfigurationError unless ``value`` is a finite number (of ``unit``) above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise ConfigurationError(f"{name} must be a number {unit} above 0, not {value!r}.")


def parse_spec(spec: str, *, example: str) -> tuple[str, dict[str, int | float]]:
    """Parse a rule written as ``name`` or ``name:key=number:key=number``.

    Args:
        spec: the text, such as "beta:threshold=0.9:least=4".
        example: a correct text, for the error.

    Returns:
        The name, and the numbers by key: digits alone give an int, everything else a float.

    Raises:
        ConfigurationError: a setting is not ``key=number``.
    """
    name, *settings = spec.split(":")
    numbers: dict[str, int | float] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        try:
            number = float(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{setting!r} in {spec!r} is not a setting.", hint=f"Write settings as in {example!r}."
            ) from error
        numbers[key] = int(text) if text.isdigit() and math.isfinite(number) else number
    return name, numbers


def check_reference(reference: object) -> None:
    """Raise ConfigurationError unless ``reference`` is None or a text that is not empty."""
    if reference is not None and not (isinstance(reference, str) and reference.strip()):
        kind = "an empty text" if isinstance(reference, str) else type(reference).__name__
        raise ConfigurationError(f"reference= takes a text, not {kind}.", hint="Leave it out if there is none.")
