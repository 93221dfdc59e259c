"""The library of installed heads: the packaged folder, then the user's folder.

Scanning reads the JSON header of each file and no weights, about 0.1 ms per file. The user's folder may hold anything:
files that are not heads are reported as skipped and never raise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from swift_client.errors import ArtifactError
from swift_client.models.file_format import read_facts

PACKAGED_FOLDER = Path(__file__).parent / "packaged"  # heads that come with this package
FOLDER_VARIABLE = "SWIFT_CLIENT_HEADS"  # environment variable that replaces the user's folder


def user_folder() -> Path:
    """Return the folder of the user's heads, which need not exist.

    It is ``$SWIFT_CLIENT_HEADS`` if that is set, else ``swift-client/heads`` in the platform's data folder: on Linux
    ``$XDG_DATA_HOME`` or ``~/.local/share``, on macOS ``~/Library/Application Support``, on Windows ``%LOCALAPPDATA%``.
    """
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder)
    return platformdirs.user_data_path("swift-client", appauthor=False) / "heads"


@dataclass(frozen=True, kw_only=True)
class HeadEntry:
    """A head's file, as its header describes it."""

    path: Path
    provider: str
    model: str
    k_min: int
    k_max: int

    @property
    def name(self) -> str:
        """The name that ``head=`` takes: "provider/model"."""
        return f"{self.provider}/{self.model}"

    @property
    def is_packaged(self) -> bool:
        """True if it is part of this package."""
        return self.path.parent == PACKAGED_FOLDER


@dataclass(frozen=True, kw_only=True)
class HeadLibrary:
    """The heads in the scanned folders.

    Attributes:
        heads: In the order of preference: by folder, then by file name.
        skip_reasons: One sentence per file or folder that could not be read.
    """

    heads: tuple[HeadEntry, ...]
    skip_reasons: tuple[str, ...]

    def for_model(self, provider: str, model: str) -> tuple[HeadEntry, ...]:
        """Return the heads for exactly this provider and model."""
        return tuple(head for head in self.heads if (head.provider, head.model) == (provider, model))

    def by_name(self, name: str) -> tuple[HeadEntry, ...]:
        """Return the heads with this name, "provider/model"."""
        return tuple(head for head in self.heads if head.name == name)


def scan(folders: Sequence[Path] | None = None) -> HeadLibrary:
    """List the heads in ``folders``, by default the packaged and then the user's. Never raises."""
    heads: list[HeadEntry] = []
    skip_reasons: list[str] = []
    for folder in (PACKAGED_FOLDER, user_folder()) if folders is None else folders:
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            skip_reasons.append(f"The folder {folder} cannot be read: {error.strerror}.")
            continue
        for name in names:
            if name.startswith(".") or not name.endswith(".safetensors"):
                continue
            try:
                facts = read_facts(folder / name)
            except ArtifactError as error:
                skip_reasons.append(error.message)
                continue
            stored = {key: getattr(facts, key) for key in ("provider", "model", "k_min", "k_max")}
            heads.append(HeadEntry(path=folder / name, **stored))
    return HeadLibrary(heads=tuple(heads), skip_reasons=tuple(skip_reasons))
