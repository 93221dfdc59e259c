"""The build hook of our wheels: an SBOM in ``.dist-info/sboms/`` (PEP 770), as CycloneDX 1.7.

The document has neither a time nor a serial number, so two builds of one commit give the same bytes. It names what the
wheel contains (our package and the models in it, with their digests) and which packages it requires, with the range of
their versions: which version is installed is decided later, on the user's machine.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.requirements import Requirement

AUTHORS = [{"name": "swift-client engineers"}]


class SbomHook(BuildHookInterface):  # type: ignore[type-arg]
    """Writes the SBOM and hands it to the builder."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the SBOM to a wheel; an editable install gets none."""
        if version == "editable":
            return
        core = self.metadata.core
        document = sbom(
            core.raw_name,
            self.metadata.version,
            description=core.description,
            licence=core.license_expression,
            requirements={"": core.dependencies, **core.optional_dependencies},
            models=self.config.get("models", []),
            root=Path(self.root),
        )
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / f"{core.raw_name}.cdx.json"
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder of the SBOM."""
        if version != "editable":
            self._folder.cleanup()


def sbom(
    name: str,
    version: str,
    *,
    description: str,
    licence: str,
    requirements: Mapping[str, Iterable[str]],
    models: Iterable[Mapping[str, str]],
    root: Path,
) -> dict[str, Any]:
    """Return the CycloneDX document of one wheel.

    Args:
        name: name of the distribution.
        version: its version.
        description: its description.
        licence: its SPDX expression, which is also that of the models in it.
        requirements: requirements by extra; those of the package itself under "".
        models: ``name``, ``file`` (relative to ``root``), ``architecture``, ``task`` and ``description`` of each model.
        root: folder of the project.
    """
    licences = [{"license": {"id": licence}}]
    main = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "authors": AUTHORS,
        "name": name,
        "version": version,
        "description": description,
        "licenses": licences,
        "purl": f"pkg:pypi/{name}@{version}",
    }
    shipped = [_model(model, version, licences, root) for model in models]
    required = _requirements(requirements)
    contents = [*shipped, *required]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "authors": AUTHORS, "component": main},
        "components": contents,
        "dependencies": [
            {"ref": main["bom-ref"], "dependsOn": sorted(component["bom-ref"] for component in contents)},
            *({"ref": component["bom-ref"]} for component in contents),
        ],
    }


def _model(
    model: Mapping[str, str], version: str, licences: list[dict[str, dict[str, str]]], root: Path
) -> dict[str, Any]:
    """Return the component of a model's file, with its digest and a short model card."""
    content = (root / model["file"]).read_bytes()
    return {
        "type": "machine-learning-model",
        "bom-ref": f"file:{model['file']}",
        "authors": AUTHORS,
        "name": model["name"],
        "version": version,
        "description": model["description"],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
        "licenses": licences,
        "modelCard": {"modelParameters": {"task": model["task"], "modelArchitecture": model["architecture"]}},
        "properties": [{"name": "swift-client:file", "value": model["file"]}],
    }


def _requirements(requirements: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Return one component per required package; the extra "dev" serves only the tests and is left out."""
    components: dict[str, dict[str, Any]] = {}
    for extra, group in requirements.items():
        if extra == "dev":
            continue
        for requirement in map(Requirement, group):
            key = requirement.name.lower()
            component = components.setdefault(
                key,
                {
                    "type": "library",
                    "bom-ref": f"pkg:pypi/{key}",
                    "name": requirement.name,
                    "versionRange": _version_range(requirement),
                    "isExternal": True,
                    "scope": "optional" if extra else "required",
                    "purl": f"pkg:pypi/{key}",
                },
            )
            if extra:
                properties = component.setdefault("properties", [])
                properties.append({"name": "swift-client:extra", "value": extra})
    return [components[key] for key in sorted(components)]


def _version_range(requirement: Requirement) -> str:
    """Return the versions that a requirement admits, in the notation ``vers``."""
    bounds = sorted(str(bound) for bound in requirement.specifier)
    return f"vers:pypi/{'|'.join(bounds) or '*'}"
