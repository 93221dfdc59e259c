"""Tests of bad samples, heads and disks: one short message, an exit code, and no half-written file."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.models import save
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training.feature_matrix import FeatureMatrixBuilder
from swift_client.types import Usage

from .graded import graded_groups
from .servers import chat_body
from .test_heads import head, unprivileged

GROUPS = graded_groups(12, n=4)
ROOM = "File too large" if sys.platform == "linux" else ""


def store(path: str, groups: list[Group], model: str = "m") -> None:
    with SampleStore(path, write=True) as samples:
        samples.begin(Meta(provider="pocket", model=model, top_logprobs=8))
        for group in groups:
            messages = ({"role": "user", "content": "2+2"},)
            samples.add_questions([StoredQuestion(id=group.question_id, messages=messages, answer="4")])
            samples.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
            samples.set_labels({(group.question_id, index): float(label) for index, label in enumerate(group.labels)})


def with_nan(group: Group) -> Group:
    spoiled = [
        replace(completion, logprobs=completion.logprobs * np.float32(np.nan)) for completion in group.completions
    ]
    return replace(group, completions=tuple(spoiled))


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Make every write beyond ``size`` bytes fail, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 3) -> str:
    """Run a command that must fail: the same facts as text and as JSON, no traceback; return the message."""
    assert run(arguments) == code
    text = capsys.readouterr()
    assert text.out == ""
    assert "Traceback" not in text.err
    assert run([*arguments, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert "\n" not in error["message"]
    assert error["hint"]
    assert " ".join(error["message"].split())[:20] in " ".join(text.err.split())
    return str(error["message"])


# --- samples that no head can be trained on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([replace(group, labels=np.ones(4)) for group in GROUPS], "All 48 completions are right"),
        ([replace(group, labels=np.zeros(4)) for group in GROUPS], "All 48 completions are wrong"),
        (GROUPS[:1], "one question only"),
        (GROUPS[:8] + graded_groups(4, n=4, k=3, seed=5), "16 of 48 completions list fewer than 8 alternatives"),
        ([with_nan(group) for group in GROUPS], r"NaN, infinite or above 0 \(question q0-\d+, index 0"),
    ],
    ids=["all right", "all wrong", "one question", "mixed k", "NaN rows"],
)
def test_samples_that_no_head_can_be_trained_on_leave_no_file(
    groups: list[Group], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("samples.db", groups)
    before = sorted(os.listdir())
    assert re.search(message, refusal(["train", "samples.db", "--out", "head", "--recipe", "swift"], capsys))
    assert sorted(os.listdir()) == before


def test_samples_of_two_models_are_refused_and_an_older_head_stays(capsys: pytest.CaptureFixture[str]) -> None:
    store("a.db", GROUPS[:3])
    store("b.db", GROUPS[:3], model="other")
    Path("head").write_text("mine")
    assert "samples of 2 models" in refusal(["train", "a.db", "b.db", "--out", "head"], capsys)
    assert Path("head").read_text() == "mine"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.touch(),
        lambda path: path.write_bytes(pickle.dumps([1, 2])),
        lambda path: path.symlink_to("/dev/zero"),
        os.mkfifo,
    ],
    ids=["folder", "empty", "pickle", "device", "pipe"],
)
def test_anything_but_a_samples_file_is_reported_without_waiting(
    make: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("samples.db"))
    assert "samples.db" in refusal(["train", "samples.db", "--out", "head"], capsys)
    assert not Path("head").exists()


# --- heads that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.touch(), "not a safetensors file"),
        (lambda path: path.write_bytes(pickle.dumps({"weight": [1.0]})), "not a safetensors file"),
        (lambda path: path.write_bytes((2 * 2**30).to_bytes(8, "little") + b"{"), "not a safetensors file"),
        (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"), "has no entry 'swift_client'"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: None, "No such file"),
        (lambda path: save(head(model="other"), path), "trained on openai-compatible/other, not on openai/"),
        (lambda path: save(head(provider="openai", model="gpt-4.1-mini", k_min=21, k_max=21, width=21), path), "21"),
        (lambda path: save(head(features=("moon_phase",)), path), "Unknown features: moon_phase"),
        (lambda path: save(head(features=("rank_surprise",)), path), "1 weights for 20 columns"),
    ],
    ids=[
        *("folder", "empty", "pickle", "2 GB header", "no metadata", "device", "pipe", "missing"),
        *("another model", "another k", "another feature set", "wrong width"),
    ],
)
def test_anything_but_a_head_for_this_model_is_refused_by_the_command_before_anything_is_sent(
    make: Callable[[Path], object], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("head.safetensors"))
    assert reason in refusal(["best-of", "q", "--head", "./head.safetensors"], capsys)


def test_a_head_may_rank_replies_at_hand_by_path_name_or_for_their_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: Path
) -> None:
    monkeypatch.setenv("SWIFT_CLIENT_HEADS", str(working_folder))
    save(head(), working_folder / "mine.safetensors")
    Path("reply.json").write_text(json.dumps(chat_body(["The answer is 4", "The answer is 5"], k=7)))

    def scorer(*options: str) -> str:
        assert run(["rank", "reply.json", "--json", *options]) == 0
        return str(json.loads(capsys.readouterr().out)["scorer"])

    assert scorer() == "mean_logprob"
    assert scorer("--head", "auto") == "mean_logprob"
    named = "head openai-compatible/m"
    assert scorer("--head", "mine.safetensors") == named
    assert scorer("--head", "openai-compatible/m") == named
    assert scorer("--head", "auto", "--provider", "openai-compatible", "--model", "m") == named
    assert "--head and --scorer cannot be combined" in refusal(
        ["rank", "reply.json", "--head", "mine.safetensors", "--scorer", "entropy"], capsys
    )


def test_heads_and_broken_ones_are_listed_with_the_providers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: Path
) -> None:
    monkeypatch.setenv("SWIFT_CLIENT_HEADS", str(working_folder))
    save(head(), working_folder / "mine.safetensors")
    (working_folder / "other.safetensors").touch()
    assert run(["providers", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    own_heads = {
        "path": str(working_folder / "mine.safetensors"),
        "provider": "openai-compatible",
        "model": "m",
        "k_min": 3,
        "k_max": 7,
        "packaged": False,
    }
    assert document["heads"][-1] == own_heads
    assert document["heads_folder"] == str(working_folder)
    assert len(document["skipped"]) == 1
    assert run(["providers"]) == 0
    text = capsys.readouterr()
    assert "openai-compatible/m" in text.out
    assert "other.safetensors is not a head" in " ".join(text.err.split())


def test_files_that_may_not_be_read_or_written_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        save(head(), folder / "head")
        (folder / "head").chmod(0)
        store(str(folder / "samples.db"), GROUPS[:3])
        (folder / "samples.db").chmod(0)
        train = ["train", str(folder / "samples.db"), "--out", str(folder / "new")]
        run(train)  # torch and all else is imported by one who may
        capsys.readouterr()
        with unprivileged():
            assert "Permission denied" in refusal(["best-of", "q", "--head", str(folder / "head")], capsys)
            assert "samples.db cannot be opened" in refusal(train, capsys)
            with pytest.raises(ArtifactError, match=r"cannot be written .*Permission denied"):
                save(head(), folder / "new")
        assert sorted(os.listdir(folder)) == ["head", "samples.db"]


# --- a disk without room ----------------------------------------------------------------------------------------------


def test_a_head_that_does_not_fit_on_the_disk_leaves_the_old_one_and_no_rest() -> None:
    save(head(), "head")
    before = Path("head").read_bytes()
    with no_file_beyond(512), pytest.raises(ArtifactError, match=f"cannot be written to head: {ROOM}"):
        save(head(licence="x" * 5000), "head")
    assert os.listdir() == ["head"]
    assert Path("head").read_bytes() == before


@pytest.mark.parametrize("room", [0, 100_000])
def test_features_that_do_not_fit_on_the_disk_are_one_sentence(room: int) -> None:
    def build() -> None:
        with FeatureMatrixBuilder(("logprob", "rank_surprise"), (), width=8) as builder:
            for group in graded_groups(200, n=4):
                builder.add(group, [None] * 4, k=8)
            builder.build()

    with no_file_beyond(room), pytest.raises(ConfigurationError, match="do not fit on the disk") as full:
        build()
    assert "TMPDIR" in full.value.hint
