"""The package's fixed costs: import time, download, disk, and the time to a first table.

    python benchmarks/footprint.py [--json] [--no-demo]

Needs the package index (it downloads the core dependencies) and git. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
NOT_IN_CORE = {"torch", "scipy", "pandas", "scikit_learn", "transformers"}
Bars = dict[str, dict[str, Any]]


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command and return its stdout; raise with its stderr if it fails."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def seconds(*command: str, cwd: Path = ROOT) -> float:
    """Wall-clock seconds of a command that must succeed."""
    start = time.perf_counter()
    run(*command, cwd=cwd)
    return time.perf_counter() - start


def bar(value: float, target: float, unit: str, interval: list[float] | None = None) -> dict[str, Any]:
    """Return one measured value beside its bar; every bar here is an upper bound."""
    return {
        "value": round(value, 3),
        "target": target,
        "unit": unit,
        "interval": interval and [round(end, 3) for end in interval],
    }


def import_time(statement: str, repeats: int = 21) -> dict[str, Any]:
    """Median seconds of ``statement`` over bare Python, runs interleaved, with a 95 % bootstrap interval."""
    differences = []
    for _ in range(repeats):
        baseline = seconds(sys.executable, "-c", "pass")
        differences.append(seconds(sys.executable, "-c", statement) - baseline)
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(differences, k=repeats)) for _ in range(2000))
    return bar(statistics.median(differences), 0.35, "s", [medians[50], medians[1949]])


def build_wheel(folder: Path) -> Path:
    """Build our wheel."""
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    return wheel


def core_install(folder: Path, own: Path) -> tuple[Bars, list[dict[str, Any]]]:
    """Download our wheel's core dependencies, install all of it into an empty folder below ``folder``."""
    wheels, target = folder / "wheels", folder / "target"
    constraints = ("--constraint", "constraints.txt")
    run(*PIP, "download", *constraints, "--only-binary=:all:", "--dest", str(wheels), str(own))
    run(*PIP, "install", *constraints, "--no-index", "--find-links", str(wheels), "--target", str(target), str(own))
    packages = [{"package": file.name.split("-")[0], "mb": file.stat().st_size / 1e6} for file in wheels.glob("*.whl")]
    packages.sort(key=lambda package: -package["mb"])
    disk = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    unwanted = NOT_IN_CORE & {package["package"] for package in packages}
    bars = {
        "core_wheels_mb": bar(sum(package["mb"] for package in packages), 25, "MB"),
        "core_disk_mb": bar(disk / 1e6, 120, "MB"),
        "core_unwanted_packages": bar(len(unwanted), 0, "packages"),
    }
    return bars, packages


def demo(folder: Path) -> Bars:
    """Time ``make demo`` in a fresh clone of the last commit, then again where all is installed."""
    clone = folder / "clone"
    run("git", "clone", "--quiet", str(ROOT), str(clone))
    return {
        "demo_fresh_seconds": bar(seconds("make", "demo", cwd=clone), 240, "s"),
        "demo_installed_seconds": bar(seconds("make", "demo", cwd=clone), 10, "s"),
    }


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--no-demo", action="store_true", help="leave out the two runs of make demo")
    options = parser.parse_args()
    bars = {
        "import_seconds": import_time("import swift_client"),
        "import_face_seconds": import_time("from swift_client import SwiftReranker"),
    }
    with tempfile.TemporaryDirectory() as folder:
        installed, packages = core_install(Path(folder), build_wheel(Path(folder) / "built"))
        bars |= installed
        if not options.no_demo:
            bars |= demo(Path(folder))
    own = next(package["mb"] for package in packages if package["package"] == "swift_client")
    if options.json:
        print(json.dumps({"bars": bars, "own_wheel_mb": own, "packages": packages}, indent=2))
        return
    for name, bar in bars.items():
        verdict = "ok" if bar["value"] <= bar["target"] else "MISSED"
        spread = f" ({bar['interval'][0]} to {bar['interval'][1]})" if bar["interval"] else ""
        print(f"{name:24} {bar['value']:>9} {bar['unit']:8} bar {bar['target']:<6} {verdict}{spread}")
    print(f"\n{own:7.2f} MB  of the wheels is our own\n")
    print("\n".join(f"{package['mb']:7.2f} MB  {package['package']}" for package in packages))


if __name__ == "__main__":
    main()
