"""The command ``swift-client``. typer, rich and numpy are imported only when they are needed."""

from __future__ import annotations

import json
import sys

from swift_client.errors import MissingExtraError


def main() -> None:
    """Run the command and exit: 0 ok, 2 usage, 3 configuration, 4 provider, 5 budget, 6 no completion survived."""
    try:
        from swift_client.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        error = MissingExtraError.needs("cli", "The command")
        if "--json" in sys.argv:
            document = {"error": {"type": "MissingExtraError", "message": error.message, "hint": error.hint}}
            sys.stdout.write(json.dumps(document) + "\n")
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
    sys.exit(run(sys.argv[1:]))
