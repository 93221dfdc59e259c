"""Rows that other packages add: entry points of the group "swift_client.providers", read when a name is not ours.

::

    [project.entry-points."swift_client.providers"]
    acme = "acme_swift:ROW"          # a Provider, or an iterable of them

A row of ours is never replaced by one of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swift_client.adapters.providers.provider import Provider
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

ENTRY_POINT_GROUP = "swift_client.providers"


def provider_names() -> list[str]:
    """Return the names that installed packages add; none of them is imported."""
    return sorted({point.name for point in _entry_points()})


def load_provider(name: str) -> Provider | None:
    """Load the row that a package adds under ``name``; None where none does.

    Raises:
        ConfigurationError: the package cannot be imported, or what it names is no such row.
    """
    for point in _entry_points():
        if point.name == name:
            return _load_entry_point(point)
    return None


def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points  # 20 ms that only unknown names need

    return entry_points(group=ENTRY_POINT_GROUP)


def _load_entry_point(point: EntryPoint) -> Provider:
    package = point.dist.name if point.dist else point.module
    try:
        found = point.load()
    except Exception as error:  # another package's code may raise anything
        problem = f"{type(error).__name__}: {error}"
    else:
        rows = [found] if isinstance(found, Provider) else list(found) if isinstance(found, Iterable) else []
        row = next((row for row in rows if isinstance(row, Provider) and row.name == point.name), None)
        if row is not None:
            return row
        problem = f"{point.value} is no Provider with the name {point.name!r}"
    raise ConfigurationError(
        f"The package {package!r} adds the provider {point.name!r}, which cannot be used. {problem}.",
        hint=f"Upgrade or remove {package}.",
        provider=point.name,
    )
