"""Install the foreign clients and programs with which the service and the stores are tested: ``make service-packages``.

Debian packages (as root), one environment per client in Python, and the packages for Node; all but the first in
``.services``. What is already there is not installed again. Without this, tests that need one of them are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks.peer_environments import PeerUnavailableError, environment_python, installed_python  # noqa: E402

FOLDER = ROOT / ".services"
CLIENTS = ROOT / "tests" / "clients"
NODE_FOLDER = FOLDER / "node"
NODE_FILES = ("package.json", "package-lock.json")
IMPORTS = {
    "openai": "openai",
    "openai1": "openai",
    "langchain": "langchain_openai",
    "pydantic_ai": "pydantic_ai.models.openai",
    "litellm": "litellm",
    "instructor": "instructor",
    "llamaindex": "llama_index.core.llms.function_calling",
    "dspy": "dspy",
    "inspect_ai": "inspect_ai.model",
}
"""Clients in Python and packages with an integration. The module is imported once, so that no test compiles it."""
DEBIAN_PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "node": "nodejs",
    "npm": "npm",
    "redis-server": "redis-server",
}
"""Debian packages by the command that they bring."""


def main() -> int:
    """Install all; print one line per client or package that is missing; return 1 if an installation failed."""
    failures = [install_debian_packages()]
    with ThreadPoolExecutor(2) as pool:
        actions = [install_node_packages, *(partial(install_client, name) for name in IMPORTS)]
        failures += pool.map(lambda action: action(), actions)
    lines = [failure for failure in failures if failure]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return int(bool(lines))


def python_of(client: str) -> Path | None:
    """Return the interpreter of a client's environment; None if it is not installed."""
    return installed_python(client, pins(client), FOLDER)


def node_is_ready() -> bool:
    """Return True if Node and the packages of the lock file are installed."""
    installed = NODE_FOLDER / "complete"
    lock = (CLIENTS / "package-lock.json").read_text()
    return shutil.which("node") is not None and installed.exists() and installed.read_text() == lock


def install_client(client: str) -> str | None:
    """Make a client's environment; return the reason if that fails."""
    if python_of(client):
        return None
    try:
        # The pins name all dependencies, so that nothing is left to resolve.
        python = environment_python(client, pins(client), FOLDER, options=("--no-deps", "--no-compile"))
    except PeerUnavailableError as error:
        return f"{client}: {error}"
    variables = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    imported = _run([str(python), "-c", f"import {IMPORTS[client]}"], env=variables)
    return imported and f"{client}: installed, but it cannot be imported: {imported}"


def install_node_packages() -> str | None:
    """Install the packages for Node as the lock file says; return the reason if that fails."""
    if node_is_ready():
        return None
    if not shutil.which("npm"):
        print("npm is missing, so the clients for Node are not tested.", file=sys.stderr)
        return None
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in NODE_FILES:
        shutil.copy(CLIENTS / name, NODE_FOLDER)
    failure = _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NODE_FOLDER)
    if failure is None:
        shutil.copy(NODE_FOLDER / "package-lock.json", NODE_FOLDER / "complete")
    return failure and f"npm: {failure}"


def install_debian_packages() -> str | None:
    """Install the Debian packages whose commands are missing; return the reason if that fails."""
    packages = [package for command, package in DEBIAN_PACKAGES.items() if not shutil.which(command)]
    if not packages:
        return None
    if os.geteuid() or not shutil.which("apt-get"):
        print(f"Not installed, so their tests are skipped: {', '.join(packages)}.", file=sys.stderr)
        return None
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "--quiet"], env=variables)  # if it fails, the lists that are there may do
    failure = _run(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages], env=variables)
    return failure and f"apt-get: {failure}"


def pins(client: str) -> list[str]:
    """Return the pins of a client, the client itself first."""
    return (CLIENTS / "requirements" / f"{client}.txt").read_text().split()


def _run(command: list[str], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str | None:
    """Run a command; return the end of its messages if it fails."""
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    return result.stderr.strip()[-500:] or f"exit code {result.returncode}" if result.returncode else None


if __name__ == "__main__":
    sys.exit(main())
