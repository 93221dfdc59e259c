"""What is frozen: JSON documents in ``golden/``, small files in ``files/``.

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


def recorded(name: str, found: object) -> Any:
    """Return ``golden/<name>.json``; what was found is written there where that is asked for."""
    path = FOLDER / "golden" / f"{name}.json"
    if REGENERATE:
        path.write_text(pretty(json.loads(json.dumps(found, allow_nan=False))) + "\n")
    return json.loads(path.read_text())


def golden(name: str, found: object) -> None:
    """Compare what was found with ``golden/<name>.json``, the order of its members included."""
    frozen, plain = recorded(name, found), json.loads(json.dumps(found, allow_nan=False))
    assert plain == frozen
    assert json.dumps(plain) == json.dumps(frozen)


def pretty(value: Any, depth: int = 0, room: int = WIDTH) -> str:
    """Write JSON on one line where there is room, else one member a line."""
    line = json.dumps(value)
    if len(line) <= room - depth or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty(each, depth + 1, room - len(key) - 4)}" for key, each in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * depth + "}"
    if not any(isinstance(each, (dict, list)) for each in value):
        return "[" + filled([json.dumps(each) for each in value], inner) + "]"
    return "[\n" + ",\n".join(inner + pretty(each, depth + 1, room) for each in value) + "\n" + " " * depth + "]"


def filled(parts: list[str], inner: str) -> str:
    """Join short values, as many a line as there is room for."""
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > WIDTH - 10 and lines[-1]:
            lines.append("")
        lines[-1] += f"{part}, "
    return ("\n" + inner).join(line.rstrip() for line in lines).removesuffix(",")


def signature(function: Callable[..., Any]) -> list[str]:
    """Describe the parameters in their order: "name", "name=default", after "*" those that go by name alone."""
    told: list[str] = []
    named = False
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not named:
            named = True
            told.append("*")
        named = named or each.kind is each.VAR_POSITIONAL
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f"={spelled(each.default)}"
        told.append(f"{stars}{each.name}{default}")
        if each.kind is each.POSITIONAL_ONLY:
            told.append("/")
    return told


def spelled(value: object) -> str:
    """Spell a default without saying where it is defined."""
    if value is ...:
        return "..."
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(spelled, value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {spelled(each)}" for key, each in value.items()) + "}"
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
    """Describe the public members of a class; those that it has from Python itself are left out."""
    theirs = {name for base in kind.__mro__ if base.__module__ == "builtins" for name in vars(base)}
    told: dict[str, object] = {}
    for name in sorted(set(dir(kind)) - theirs):
        if name.startswith("_") and name not in ("__call__", "__enter__", "__aenter__", "__iter__", "__len__"):
            continue
        static = inspect.getattr_static(kind, name)
        if isinstance(static, (classmethod, staticmethod)):
            told[name] = [f"@{type(static).__name__}", *signature(getattr(kind, name))]
        elif inspect.isroutine(static):
            told[name] = signature(static)
        else:
            told[name] = "attribute"
    return told


def keys(document: object) -> list[str]:
    """List a JSON document's keys, "outer.inner" and "list[].inner"; a list's members have theirs together."""
    return list(dict.fromkeys(_paths(document, "")))


def _paths(value: object, above: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{above}{name}"
            yield from _paths(each, f"{above}{name}.")
    if isinstance(value, list):
        for each in value:
            yield from _paths(each, f"{above.removesuffix('.')}[].")
