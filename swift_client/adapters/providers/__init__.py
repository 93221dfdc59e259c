"""The provider table: facts about each provider, and the providers that other packages add.

The table is three TOML files beside this one, ``model_vendors.toml``, ``hosts.toml`` and ``self_hosted.toml``; their
keys are explained in ``swift_client.adapters.providers.toml_table``. An entry has what was known on its date; what a
reply shows overrides it. The words of ``evidence``: *recording* (real bytes read), *source* (server or SDK code read),
*documentation*, *probe* (a dated live test by a third party), *issue thread*, *prior* (common knowledge that nobody has
checked again).

Other packages add providers with entry points of the group "swift_client.providers", read when a name is not in the
table::

    [project.entry-points."swift_client.providers"]
    acme = "acme_swift:PROVIDER"     # a Provider, or an iterable of them

They never replace an entry of the table.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from swift_client.adapters.providers.provider import Provider
from swift_client.adapters.providers.toml_table import load_providers
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

ENTRY_POINT_GROUP = "swift_client.providers"

_FOLDER = os.path.dirname(__file__)

MODEL_VENDORS = load_providers(os.path.join(_FOLDER, "model_vendors.toml"), earlier={})
HOSTS = load_providers(os.path.join(_FOLDER, "hosts.toml"), earlier=MODEL_VENDORS)
SELF_HOSTED = load_providers(os.path.join(_FOLDER, "self_hosted.toml"), earlier=MODEL_VENDORS)

# Name → provider, in the order in which tables list them.
PROVIDERS: Mapping[str, Provider] = MappingProxyType({**MODEL_VENDORS, **HOSTS, **SELF_HOSTED})


def find_provider(name: str) -> Provider | None:
    """Return the provider of this name from the table, else from an installed package, else None.

    Raises:
        ConfigurationError: the package cannot be imported, or its entry point is not a Provider of this name.
    """
    if name in PROVIDERS:
        return PROVIDERS[name]
    return next((_load_entry_point(point) for point in _entry_points() if point.name == name), None)


def added_provider_names() -> list[str]:
    """Return the names that installed packages add, without importing these packages."""
    return sorted({point.name for point in _entry_points()})


def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points  # takes 20 ms, and only unknown names need it

    return entry_points(group=ENTRY_POINT_GROUP)


def _load_entry_point(point: EntryPoint) -> Provider:
    package = point.dist.name if point.dist else point.module
    try:
        value = point.load()
    except Exception as error:  # another package's code may raise anything
        problem = f"{type(error).__name__}: {error}"
    else:
        rows = [value] if isinstance(value, Provider) else list(value) if isinstance(value, Iterable) else []
        row = next((row for row in rows if isinstance(row, Provider) and row.name == point.name), None)
        if row is not None:
            return row
        problem = f"{point.value} is not a Provider with the name {point.name!r}"
    raise ConfigurationError(
        f"The package {package!r} adds the provider {point.name!r}, which cannot be used. {problem}.",
        hint=f"Upgrade or remove {package}.",
        provider=point.name,
    )
