"""The bodies of recorded calls, which are beside the repository on some machines, never part of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plain_decoder import RECORDINGS

__all__ = ["RECORDINGS", "bodies", "recorded"]

recorded = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings stand beside the repository only here")


def bodies(name: str) -> list[Any]:
    """Return the ``parsed_body`` of each response of a VCR cassette."""
    yaml = pytest.importorskip("yaml")
    return [call["response"]["parsed_body"] for call in yaml.safe_load((RECORDINGS / name).read_text())["interactions"]]
