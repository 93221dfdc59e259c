"""Run the tests on every Python at hand, and with the oldest versions of the dependencies: ``make test-all``.

A Python is at hand if ``python3.N`` is on the PATH or pyenv has it. torch is not installed here, so the tests of
training and of local models are skipped; ``make test`` runs those. Each environment is kept in ``build/test-all``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "test-all"
EXTRAS = ("cli", "pocket", "server", "otel", "math", "prices", "schema")
# Packages of the extra "dev" that bring torch, or serve only the checks of style, types and documentation.
NOT_NEEDED = re.compile(r"gguf|tokenizers|transformers|ruff|mkdocs|import-linter")
NEEDS_NEWER = ("fastapi",)
"""Packages of the tests whose tested version needs a newer version of a dependency than the oldest one."""
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(?P<extras>\[[\w,-]+\])?>=(?P<version>[\w.]+)")


@dataclass(frozen=True)
class Environment:
    """A Python with packages in which the tests run."""

    name: str
    python: str  # the interpreter
    constraints: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The folder of its virtual environment."""
        return FOLDER / self.name

    def install(self) -> None:
        """Create the virtual environment, and install this package with its extras and what the tests need."""
        if not (self.folder / "bin" / "python").exists():
            subprocess.run([self.python, "-m", "venv", str(self.folder)], check=True)
        constraints = self.folder / "constraints.txt"
        constraints.write_text("\n".join(self.constraints) + "\n")
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        package = f"{ROOT}[{','.join(EXTRAS)}]"
        subprocess.run([*pip, "--upgrade", "pip"], check=True)  # older ones take minutes to resolve the oldest versions
        subprocess.run([*pip, "--constraint", str(constraints), "--editable", package, *test_packages()], check=True)

    def test(self, arguments: list[str]) -> tuple[int, str]:
        """Run pytest; return its exit code and its last line."""
        command = [str(self.folder / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        lines = run.stdout.strip().splitlines() or ["no output"]
        if run.returncode:
            print(*lines[-30:], sep="\n", file=sys.stderr)
        return run.returncode, lines[-1]


def main() -> int:
    """Run the tests in each environment and print one line per environment; return 1 if one failed."""
    environments = [
        Environment(f"python-{version}", path, tuple(newest_versions())) for version, path in find_pythons()
    ]
    environments.append(Environment("oldest", sys.executable, tuple(oldest_versions())))
    codes = []
    for environment in environments:
        environment.install()
        code, summary = environment.test(sys.argv[1:])
        codes.append(code)
        print(f"{environment.name:16} {summary}", flush=True)
    return int(any(codes))


def find_pythons() -> Iterator[tuple[str, str]]:
    """Find the interpreters from 3.11 on, as pairs of version and path, each minor version once."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(11, 20):
        installed = sorted(pyenv.glob(f"3.{minor}.*/bin/python"))
        path = str(installed[-1]) if installed else shutil.which(f"python3.{minor}")
        if path:
            yield f"3.{minor}", path


def requirements(group: list[str]) -> Iterator[re.Match[str]]:
    """Parse requirements of the form ``name>=version``."""
    for requirement in group:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} has no lower bound, or more than one bound: extend tools/test_all.py.")
        yield match


def project() -> dict[str, list[str]]:
    """Return the requirements of the project by extra; those of the package itself under ""."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def oldest_versions() -> Iterator[str]:
    """Return the lower bounds of the package and of the extras as constraints, and the tested versions of the rest."""
    groups = project()
    oldest = {match["name"]: match["version"] for extra in ("", *EXTRAS) for match in requirements(groups[extra])}
    yield from (f"{name}=={version}" for name, version in oldest.items())
    pinned = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    yield from (line for line in pinned if line.split("==")[0] not in {*oldest, *NEEDS_NEWER})


def newest_versions() -> Iterator[str]:
    """Return no constraints but that of torch, so that the newest versions are installed."""
    yield from (line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch"))


def test_packages() -> list[str]:
    """Return what the tests need beside the extras."""
    return [match[0] for match in requirements(project()["dev"]) if not NOT_NEEDED.match(match["name"])]


if __name__ == "__main__":
    sys.exit(main())
