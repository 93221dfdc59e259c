"""Validate a CycloneDX document strictly; runs in the environment of the release tools."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

error = JsonStrictValidator(SchemaVersion.V1_7).validate_str(Path(sys.argv[1]).read_text(encoding="utf-8"))
if error is not None:
    sys.exit(f"{sys.argv[1]}: {error}")
