"""Tests of providers that another package adds: a real distribution on the path, loaded when its name is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swift_client.adapters import resolve
from swift_client.adapters.providers import added_provider_names
from swift_client.errors import ConfigurationError, UnknownProviderError

ROW = """
from swift_client.adapters import PROVIDERS
from dataclasses import replace
ROW = replace(PROVIDERS["openai-compatible"], name="acme", base_url="https://api.acme.test/v1", default_model="a-1")
ROWS = (ROW, replace(ROW, name="acme-fast"))
OPENAI = replace(ROW, name="openai")
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str, code: str = ROW) -> None:
    """Write a package and its dist-info as pip does."""
    module = f"acme_{folder.name.replace('-', '_')}"
    (folder / f"{module}.py").write_text(code)
    info = folder / "acme_swift-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-swift\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[swift_client.providers]\n" + entries.replace("MODULE", module))
    monkeypatch.syspath_prepend(folder)


def test_a_package_adds_rows_that_resolve_like_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme = MODULE:ROW\nacme-fast = MODULE:ROWS\n")
    row, model = resolve("acme")
    assert (row.name, row.base_url, model) == ("acme", "https://api.acme.test/v1", "a-1")
    assert resolve("acme/b-2")[1] == "b-2"
    assert resolve("acme-fast:b-2")[0].name == "acme-fast"
    assert added_provider_names() == ["acme", "acme-fast"]
    with pytest.raises(UnknownProviderError, match="'acme'"):
        resolve("acmee")


def test_a_row_of_ours_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "openai = MODULE:OPENAI\n")
    assert resolve("openai")[0].base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("entry", "code", "words"),
    [
        ("acme = MODULE:ROW", "import nothing_like_it", "ModuleNotFoundError"),
        ("acme = MODULE:ROW", "raise SystemError('broken build')", "broken build"),
        ("acme = MODULE:MISSING", ROW, "AttributeError"),
        ("acme = MODULE:ROW", "ROW = 5", "is not a Provider with the name 'acme'"),
        ("acme = MODULE:OPENAI", ROW, "is not a Provider with the name 'acme'"),
    ],
)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str, words: str
) -> None:
    install(tmp_path, monkeypatch, entry + "\n", code)
    with pytest.raises(ConfigurationError, match=words) as excinfo:
        resolve("acme", "m")
    assert "'acme-swift'" in str(excinfo.value)
    assert resolve("openai")[0].name == "openai"  # what is broken harms nobody else


def test_packages_are_neither_imported_nor_looked_for_before_their_name_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "acme = MODULE:ROW\n", "raise SystemError")
    code = "import sys, swift_client.adapters as a; a.resolve('openai'); print([m for m in sys.modules if 'acme' in m])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert run.stdout.strip() == "[]", run.stderr
