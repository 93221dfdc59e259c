"""Tests of the optional dependencies: the same in pyproject.toml, the constraints and the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORT_NAMES = {
    "scikit_learn": "sklearn",
    "google_auth": "google",
    "azure_identity": "azure",
    "opentelemetry_api": "opentelemetry",
}
# Whoever uses an integration has its package.
INTEGRATED = {"dspy", "inspect_ai", "langchain_core", "litellm", "llama_index", "pydantic_ai"}
SOURCES = sorted((ROOT / "swift_client").rglob("*.py"))


def name(requirement: str) -> str:
    """Return the import name of ``package[extra]>=1.0``."""
    package = re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("-", "_")
    return IMPORT_NAMES.get(package, package)


CORE = {name(requirement) for requirement in PROJECT["dependencies"]}
EXTRAS = {
    extra: {name(requirement) for requirement in requirements}
    for extra, requirements in PROJECT["optional-dependencies"].items()
}


def imports(tree: ast.AST) -> set[str]:
    """Return the top-level names of all absolute imports in a tree."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


def test_every_import_is_the_standard_library_a_core_dependency_or_an_extra() -> None:
    # pydantic pins pydantic_core exactly, and uvicorn requires h11: whoever has the one has the other.
    # Type checkers know typing_extensions themselves, and nothing imports it at run time.
    declared = (
        CORE
        | {"pydantic_core", "typing_extensions", "h11"}
        | set().union(*(EXTRAS[extra] for extra in EXTRAS if extra != "dev"))
    )
    for source in SOURCES:
        outside = imports(ast.parse(source.read_text())) - set(sys.stdlib_module_names) - {"swift_client", "__future__"}
        if source.is_relative_to(ROOT / "swift_client" / "integrations"):
            outside -= INTEGRATED

        assert outside <= declared, source
        is_imported = re.search(r"^(?:from|import) typing_extensions", source.read_text(), re.MULTILINE)
        assert not is_imported, source


def test_every_extra_that_an_error_names_exists() -> None:
    named: set[str] = set()
    for source in SOURCES:
        text = source.read_text()
        named |= set(re.findall(r"MissingExtraError\.needs\(\s*[\"'](\w+)[\"']", text))
        named |= {
            extra
            for group in re.findall(r"swift-client\[([\w,]+)\]", text)
            for extra in group.split(",")
            if source.name != "errors.py"  # there `extra` is the placeholder
        }

    assert named
    assert named <= set(EXTRAS)


def test_the_command_imports_only_the_libraries_of_its_extra() -> None:
    allowed = EXTRAS["cli"] | CORE | set(sys.stdlib_module_names) | {"swift_client", "__future__"}
    for source in (ROOT / "swift_client" / "cli").rglob("*.py"):
        assert imports(ast.parse(source.read_text())) <= allowed, source


def test_core_dependencies_are_the_agreed_seven() -> None:
    agreed = {"httpx2", "msgspec", "numpy", "platformdirs", "pydantic", "tenacity", "safetensors"}
    assert agreed == CORE


def test_versions_agree() -> None:
    import swift_client

    assert swift_client.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
