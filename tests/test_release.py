"""Tests of what a release consists of: files and SBOM of the wheels, versions, links, and what blocks a tag."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.children import ROOT
from tools.release import readiness, source, wheel_contents
from tools.release.rows import CheckFailed, Row, render, run_check, verdict

WEIGHTS = ROOT / "packages" / "pocket"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels as hatchling builds them from this working tree, by their project."""
    built = {}
    for project in (ROOT, WEIGHTS):
        folder = tmp_path_factory.mktemp(project.name)
        line = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(line, cwd=project, check=True, capture_output=True)
        (built[project.name if project == WEIGHTS else "core"],) = folder.glob("*.whl")
    return built


def sbom_of(wheel: Path) -> dict[str, object]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
        document: dict[str, object] = json.loads(archive.read(name))
    return document


def hook() -> types.ModuleType:
    """Load the build hook, which no package contains."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_wheels_contain_code_or_weights_with_licence_and_sbom_and_nothing_else(wheels: dict[str, Path]) -> None:
    for wheel in wheels.values():
        wheel_contents.check_contents(wheel)
    with zipfile.ZipFile(wheels["core"]) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".gguf")]
        assert archive.read("swift_client/py.typed") == b""
    with zipfile.ZipFile(wheels["pocket"]) as archive:
        content = archive.read("swift_client_pocket/model.gguf")
        licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert content == (WEIGHTS / "swift_client_pocket" / "model.gguf").read_bytes()


@pytest.mark.parametrize("name", ["swift_client/keys.env", "tests/test_x.py", "swift_client/model.gguf", "swift.db"])
def test_a_file_that_does_not_belong_into_a_wheel_is_named(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    wheel = tmp_path / wheels["core"].name
    wheel.write_bytes(wheels["core"].read_bytes())
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(name, "x")

    with pytest.raises(CheckFailed, match=re.escape(name)):
        wheel_contents.check_contents(wheel)


def test_a_wheel_without_sbom_fails(wheels: dict[str, Path], tmp_path: Path) -> None:
    wheel = tmp_path / wheels["core"].name
    with zipfile.ZipFile(wheels["core"]) as full, zipfile.ZipFile(wheel, "w") as archive:
        for name in full.namelist():
            if "/sboms/" not in name:
                archive.writestr(name, full.read(name))

    with pytest.raises(CheckFailed, match=r"missing \['sboms"):
        wheel_contents.check_contents(wheel)


def test_the_sbom_names_this_version_its_models_and_every_requirement_but_those_of_the_tests(
    wheels: dict[str, Path],
) -> None:
    document = sbom_of(wheels["core"])
    components = {component["name"]: component for component in document["components"]}  # type: ignore[attr-defined]
    main = document["metadata"]["component"]  # type: ignore[index]

    assert (main["name"], main["version"]) == ("swift-client", PROJECT["project"]["version"])
    assert main["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    head = (ROOT / "swift_client" / "models" / "packaged" / "pocket.safetensors").read_bytes()
    model = components.pop("head for swift-client pocket")
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(head).hexdigest()}]
    extras = PROJECT["project"]["optional-dependencies"]
    groups = [PROJECT["project"]["dependencies"], *(group for extra, group in extras.items() if extra != "dev")]
    assert set(components) == {re.split(r"[\[>]", requirement)[0] for group in groups for requirement in group}
    assert (components["numpy"]["versionRange"], components["numpy"]["scope"]) == ("vers:pypi/>=1.26", "required")
    assert components["typer"]["scope"] == "optional"
    assert "hypothesis" not in components


def test_the_sbom_of_the_weights_has_their_digest_and_a_model_card(wheels: dict[str, Path]) -> None:
    (model,) = sbom_of(wheels["pocket"])["components"]  # type: ignore[misc]
    content = (WEIGHTS / "swift_client_pocket" / "model.gguf").read_bytes()

    assert model["type"] == "machine-learning-model"  # type: ignore[has-type]
    assert model["hashes"][0]["content"] == hashlib.sha256(content).hexdigest()  # type: ignore[has-type]
    assert model["modelCard"]["modelParameters"]["modelArchitecture"] == "Llama"  # type: ignore[has-type]


def test_an_sbom_has_no_time_and_no_serial_number_and_is_the_same_twice() -> None:
    def document() -> dict[str, object]:
        result: dict[str, object] = hook().sbom(
            "x",
            "1",
            description="d",
            licence="MIT",
            requirements={"": ["b>=2,<3", "A"], "extra": ["b>=2,<3"], "dev": ["c"]},
            models=[],
            root=ROOT,
        )
        return result

    first = document()

    assert first == document()
    assert "serialNumber" not in first
    assert "timestamp" not in first["metadata"]  # type: ignore[operator]
    ranges = [(part["name"], part["versionRange"]) for part in first["components"]]  # type: ignore[attr-defined]
    assert ranges == [("A", "vers:pypi/*"), ("b", "vers:pypi/<3|>=2")]


def test_all_files_state_one_version() -> None:
    assert readiness.check_versions(ROOT) == PROJECT["project"]["version"]


def test_versions_that_differ_are_named_with_their_files(tmp_path: Path) -> None:
    (tmp_path / "swift_client").mkdir()
    (tmp_path / "swift_client" / "__init__.py").write_text('__version__ = "0.3.0"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0, not yet released\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 0.2.0\n")

    with pytest.raises(CheckFailed, match=r"swift_client/__init__.py: 0\.3\.0"):
        readiness.check_versions(tmp_path)


def folder_with(tmp_path: Path, *, address: str, heading: str, readme: str) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "start.md").write_text(readme)
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n")
    (tmp_path / "pyproject.toml").write_text(f'[tool.swift-client]\nrepository = "{address}"\n')
    return tmp_path


def test_a_placeholder_blocks_a_release_and_the_row_says_where_it_stands(tmp_path: Path) -> None:
    address = f"https://github.com/{source.PLACEHOLDER}/swift-client"
    folder = folder_with(tmp_path, address=address, heading="0.2.0, not yet released", readme="It is not on PyPI yet.")
    rows = list(readiness.check_readiness(folder))

    assert [row.status for row in rows] == ["open", "open", "open"]
    assert "`repository` in [tool.swift-client] of pyproject.toml" in rows[0].detail
    assert "README.md and docs/start.md" in rows[2].detail
    assert verdict(rows) == (
        1,
        "Everything that a machine can check holds. A person must still settle: "
        "public address, date of the changelog, how to install.",
    )


def test_nothing_is_open_once_address_date_and_readme_are_set(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path, address="https://example.org/team/swift-client", heading="0.2.0, 2026-12-31", readme="pip install"
    )
    rows = list(readiness.check_readiness(folder))

    assert {row.status for row in rows} == {"ok"}
    assert verdict(rows) == (0, "Ready to be tagged.")


def test_the_public_address_stands_in_one_place() -> None:
    listed = subprocess.run(["git", "grep", "-l", "OWNER/swift-client"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode > 1:
        pytest.skip("not a git repository")
    assert set(listed.stdout.split()) <= {"pyproject.toml", "tests/test_release.py"}


def test_links_into_the_repository_become_absolute_and_others_stay() -> None:
    text = "[a](docs/a.md#x) ![b](docs/b.svg) [c](https://c.org) [d](#here) [e](mailto:e@f)"

    assert source.absolute_links(text, "https://h/o/r", "v1") == (
        "[a](https://h/o/r/blob/v1/docs/a.md#x) ![b](https://h/o/r/raw/v1/docs/b.svg) "
        "[c](https://c.org) [d](#here) [e](mailto:e@f)"
    )


def test_no_link_of_the_released_readme_is_relative() -> None:
    readme = source.absolute_links((ROOT / "README.md").read_text(), source.public_address(), "v1")

    assert wheel_contents.relative_links((ROOT / "README.md").read_text())
    assert wheel_contents.relative_links(readme) == []
    assert wheel_contents.relative_links((WEIGHTS / "README.md").read_text()) == []


def test_only_a_release_requires_the_wheel_of_the_weights() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    weights = tomllib.loads((WEIGHTS / "pyproject.toml").read_text())["project"]
    released = tomllib.loads(
        source.require_weights(text, weights["name"], weights["version"])
        + source.project_urls(source.public_address(), "v1")
    )
    pocket = PROJECT["project"]["optional-dependencies"]["pocket"]

    assert not [requirement for requirement in pocket if requirement.startswith("swift-client")]
    assert released["project"]["optional-dependencies"].pop("pocket") == ["swift-client-pocket~=1.0", *pocket]
    assert all(url.startswith("https://") for url in released["project"].pop("urls").values())
    extras = {extra: group for extra, group in PROJECT["project"]["optional-dependencies"].items() if extra != "pocket"}
    assert released["project"] == {**PROJECT["project"], "optional-dependencies": extras}


def test_an_extra_in_another_form_stops_the_release() -> None:
    with pytest.raises(CheckFailed, match=r"no line `pocket"):
        source.require_weights('pocket = [\n  "xllamacpp",\n]\n', "swift-client-pocket", "1.0.0")


def test_a_failed_check_is_a_row_and_the_exit_code() -> None:
    def fail() -> str:
        raise CheckFailed("two lines:\nthe second")

    rows = [run_check("good", lambda: "fine"), run_check("bad", fail), Row("size", "missed", "2 MB")]

    assert render(rows).splitlines() == [
        "good  ok      fine",
        "bad   FAILED  two lines:",
        "              the second",
        "size  missed  2 MB",
    ]
    assert verdict(rows) == (1, "Not ready. Failed: bad.")


def test_the_release_tools_are_all_pinned() -> None:
    lines = (ROOT / "tools" / "release" / "requirements.txt").read_text().splitlines()[1:]

    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert {"build", "check-wheel-contents", "cyclonedx-python-lib", "hatchling", "twine", "zizmor"} <= {
        line.split("==")[0] for line in lines
    }


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_grant_nothing_by_default_and_pin_every_action_to_a_commit(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())

    assert workflow["permissions"] == {}
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
