"""Tests of providers: their names, addresses, key variables and models, and how another package adds one."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from swift_client import rank
from swift_client.adapters import CODECS, PROVIDERS, Capabilities, Provider, resolve
from swift_client.errors import MissingApiKeyError, UnknownProviderError
from swift_client.models import user_folder
from tests.face.frozen import golden, spelled
from tests.servers import chat_body

SPELLED = (
    *("key_variable", "base_url", "base_url_variable", "base_path", "default_model", "codec", "logprobs_request"),
    *("sign_in", "key_header", "batches"),
)
KNOWN = ("n_max", "top_logprobs_max", "logprobs_known", "streams_logprobs", "logprob_space", "end_of_turn", "thinking")

ADDED = """
from dataclasses import replace
from swift_client.adapters import PROVIDERS
BASE = PROVIDERS["openai-compatible"]
ROW = replace(BASE, name="face-acme", base_url="https://api.acme.test/v1", default_model="a-1")
"""


def test_every_row_has_its_name_address_key_and_model() -> None:
    rows = {name: [getattr(row, attribute) for attribute in SPELLED] for name, row in PROVIDERS.items()}
    golden("providers", {"fields": SPELLED, **rows})


def test_every_row_can_what_it_could() -> None:
    facts = {name: [getattr(row.capabilities, attribute) for attribute in KNOWN] for name, row in PROVIDERS.items()}
    golden("capabilities", {"fields": KNOWN, **facts})


def test_a_row_is_spelled_as_packages_of_others_spell_theirs() -> None:
    spellings = {
        kind.__name__: [
            field.name if field.default is MISSING and field.default_factory is MISSING
            else f"{field.name}={'<made>' if field.default is MISSING else spelled(field.default)}"
            for field in fields(kind)
        ]
        for kind in (Provider, Capabilities)
    }  # fmt: skip
    golden("row", {**spellings, "CODECS": list(CODECS)})


@pytest.mark.parametrize("spelling", ["openai/gpt-4.1-nano", "openai:gpt-4.1-nano"])
def test_a_provider_and_its_model_are_one_word(spelling: str) -> None:
    row, model = resolve(spelling)
    assert (row.name, model) == ("openai", "gpt-4.1-nano")


def test_a_missing_key_is_named_by_its_variable() -> None:
    from swift_client import SwiftReranker

    with SwiftReranker("openai") as reranker, pytest.raises(MissingApiKeyError, match="OPENAI_API_KEY"):
        reranker.best_of("2 + 2?", n=1)


def test_another_package_adds_a_provider_by_the_entry_point_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "face_acme.py").write_text(ADDED)
    info = tmp_path / "face_acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: face-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[swift_client.providers]\nface-acme = face_acme:ROW\n")
    with pytest.raises(UnknownProviderError):
        rank(chat_body(["4"], k=5), provider="face-acme")
    monkeypatch.syspath_prepend(tmp_path)
    assert rank(chat_body(["4"], k=5), provider="face-acme").provider == "face-acme"


def test_heads_of_the_user_stay_in_their_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWIFT_CLIENT_HEADS", str(tmp_path))
    assert user_folder() == tmp_path
    monkeypatch.delenv("SWIFT_CLIENT_HEADS")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert user_folder() == Path("/data/swift-client/heads")
