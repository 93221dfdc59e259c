"""Checks of what was built, with the release tools: descriptions, contents, SBOMs, workflows and forms."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tools.release.commands import run
from tools.release.rows import CheckFailed
from tools.release.source import ROOT
from tools.release.wheel_contents import check_contents, read_metadata, relative_links

_SCHEMAS = {
    "github-workflows": ".github/workflows/*.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",  # config.yml is no form
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "dependabot": ".github/dependabot.yml",
    "citation-file-format": "CITATION.cff",
}
Check = tuple[str, Callable[[], str]]


def checks(built: Sequence[Path], source: Path, tools: Path) -> Iterator[Check]:
    """Yield the checks of the built files and of their source, each with its name."""
    wheels = [path for path in built if path.suffix == ".whl"]
    yield "descriptions (twine)", partial(_descriptions, built, tools)
    yield "wheels (check-wheel-contents)", partial(_wheels, wheels, tools)
    for wheel in wheels:
        yield f"files of {wheel.name.partition('-')[0]}", partial(check_contents, wheel)
    yield "metadata and licences", partial(_metadata, wheels)
    yield "SBOMs (CycloneDX)", partial(_sboms, wheels, tools)
    yield "workflows (zizmor)", partial(_workflows, source, tools)
    yield "forms and citation (schemas)", partial(_forms, source, tools)


def _descriptions(built: Sequence[Path], tools: Path) -> str:
    run(tools / "twine", "check", "--strict", *built, cwd=ROOT)
    return f"{len(built)} files"


def _wheels(wheels: Sequence[Path], tools: Path) -> str:
    run(tools / "check-wheel-contents", "--no-config", *wheels, cwd=ROOT)
    return f"{len(wheels)} wheels"


def _metadata(wheels: Sequence[Path]) -> str:
    for wheel in wheels:
        fields, description = read_metadata(wheel)
        lost = relative_links(description)
        stated = (fields.get("License-Expression"), fields.get("License-File"), fields.get("Author"))
        if lost or stated != (["Apache-2.0"], ["LICENSE"], ["swift-client engineers"]):
            raise CheckFailed(f"{wheel.name}: {stated}, relative links {lost[:5]}")
    core = next(read_metadata(wheel)[0] for wheel in wheels if wheel.name.startswith("swift_client-"))
    if not any(requirement.startswith("swift-client-pocket") for requirement in core["Requires-Dist"]):
        raise CheckFailed("the extra 'pocket' does not require the wheel of the weights")
    return "Apache-2.0, no relative link, the extra 'pocket' requires the weights"


def _sboms(wheels: Sequence[Path], tools: Path) -> str:
    counts = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".cdx.json"))
            text = archive.read(name).decode()
        document = json.loads(text)
        if "serialNumber" in document or "timestamp" in document["metadata"]:
            raise CheckFailed(f"{wheel.name}: its SBOM has a time or a serial number")
        path = tools.parent / Path(name).name
        path.write_text(text)
        run(tools / "python", Path(__file__).with_name("validate_sbom.py"), path, cwd=ROOT)
        counts.append(f"{len(document['components'])} components in {path.name}")
    return ", ".join(counts)


def _workflows(source: Path, tools: Path) -> str:
    workflows = sorted((source / ".github" / "workflows").glob("*.yml"))
    run(tools / "zizmor", "--offline", "--strict-collection", "--no-progress", ".github", cwd=source)
    return f"no finding in {', '.join(path.name for path in workflows)}"


def _forms(source: Path, tools: Path) -> str:
    count = 0
    for schema, pattern in _SCHEMAS.items():
        files = sorted(source.glob(pattern))
        if not files:
            raise CheckFailed(f"there is no {pattern}")
        run(tools / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files, cwd=source)
        count += len(files)
    return f"{count} files"
