"""Check one commit for a release, and print one table: ``make release``.

    python -m tools.release [COMMIT]

Builds sdist and wheels of the commit (default: HEAD) into ``dist/``. It needs git, the package index, and a Python with
its standard library; everything else is installed into ``build/release``. It changes nothing else and may be repeated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.footprint import core_install
from tools.release.build import build_twice, prepare_tools
from tools.release.checks import checks
from tools.release.commands import run
from tools.release.readiness import check_readiness, check_versions
from tools.release.rows import CheckFailed, Row, render, run_check, verdict
from tools.release.smoke import smoke_test, surroundings
from tools.release.source import ROOT, export, read_project

DISTRIBUTIONS = ROOT / "dist"
OWN_WHEEL_MB = 1.0


def main() -> int:
    """Run all checks and print their table; return 1 unless the commit can be tagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="HEAD")
    commit = run("git", "rev-parse", "--verify", f"{parser.parse_args().commit}^{{commit}}", cwd=ROOT).strip()
    changed = run("git", "status", "--porcelain", cwd=ROOT).strip()
    rows = [Row("commit", "ok", commit[:12] + (", without the uncommitted changes" if changed else ""))]
    with tempfile.TemporaryDirectory(prefix="swift-client-release-") as name:
        folder = Path(name).resolve()
        source = folder / "source"
        export(commit, source)
        tools = prepare_tools()
        rows.append(run_check("versions", partial(check_versions, source)))
        rows.append(run_check("two builds, same bytes", partial(build_twice, commit, source, folder, DISTRIBUTIONS)))
        if rows[-1].status == "ok":
            version = read_project(source)["project"]["version"]
            built = sorted(DISTRIBUTIONS.iterdir())
            rows += [run_check(check, action) for check, action in checks(built, source, tools)]
            rows += sizes(version, folder / "sizes")
            rows += [
                run_check(place.name, partial(smoke_test, place, version, DISTRIBUTIONS, folder))
                for place in surroundings()
            ]
        rows += check_readiness(source)
    code, sentence = verdict(rows)
    print(render(rows), sentence, sep="\n\n")
    return code


def sizes(version: str, folder: Path) -> list[Row]:
    """Return the sizes of the core beside their bars; a missed bar does not stop a release."""
    (wheel,) = DISTRIBUTIONS.glob(f"swift_client-{version}-*.whl")
    measured: list[Row] = []

    def measure() -> str:
        folder.mkdir()
        try:
            bars, packages = core_install(folder, wheel)
        except RuntimeError as error:  # a command of the benchmark failed
            raise CheckFailed(str(error)) from error
        values = [("our own wheel", wheel.stat().st_size / 1e6, OWN_WHEEL_MB)]
        values += [
            (name, bars[key]["value"], bars[key]["target"])
            for name, key in (("core, compressed", "core_wheels_mb"), ("core, on disk", "core_disk_mb"))
        ]
        for name, value, bar in values:
            measured.append(Row(name, "ok" if value <= bar else "missed", f"{value:.2f} MB (bar: {bar:g})"))
        return ", ".join(f"{package['package']} {package['mb']:.2f} MB" for package in packages[:5])

    largest = run_check("largest wheels of the core", measure)
    return [*measured, largest]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CheckFailed as failure:  # before the first row: no such commit, or the tools cannot be installed
        sys.exit(str(failure))
