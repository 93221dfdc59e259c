"""The documentation site builds without a warning, and its generated pages follow the code."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import swift_client
from swift_client import errors, training
from tests.children import ROOT
from tools.docs import generate

DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.md"))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )

    assert (build.returncode, build.stdout + build.stderr) == (0, "")
    assert "SwiftReranker" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text()
    assert (tmp_path / "site" / "llms.txt").exists()


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in generate.pages()])
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == generate.pages()[ROOT / page], "run `python -m tools.docs.generate`"


def documented_names() -> set[str]:
    """Collect the objects that the reference renders."""
    return {name for page in REFERENCE for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("front", [swift_client, training], ids=["swift_client", "swift_client.training"])
def test_every_public_name_is_in_the_reference(front: object) -> None:
    names = {f"{front.__name__}.{name}" for name in front.__all__ if name != "__version__"}  # type: ignore[attr-defined]

    assert names <= documented_names()
    assert "swift_client.errors" in documented_names()


@pytest.mark.parametrize("name", sorted(documented_names()))
def test_every_name_in_the_reference_exists_and_has_a_docstring(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    named = importlib.import_module(name) if name == "swift_client.errors" else None
    named = named or getattr(importlib.import_module(module), attribute)

    assert inspect.getdoc(named)


def test_every_error_has_a_docstring() -> None:
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, Exception) and error.__module__ == errors.__name__:
            assert vars(error).get("__doc__"), name


def test_every_page_is_in_the_navigation_and_in_llms_txt() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=generate.ConfigLoader)  # noqa: S506 - a SafeLoader
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {config["exclude_docs"].strip()}

    assert pages == set(leaves(config["nav"]))
    for page in pages:
        assert page in (DOCS / "llms.txt").read_text()


def leaves(nav: object) -> list[str]:
    """Return the pages of a navigation tree."""
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [page for item in items for page in leaves(item)]  # type: ignore[attr-defined]


def test_the_readme_is_short_and_has_no_placeholder() -> None:
    text = (ROOT / "README.md").read_text()

    assert text.count("\n") <= 170
    assert not re.search(r"TODO|TBD|\bXX+\b", text)
