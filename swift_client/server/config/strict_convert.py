"""Values of a file or a request as structs: every type checked, unknown names refused with the similar one."""

from __future__ import annotations

import difflib
from typing import TypeVar

import msgspec

from swift_client.errors import ConfigurationError

T = TypeVar("T", bound=msgspec.Struct)


def convert(value: object, struct: type[T], place: str) -> T:
    """Return ``value`` as a struct; ``place`` names it in errors.

    Raises:
        ConfigurationError: a name is unknown, a value has the wrong type, or a required one is missing.
    """
    if isinstance(value, dict):
        for name in value.keys() - set(struct.__struct_fields__):
            close = difflib.get_close_matches(str(name), struct.__struct_fields__, 1)
            known = ", ".join(struct.__struct_fields__)
            raise ConfigurationError(
                f"{place}: {name!r} is unknown.", hint=f"Did you mean {close[0]!r}?" if close else f"Known: {known}."
            )
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}: {error}.") from error
