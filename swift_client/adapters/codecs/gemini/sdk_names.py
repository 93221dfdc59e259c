"""google-genai's objects write themselves with Python's names; on the wire stand others: ``usageMetadata``."""

from __future__ import annotations

from typing import Any

import msgspec

from swift_client.adapters.codecs.lenient_json import DECODE_ERRORS

PYTHON_FIELD_NAMES = (b"usage_metadata", b"finish_reason", b"prompt_feedback")
"""Fields that show that an object wrote itself."""


def to_camel_case(data: bytes) -> bytes:
    """Write google-genai's Python names as they stand on the wire."""
    try:
        return msgspec.json.encode(_rename_fields(msgspec.json.decode(data)))
    except DECODE_ERRORS:
        return data


def _rename_fields(value: Any) -> Any:
    if isinstance(value, list):
        return [_rename_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {_camel_case_name(name): item if name == "args" else _rename_fields(item) for name, item in value.items()}


def _camel_case_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
