"""The files that a wheel may contain, and the ones that it must."""

from __future__ import annotations

import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from tools.release.rows import CheckFailed

_SUFFIXES = r"py|toml|json|safetensors|j2|css|js|svg"
CORE = re.compile(rf"swift_client/(?:[\w-]+/)*(?:[\w.-]+\.(?:{_SUFFIXES})|py\.typed)")
POCKET = re.compile(r"swift_client_pocket/(?:__init__\.py|model\.gguf)")
DESCRIPTIONS = re.compile(
    r"[\w.]+-[\w.]+\.dist-info/(?:METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE|sboms/[\w-]+\.cdx\.json)"
)


def check_contents(wheel: Path) -> str:
    """Return the count and size of a wheel's files.

    Raises:
        CheckFailed: a file is not expected in this wheel, or its licence, SBOM or description is missing.
    """
    code = POCKET if wheel.name.startswith("swift_client_pocket-") else CORE
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        unexpected = [name for name in names if not (code.fullmatch(name) or DESCRIPTIONS.fullmatch(name))]
        missing = [
            pattern
            for pattern in ("licenses/LICENSE", r"sboms/.+\.cdx\.json", "METADATA", "RECORD")
            if not any(re.search(rf"\.dist-info/{pattern}$", name) for name in names)
        ]
        if unexpected or missing:
            raise CheckFailed(f"{wheel.name}: unexpected {unexpected[:5]}, missing {missing}")
        size = sum(info.file_size for info in archive.infolist())
    return f"{len(names)} files, {size / 1e6:.2f} MB"


def read_metadata(wheel: Path) -> tuple[dict[str, list[str]], str]:
    """Return the fields of a wheel's METADATA, each with its values, and the description."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = HeaderParser().parsestr(archive.read(name).decode())
    fields: dict[str, list[str]] = {}
    for field, value in message.items():
        fields.setdefault(field, []).append(str(value))
    return fields, str(message.get_payload())


def relative_links(description: str) -> list[str]:
    """Return the targets of a description's links that lead nowhere on PyPI."""
    return [
        target for target in re.findall(r"\]\(([^)\s]+)", description) if not re.match(r"https?:|mailto:|#", target)
    ]
