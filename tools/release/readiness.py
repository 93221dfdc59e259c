"""Everything that must be settled by a person before a tag, and versions that must agree in all files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tools.release.rows import CheckFailed, Row
from tools.release.source import PLACEHOLDER, public_address, read_project

_HEADING = re.compile(r"^## (?P<version>\S+), (?P<date>.+)$", re.MULTILINE)


def versions(folder: Path) -> dict[str, str]:
    """Return the version of the package as each file states it."""
    changelog = _HEADING.search((folder / "CHANGELOG.md").read_text(encoding="utf-8"))
    code = re.search(
        r'^__version__ = "(.+)"$', (folder / "swift_client" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    citation = re.search(r"^version: (.+)$", (folder / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "pyproject.toml": read_project(folder)["project"]["version"],
        "swift_client/__init__.py": code[1] if code else "none",
        "CHANGELOG.md": changelog["version"] if changelog else "none",
        "CITATION.cff": citation[1] if citation else "none",
    }


def check_versions(folder: Path) -> str:
    """Return the version. Raises CheckFailed unless all files state the same."""
    stated = versions(folder)
    if len(set(stated.values())) > 1:
        raise CheckFailed(", ".join(f"{file}: {version}" for file, version in stated.items()))
    return stated["pyproject.toml"]


def check_readiness(folder: Path) -> Iterator[Row]:
    """Yield one row per decision, "open" until it is taken."""
    address = public_address(folder)
    is_open = PLACEHOLDER in address or not address.startswith("https://")
    hint = f"{address} is a placeholder: set `repository` in [tool.swift-client] of pyproject.toml"
    yield Row("public address", "open", hint) if is_open else Row("public address", "ok", address)

    heading = _HEADING.search((folder / "CHANGELOG.md").read_text(encoding="utf-8"))
    date = heading["date"] if heading else "no heading"
    dated = re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    hint = f'"{date}": put the date of the release (2026-12-31) into the first heading of CHANGELOG.md'
    yield Row("date of the changelog", "ok", date) if dated else Row("date of the changelog", "open", hint)

    pages = ("README.md", "docs/start.md")
    unpublished = [page for page in pages if "not on PyPI" in (folder / page).read_text(encoding="utf-8")]
    hint = f"still a clone, by {' and '.join(unpublished)}: show `pip install 'swift-client[cli,pocket]'`"
    yield Row("how to install", "open", hint) if unpublished else Row("how to install", "ok", "from PyPI")
