"""Heads that are found by themselves: in the package's folder, then in the user's.

Looking reads the JSON header of each file and no weights, about 0.1 ms a file. The user's folder may hold anything:
what is no head is told, and never raised for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swift_client.errors import ArtifactError
from swift_client.models.file_format import read_facts
from swift_client.models.folders import PACKAGED_FOLDER, user_folder


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
        """What it is asked for by: "provider/model"."""
        return f"{self.provider}/{self.model}"

    @property
    def is_packaged(self) -> bool:
        """Whether it came with this package."""
        return self.path.parent == PACKAGED_FOLDER


@dataclass(frozen=True, kw_only=True)
class HeadLibrary:
    """What lies in the folders."""

    heads: tuple[HeadEntry, ...]
    """In the order in which they are preferred: by folder, then by file name."""
    skip_reasons: tuple[str, ...]
    """One sentence for each file or folder that cannot be read as what it should be."""

    def for_model(self, provider: str, model: str) -> tuple[HeadEntry, ...]:
        """Return the heads for exactly this provider and model."""
        return tuple(head for head in self.heads if (head.provider, head.model) == (provider, model))

    def by_name(self, name: str) -> tuple[HeadEntry, ...]:
        """Return the heads with this name, "provider/model"."""
        return tuple(head for head in self.heads if head.name == name)


def scan(folders: Sequence[Path] | None = None) -> HeadLibrary:
    """List the heads in ``folders``, by default the package's and then the user's. Raises nothing."""
    heads: list[HeadEntry] = []
    skipped: list[str] = []
    for folder in (PACKAGED_FOLDER, user_folder()) if folders is None else folders:
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            skipped.append(f"The folder {folder} cannot be read: {error.strerror}.")
            continue
        for name in names:
            if name.startswith(".") or not name.endswith(".safetensors"):
                continue
            try:
                facts = read_facts(folder / name)
            except ArtifactError as error:
                skipped.append(error.message)
                continue
            heads.append(
                HeadEntry(
                    path=folder / name,
                    provider=facts["provider"],
                    model=facts["model"],
                    k_min=facts.get("k_min", 0),  # a head on hidden states reads no lists of alternatives
                    k_max=facts.get("k_max", 0),
                )
            )
    return HeadLibrary(heads=tuple(heads), skip_reasons=tuple(skipped))
