"""Two builds of one commit, in folders and surroundings that differ: their bytes must not."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from tools.release.commands import run
from tools.release.rows import CheckFailed
from tools.release.source import POCKET, ROOT, export

TOOLS = ROOT / "build" / "release" / "tools"
WEIGHTS_EPOCH = "1580601600"
"""Time of the files in the wheel of the weights, hatchling's default: a commit of other files must not change it."""
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def prepare_tools() -> Path:
    """Create the environment of the release tools unless it has these versions; return its folder of commands."""
    installed = TOOLS / "installed.txt"
    wanted = f"{sys.version}\n{REQUIREMENTS.read_text()}"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(TOOLS, ignore_errors=True)
        run(sys.executable, "-m", "venv", TOOLS, cwd=ROOT)
        # With all their requirements in the list, none is resolved.
        run(TOOLS / "bin" / "pip", "install", "--quiet", "--no-deps", "--requirement", REQUIREMENTS, cwd=ROOT)
        installed.write_text(wanted)
    return TOOLS / "bin"


def build_twice(commit: str, source: Path, folder: Path, distributions: Path) -> str:
    """Build sdist and wheels of an exported commit, and once more in ``folder``; return their digests' beginnings.

    The first build makes the wheel from the sdist, the second from the source, with another time zone, umask and path.

    Raises:
        CheckFailed: a build failed, or two files of one name differ.
    """
    epoch = run("git", "log", "-1", "--format=%ct", commit, cwd=ROOT).strip()
    other_source = folder / "in another, longer path"
    shutil.rmtree(distributions, ignore_errors=True)
    fixed = {"SOURCE_DATE_EPOCH": epoch}
    _build(source, (), distributions, fixed)
    again = folder / "again"
    previous_mask = os.umask(0o077)
    try:
        export(commit, other_source)
        _build(other_source, ("--sdist", "--wheel"), again, {**fixed, "TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"})
    finally:
        os.umask(previous_mask)
    digests = [_digests(built) for built in (distributions, again)]
    if digests[0] != digests[1]:
        names = digests[0].keys() | digests[1].keys()
        differing = sorted(name for name in names if digests[0].get(name) != digests[1].get(name))
        raise CheckFailed(f"these differ between two builds: {', '.join(differing)}")
    return "\n".join(f"{digest[:12]}  {name}" for name, digest in digests[0].items())


def _build(source: Path, kinds: tuple[str, ...], distributions: Path, environment: dict[str, str]) -> None:
    build = (TOOLS / "bin" / "python", "-m", "build", "--no-isolation", "--outdir", distributions)
    run(*build, *kinds, source, cwd=source, environment=environment)
    weights = {**environment, "SOURCE_DATE_EPOCH": WEIGHTS_EPOCH}
    run(*build, "--wheel", source / POCKET, cwd=source, environment=weights)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
