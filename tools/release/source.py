"""The source of a release: a commit's files, with the few changes that only a release has.

A clone must install without anything of ours from the package index, and a release must name the wheel of the weights.
A build hook that changed ``optional-dependencies`` would contradict ``pyproject.toml``, which other tools read without
building; so the files themselves are changed, and the sdist has them as they were built (docs/decisions/0014).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import tomllib
from pathlib import Path
from typing import Any

from tools.release.commands import run
from tools.release.rows import CheckFailed

ROOT = Path(__file__).parents[2]
POCKET = Path("packages") / "pocket"
PLACEHOLDER = "OWNER"
"""Stands in the public address until there is one."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_POCKET_EXTRA = re.compile(r"^pocket = \[(?P<requirements>.*)\]$", re.MULTILINE)


def read_project(folder: Path = ROOT) -> dict[str, Any]:
    """Return the parsed ``pyproject.toml`` of a folder."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def public_address(folder: Path = ROOT) -> str:
    """Return the address of the repository, perhaps with the placeholder in it."""
    address: str = read_project(folder)["tool"]["swift-client"]["repository"]
    return address.rstrip("/")


def export(commit: str, folder: Path) -> None:
    """Write the files of a commit to a new folder, changed for the release."""
    archive = folder.with_suffix(".tar")
    run("git", "archive", "--output", archive, commit, cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as files:
        files.extractall(folder, filter="data")
    archive.unlink()
    address, version = public_address(folder), read_project(folder)["project"]["version"]
    weights = read_project(folder / POCKET)["project"]
    readme = folder / "README.md"
    readme.write_text(absolute_links(readme.read_text(encoding="utf-8"), address, f"v{version}"), encoding="utf-8")
    project = folder / "pyproject.toml"
    text = require_weights(project.read_text(encoding="utf-8"), weights["name"], weights["version"])
    project.write_text(text + project_urls(address, f"v{version}"), encoding="utf-8")
    with (folder / POCKET / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(project_urls(address))  # without a tag: the same weights keep their wheel in the next release


def absolute_links(text: str, address: str, tag: str) -> str:
    """Return Markdown in which links into the repository are absolute and lead to the files of a tag."""

    def absolute(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        kind = "raw" if match["image"] else "blob"
        return f"{match['image']}[{match['text']}]({address}/{kind}/{tag}/{target})"

    return _LINK.sub(absolute, text)


def require_weights(text: str, name: str, version: str) -> str:
    """Return a ``pyproject.toml`` whose extra "pocket" also requires the wheel of the weights.

    Raises:
        CheckFailed: the extra is not a list on one line.
    """
    requirement = f"{name}~={'.'.join(version.split('.')[:2])}"
    changed, count = _POCKET_EXTRA.subn(rf'pocket = ["{requirement}", \g<requirements>]', text)
    if count != 1:
        raise CheckFailed("pyproject.toml has no line `pocket = [...]` in its extras: adapt tools/release/source.py.")
    return changed


def project_urls(address: str, tag: str | None = None) -> str:
    """Return the table of a ``pyproject.toml`` with the links that PyPI shows; those to files need a tag."""
    urls = {"Repository": address, "Issues": f"{address}/issues"}
    if tag is not None:
        files = {"Documentation": "docs/index.md", "Changelog": "CHANGELOG.md", "Security": "SECURITY.md"}
        urls |= {name: f"{address}/blob/{tag}/{file}" for name, file in files.items()}
    return "\n[project.urls]\n" + "".join(f"{name} = {json.dumps(url)}\n" for name, url in urls.items())
