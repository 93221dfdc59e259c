"""The loader of the provider table: TOML files with one table per provider.

``[name]`` has the fields of Provider and of Capabilities side by side; a field that is left out has its default
(``base_url``, ``key_variable``, ``default_model`` and ``n_max``: None; ``codec``: "openai_chat"). Besides these::

    checked = "2026-11-01"       # at the top of the file: date of every entry that has none of its own
    [shared.top_five]            # facts for several families of models, for `like`
    [[name.models]]              # families of models, most specific first; the first match counts
    match = ["gpt-5*", "o1*"]    # one pattern or several
    like = "top_five"            # the facts of [shared.top_five]; the entry's own override them
    models_from = "openai"       # in [name]: also the patterns of an earlier provider, before its own,
    models_prefix = "openai/"    # each with this prefix
"""

from __future__ import annotations

import os.path  # pathlib would take 3 ms at import
import tomllib
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

import msgspec

from swift_client.adapters.providers.provider import Capabilities, Provider
from swift_client.errors import ConfigurationError

_CAPABILITIES = frozenset(field.name for field in fields(Capabilities))
_CONNECTION = frozenset(field.name for field in fields(Provider)) - {"name", "capabilities", "models"}
_DEFAULTS = {"base_url": None, "key_variable": None, "codec": "openai_chat", "default_model": None}


class _FamilyKeys(TypedDict):
    """Keys of ``[[name.models]]`` besides the fields of Capabilities."""

    match: str | list[str]
    like: NotRequired[str]


class _EntryKeys(TypedDict, total=False):
    """Keys of ``[name]`` besides the fields of Provider and Capabilities."""

    models: list[_FamilyKeys]
    models_from: str
    models_prefix: str


def load_providers(path: str, earlier: Mapping[str, Provider]) -> Mapping[str, Provider]:
    """Return the providers of one file: name → provider, in the file's order.

    Args:
        path: the TOML file.
        earlier: providers of other files, which ``models_from`` may name.

    Raises:
        ConfigurationError: an unknown or missing key, or a wrong value; it names the file, the provider and the key.
    """
    with open(path, "rb") as file:
        tables = tomllib.load(file)
    checked, shared = tables.pop("checked", None), tables.pop("shared", {})
    providers: dict[str, Provider] = {}
    for name, table in tables.items():
        try:
            providers[name] = _build_provider(name, table, checked, shared, {**earlier, **providers})
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigurationError(
                f"{os.path.basename(path)}: the entry of provider {name!r} is wrong. {error}.",
                hint="toml_table.py lists the keys of an entry.",
                provider=name,
            ) from None
    return MappingProxyType(providers)


def _build_provider(
    name: str, table: Mapping[str, Any], checked: str, shared: Mapping[str, Any], earlier: Mapping[str, Provider]
) -> Provider:
    msgspec.convert(table, _EntryKeys)  # checks their types
    _check_keys(table, allowed=_CONNECTION | _CAPABILITIES | _EntryKeys.__annotations__.keys())
    connection = {key: value for key, value in table.items() if key in _CONNECTION}
    capabilities = {key: value for key, value in table.items() if key in _CAPABILITIES}
    capabilities = {"n_max": None, "checked": checked, **capabilities}
    provider = msgspec.convert({**_DEFAULTS, **connection, "name": name, "capabilities": capabilities}, Provider)

    models: list[tuple[str, Mapping[str, Any]]] = []
    if "models_from" in table:
        source = _look_up("models_from", table, earlier)
        models += [(table.get("models_prefix", "") + pattern, facts) for pattern, facts in source.models]
    for family in table.get("models", ()):
        facts = _read_facts(family, checked, shared)
        msgspec.convert({**capabilities, **facts}, Capabilities)  # checks the types of the values
        patterns = [family["match"]] if isinstance(family["match"], str) else family["match"]
        models += [(pattern, facts) for pattern in patterns]

    return replace(
        provider,
        models=tuple(models),
        extra_body=MappingProxyType(provider.extra_body),
        headers=MappingProxyType(provider.headers),
    )


def _read_facts(family: Mapping[str, Any], checked: str, shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the capabilities in which a family of models differs, with their date and evidence."""
    if "like" in family:
        family = {**_look_up("like", family, shared), **family}
    _check_keys(family, allowed=_CAPABILITIES | _FamilyKeys.__annotations__.keys())
    facts = {key: value for key, value in family.items() if key in _CAPABILITIES - {"checked", "evidence"}}
    return MappingProxyType({**facts, "checked": family.get("checked", checked), "evidence": family["evidence"]})


def _look_up(key: str, table: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return the target that ``table[key]`` names."""
    if table[key] not in targets:
        raise ValueError(f"{key!r} names {table[key]!r}, which is not there or comes later")
    return targets[table[key]]


def _check_keys(table: Mapping[str, Any], allowed: Set[str]) -> None:
    if unknown := sorted(table.keys() - allowed):
        raise ValueError(f"Unknown key {unknown[0]!r}")
    if not table.get("evidence"):
        raise ValueError("The key 'evidence' is missing")
