"""Tests of lazy imports: a service that imports the package loads nothing that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.children import ROOT, environment

HEAVY = ("numpy", "openai", "httpx2", "torch", "transformers", "sklearn", "scipy", "pandas", "rich", "typer", "msgspec",
         "pydantic", "safetensors", "tenacity", "anthropic", "jsonschema", "pyarrow", "gguf", "datasets")  # fmt: skip
NUMBERS = {"numpy", "msgspec", "safetensors"}
LOADED: dict[str, set[str]] = {
    "import swift_client": set(),
    "import swift_client; [getattr(swift_client, name) for name in swift_client.__all__]": NUMBERS | {"tenacity"},
    "import swift_client.cli, swift_client.errors": set(),
    "import swift_client.models": NUMBERS,
    "import swift_client.adapters.huggingface, swift_client.adapters.reward_model": NUMBERS,
    "import swift_client.training": NUMBERS | {"tenacity"},
    "import swift_client.cli.app": NUMBERS | {"rich", "typer"},
}
"""A statement and what of HEAVY it may load at most."""


def loaded(statement: str) -> set[str]:
    """Run the statement in a fresh interpreter."""
    script = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, env=environment(OMP_WAIT_POLICY="passive"),
        cwd=ROOT,
    )  # fmt: skip
    return set(json.loads(result.stdout)) & set(HEAVY)


def test_nothing_is_loaded_before_it_is_used() -> None:
    with ThreadPoolExecutor(2) as pool:
        loaded_modules = dict(zip(LOADED, pool.map(loaded, LOADED), strict=True))
    too_much = {statement: modules - LOADED[statement] for statement, modules in loaded_modules.items()}
    assert not any(too_much.values()), too_much
