"""The frozen public face: JSON documents in ``golden/`` and small files in ``files/``.

Where a change of the public face is meant, ``FACE_REGENERATE=1 python -m pytest tests/face`` writes the documents anew
(and ``FACE_REGENERATE=files`` the files too, which no release may need); the diff then says what users will notice.
"""

from __future__ import annotations

import enum
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FILES = FOLDER / "files"
REGENERATE = os.environ.get("FACE_REGENERATE", "")
WIDTH = 120


def recorded(name: str, values: object) -> Any:
    """Return ``golden/<name>.json``; write the present values there first if that is requested."""
    path = FOLDER / "golden" / f"{name}.json"
    if REGENERATE:
        path.write_text(pretty(json.loads(json.dumps(values, allow_nan=False))) + "\n")
    return json.loads(path.read_text())


def golden(name: str, values: object) -> None:
    """Compare the values with ``golden/<name>.json``, including the order of members."""
    frozen, plain = recorded(name, values), json.loads(json.dumps(values, allow_nan=False))
    assert plain == frozen
    assert json.dumps(plain) == json.dumps(frozen)


def pretty(value: Any, depth: int = 0, room: int = WIDTH) -> str:
    """Write JSON on one line if it fits, else one member per line."""
    line = json.dumps(value)
    if len(line) <= room - depth or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty(item, depth + 1, room - len(key) - 4)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * depth + "}"
    if not any(isinstance(item, (dict, list)) for item in value):
        return "[" + joined_lines([json.dumps(item) for item in value], inner) + "]"
    return "[\n" + ",\n".join(inner + pretty(item, depth + 1, room) for item in value) + "\n" + " " * depth + "]"


def joined_lines(parts: list[str], inner: str) -> str:
    """Join short values, as many per line as fit."""
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > WIDTH - 10 and lines[-1]:
            lines.append("")
        lines[-1] += f"{part}, "
    return ("\n" + inner).join(line.rstrip() for line in lines).removesuffix(",")


def signature(function: Callable[..., Any]) -> list[str]:
    """Describe the parameters in their order: "name", "name=default", after "*" those that go by name alone."""
    parts: list[str] = []
    named = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            named = True
            parts.append("*")
        named = named or parameter.kind is parameter.VAR_POSITIONAL
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={spelled(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{default}")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parts.append("/")
    return parts


def spelled(value: object) -> str:
    """Spell a default without saying where it is defined."""
    if value is ...:
        return "..."
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(spelled, value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {spelled(item)}" for key, item in value.items()) + "}"
    if repr(value) == "<factory>":
        return "<factory>"
    return f"<{'function' if inspect.isroutine(value) else type(value).__name__}>"


def described(thing: object) -> object:
    """Describe a public object: a function by its parameters, a class by its constructor and public members."""
    if inspect.isclass(thing) and not issubclass(thing, enum.Enum):
        return {"(": signature(thing), **members(thing)}
    if inspect.isroutine(thing):
        return signature(thing)
    return spelled(thing)


def members(kind: type) -> dict[str, object]:
    """Describe the public members of a class without those of Python's built-in bases."""
    builtin_names = {name for base in kind.__mro__ if base.__module__ == "builtins" for name in vars(base)}
    descriptions: dict[str, object] = {}
    for name in sorted(set(dir(kind)) - builtin_names):
        if name.startswith("_") and name not in ("__call__", "__enter__", "__aenter__", "__iter__", "__len__"):
            continue
        static = inspect.getattr_static(kind, name)
        if isinstance(static, (classmethod, staticmethod)):
            descriptions[name] = [f"@{type(static).__name__}", *signature(getattr(kind, name))]
        elif inspect.isroutine(static):
            descriptions[name] = signature(static)
        else:
            descriptions[name] = "attribute"
    return descriptions


def keys(document: object) -> list[str]:
    """List a JSON document's keys, "outer.inner" and "list[].inner"; a list's members have theirs together."""
    return list(dict.fromkeys(_paths(document, "")))


def _paths(value: object, above: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{above}{name}"
            yield from _paths(item, f"{above}{name}.")
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, f"{above.removesuffix('.')}[].")
