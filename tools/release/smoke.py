"""The wheels in clean environments outside of the repository: import, version, demo, and the demo without weights."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.release.commands import run
from tools.release.rows import CheckFailed
from tools.test_all import find_pythons, newest_versions, oldest_versions

FREE = re.compile(r"Apache|BSD|MIT|ISC|MPL|PSF|Python Software|Zlib|CC0|Unlicense|0BSD|HPND", re.IGNORECASE)
"""Licences of packages that are installed with ours, all of which allow any use."""
_LICENCES = """
import importlib.metadata as m, json
texts = {}
for found in m.distributions():
    fields = found.metadata
    stated = [fields["License-Expression"] or "", (fields["License"] or "").strip().partition("\\n")[0]]
    stated += [name for name in fields.get_all("Classifier") or [] if name.startswith("License ::")]
    texts[fields["Name"]] = "; ".join(text for text in stated if text)
print(json.dumps(texts))
"""


@dataclass(frozen=True)
class Surroundings:
    """A Python and versions of the dependencies."""

    name: str
    python: str  # the interpreter
    constraints: tuple[str, ...]


def surroundings() -> Iterator[Surroundings]:
    """Yield every Python at hand with the newest dependencies, and this one with the oldest."""
    for version, path in find_pythons():
        yield Surroundings(f"Python {version}, newest", path, tuple(newest_versions()))
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield Surroundings(f"Python {this}, oldest", sys.executable, tuple(oldest_versions()))


def smoke_test(place: Surroundings, version: str, distributions: Path, folder: Path) -> str:
    """Install the wheels into a new environment in ``folder`` and use them.

    Raises:
        CheckFailed: an installation, the import or a command failed, or said something else than it must.
    """
    environment = folder / re.sub(r"\W+", "-", place.name)
    run(place.python, "-m", "venv", environment, cwd=folder)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(place.constraints) + "\n")
    python, command = environment / "bin" / "python", environment / "bin" / "swift-client"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    (wheel,) = distributions.glob(f"swift_client-{version}-*.whl")

    run(*install, "--upgrade", "pip", cwd=folder)  # older ones take minutes to resolve the oldest versions
    run(*install, "--constraint", constraints, wheel, cwd=folder)
    place_of_import = run(python, "-I", "-c", "import swift_client; print(swift_client.__file__)", cwd=folder).strip()
    if not place_of_import.startswith(str(environment)):
        raise CheckFailed(f"swift_client was imported from {place_of_import}")
    _expect(run(command, "--version", cwd=folder, code=3), "swift-client[cli]")

    extras = f"{wheel}[cli,pocket]"
    run(*install, "--constraint", constraints, "--find-links", distributions, extras, cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    _expect(run(command, "--version", cwd=folder), f"swift-client {version}")
    home = {"HOME": str(environment), "PYTHONWARNINGS": "default"}
    demo = run(command, "demo", "--questions", "1", "--further", "0", cwd=folder, environment=home)
    _expect(demo, "Question 1 of 1")

    count = _check_licences(run(python, "-I", "-c", _LICENCES, cwd=folder))
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "swift-client-pocket", cwd=folder)
    _expect(run(command, "demo", cwd=folder, environment=home, code=3), "pip install swift-client-pocket")
    return f"import, --version, demo, and the hint without weights; licences of {count} packages"


def _expect(output: str, words: str) -> None:
    if words not in " ".join(output.split()):
        raise CheckFailed(f"{words!r} is not in the output:\n{output[-2000:]}")


def _check_licences(output: str) -> int:
    """Return the number of packages. Raises CheckFailed if the licence of one is not among those that we know."""
    licences: dict[str, str] = json.loads(output.splitlines()[-1])
    unknown = {name: text[:60] for name, text in licences.items() if not FREE.search(text) or "GPL" in text}
    if unknown:
        raise CheckFailed(f"licences to look at: {unknown}")
    return len(licences)
