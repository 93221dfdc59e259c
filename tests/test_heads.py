"""Tests of `head=`: heads by model, by name or as an object, and refused ones that do not fit."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import SwiftReranker, parse_response
from swift_client.errors import ArtifactError, ArtifactMismatchError, ConfigurationError
from swift_client.models import (
    NO_BETTER_VERDICT,
    GatedLinearHead,
    HeadArtifact,
    PlattCalibration,
    Standardizer,
    save,
    scan,
    user_folder,
)
from swift_client.models.file_format import read_facts
from swift_client.models.library import PACKAGED_FOLDER
from swift_client.models.resolve_head import find_for_model
from swift_client.scoring.scorers import score
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.selection.voting import LABEL_FREE_WEIGHTS
from tests.servers import FaultServer, chat, chat_body

PATHS = "swift_client.models.library"

# The replies of these tests have two or three tokens.
SHORT_NOTE = LABEL_FREE_WEIGHTS[0].note


def head(**facts: Any) -> HeadArtifact:
    """Build a head whose score is the mean logprob times 3, for openai-compatible/m."""
    parts = {
        "features": ("logprob",),
        "width": 20,
        "standardizer": Standardizer(mean=[0.0], scale=[1.0]),
        "head": GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[3.0], reward_bias=0.0),
        "calibration": PlattCalibration(a=1.0, b=0.0),
        "provider": "openai-compatible",
        "model": "m",
        "k_min": 3,
        "k_max": 7,
    }
    return HeadArtifact(**(parts | facts))  # type: ignore[arg-type]


def reader_of_identities() -> HeadArtifact:
    """Build a head that reads which tokens the alternatives are, and nothing else."""
    weights = np.random.default_rng(5).normal(size=128)
    return head(
        features=("alternatives_hash",),
        standardizer=Standardizer(mean=np.zeros(128), scale=np.ones(128)),
        head=GatedLinearHead(gate_weight=np.zeros(128), gate_bias=0.0, reward_weight=weights, reward_bias=0.0),
    )


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for the user's heads."""
    folder = tmp_path / "heads"
    folder.mkdir()
    monkeypatch.setenv("SWIFT_CLIENT_HEADS", str(folder))
    return folder


def ask(server: FaultServer, model: str = "m", **options: Any) -> SwiftReranker:
    return SwiftReranker("openai-compatible", model, base_url=server.url, **{"max_retries": 0, **options})


@contextmanager
def unprivileged() -> Iterator[None]:
    """Switch to user "nobody" if the tests run as root, who can read every file."""
    if os.name != "posix" or os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- found by provider and model ------------------------------------------------------------------------------------


def test_a_head_in_the_users_folder_is_used_for_exactly_its_provider_and_model(
    folder: Path, fault_server: FaultServer
) -> None:
    save(head(model="other"), folder / "a.safetensors")
    save(head(provider="openai"), folder / "b.safetensors")
    save(head(), folder / "c.safetensors")
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=4)
    assert selection.scorer == "head openai-compatible/m"
    assert fault_server.requests[0].json["top_logprobs"] == 7
    assert selection.probability is not None
    assert selection.notes == ()
    with ask(fault_server, "third") as reranker:
        selection = reranker.best_of("q", n=4)
    assert (selection.scorer, selection.probability, selection.notes) == ("mean_logprob", None, ())


def test_none_a_scorer_or_no_logprobs_leave_the_found_head_alone(folder: Path, fault_server: FaultServer) -> None:
    save(head(), folder / "a.safetensors")
    for options in ({"head": None}, {"scorer": "mean_logprob"}, {"require_logprobs": False}):
        with ask(fault_server, **options) as reranker:
            assert reranker.best_of("q", n=2).scorer == "mean_logprob"


def test_a_head_that_reads_longer_lists_than_are_asked_for_is_not_found_and_the_choice_says_so(
    folder: Path, fault_server: FaultServer
) -> None:
    save(head(), folder / "deep.safetensors")
    with ask(fault_server, top_logprobs=2) as reranker:
        selection = reranker.best_of("q", n=2)
    assert selection.scorer == "mean_logprob"
    assert len(selection.notes) == 1
    assert "deep.safetensors needs 3 alternatives per token, not 2: it is not used" in selection.notes[0]
    save(head(k_min=1), folder / "shallow.safetensors")
    assert "head openai-compatible/m" in repr(ask(fault_server, top_logprobs=2))


def test_packaged_heads_come_before_the_users_and_each_folder_is_read_by_file_name(tmp_path: Path) -> None:
    for name in ("one/b", "one/a", "two/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(head(licence=name), tmp_path / f"{name}.safetensors")
    scan_result = scan([tmp_path / "one", tmp_path / "two", tmp_path / "three"])
    assert [head.path.relative_to(tmp_path).as_posix() for head in scan_result.heads] == [
        *("one/a.safetensors", "one/b.safetensors", "two/a.safetensors")
    ]
    assert scan_result.skip_reasons == ()


@pytest.mark.parametrize("packaged", sorted(PACKAGED_FOLDER.glob("*.safetensors")), ids=lambda path: path.name)
def test_a_packaged_head_loads_and_is_found_at_its_rows_own_address_alone(packaged: Path) -> None:
    facts = read_facts(packaged)
    found_head = find_for_model(facts.provider, facts.model)
    assert found_head.artifact is not None
    assert found_head.artifact.training == facts.training
    assert f"head {found_head.artifact.provider}/" in repr(SwiftReranker(facts.provider, facts.model))
    elsewhere = SwiftReranker(facts.provider, facts.model, base_url="http://127.0.0.1:9/v1")
    assert "mean_logprob" in repr(elsewhere)
    assert "mean_logprob" in repr(SwiftReranker(Named(facts.provider), facts.model))


class Named:
    """A user's object with the name of a provider in the table."""

    def __init__(self, name: str) -> None:
        self.name = name

    def complete(self, messages: list[dict[str, Any]], n: int, **options: Any) -> dict[str, Any]:
        return chat_body(["The answer is 4"] * n, k=options.get("top_logprobs"))


def test_a_head_trained_on_an_object_of_ones_own_is_found_by_that_objects_name(folder: Path) -> None:
    save(head(provider="mine", model="unknown"), folder / "mine.safetensors")
    with SwiftReranker(Named("mine")) as reranker:
        assert reranker.best_of("q", n=2).scorer == "head mine/unknown"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SWIFT_CLIENT_HEADS": "/data/heads", "XDG_DATA_HOME": "/xdg"}, "/data/heads"),
        ({"XDG_DATA_HOME": "/xdg"}, "/xdg/swift-client/heads"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.local/share/swift-client/heads"),
        ({"XDG_DATA_HOME": "", "HOME": "/home/ada"}, "/home/ada/.local/share/swift-client/heads"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Linux")
def test_the_users_folder_is_where_the_platform_keeps_data(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_folder() == Path(expected)


# --- what lies in the folder may be anything ------------------------------------------------------------------------


def strange(folder: Path) -> None:
    """Fill a folder with files that are not heads."""
    (folder / "empty.safetensors").touch()
    (folder / "long.safetensors").write_bytes((2**31).to_bytes(8, "little") + b"{" * 64)
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04\x95" + b"\0" * 64)
    (folder / "adapter.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "deep.safetensors").write_bytes((60_000).to_bytes(8, "little") + b"[" * 60_000)
    (folder / "list.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    (folder / "folder.safetensors").mkdir()
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "._hidden.safetensors").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("mine")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_strange_files_in_the_folder_are_skipped_and_told_once_where_no_head_was_found(
    folder: Path, fault_server: FaultServer
) -> None:
    strange(folder)
    assert len(scan().skip_reasons) == 10
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=2)
    assert len(selection.notes) == 1
    assert "Skipped while looking for a head" in selection.notes[0]
    assert "9 more were skipped" in selection.notes[0]
    save(head(), folder / "mine.safetensors")
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=2)
    assert (selection.scorer, selection.notes) == ("head openai-compatible/m", ())


def test_a_head_of_the_right_name_whose_weights_are_broken_is_reported_and_the_next_one_used(
    folder: Path, fault_server: FaultServer
) -> None:
    save(head(), folder / "a.safetensors")
    content = (folder / "a.safetensors").read_bytes()
    (folder / "a.safetensors").write_bytes(content[:-4])
    assert "mean_logprob" in repr(ask(fault_server))
    save(head(), folder / "b.safetensors")
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=2)
    assert selection.scorer == "head openai-compatible/m"
    assert len(selection.notes) == 1
    assert "a.safetensors is not a head" in selection.notes[0]


def test_a_folder_or_head_without_read_permission_costs_nothing_but_the_head() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        save(head(), folder / "a.safetensors")
        (folder / "a.safetensors").chmod(0)
        with unprivileged():
            [skipped] = scan([folder]).skip_reasons
            assert skipped.endswith("a.safetensors cannot be read: Permission denied.")
        folder.chmod(0)
        with unprivileged():
            assert scan([folder]).skip_reasons == (f"The folder {folder} cannot be read: Permission denied.",)
        folder.chmod(0o755)


def test_looking_reads_no_weights(folder: Path, tmp_path: Path) -> None:
    save(head(), tmp_path / "head")
    data = (tmp_path / "head").read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    (folder / "cut.safetensors").write_bytes(data[:size])
    [summary] = scan([folder]).heads
    assert (summary.name, summary.k_min, summary.k_max) == ("openai-compatible/m", 3, 7)


# --- by name, by path, by value -------------------------------------------------------------------------------------


def test_a_head_asked_for_by_name_is_used_for_another_model_provider_and_k_and_says_so(
    folder: Path, fault_server: FaultServer
) -> None:
    save(head(provider="openai", model="gpt-x"), folder / "any-file-name.safetensors")
    with ask(fault_server, head="openai/gpt-x", top_logprobs=2) as reranker:
        selection = reranker.best_of("q", n=2)
    assert selection.scorer == "head openai/gpt-x"
    assert selection.probability is not None
    assert selection.notes == (
        "The head was trained on openai/gpt-x, not on openai-compatible/m. "
        "It is used because it was requested by name.",
        "head openai/gpt-x was trained on 3 or more alternatives per token, not on 2.",
    )


def test_a_name_goes_before_a_path_and_dot_slash_makes_it_a_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(head(), folder / "a.safetensors")
    (tmp_path / "openai-compatible").mkdir()
    save(head(model="filed"), tmp_path / "openai-compatible" / "m")
    options = {"model": "filed", "base_url": "http://127.0.0.1:9/v1"}
    assert "head openai-compatible/m'" in repr(
        SwiftReranker("openai-compatible", head="openai-compatible/m", **options)
    )
    assert "head openai-compatible/filed" in repr(
        SwiftReranker("openai-compatible", head="./openai-compatible/m", **options)
    )


def test_what_is_neither_a_name_nor_a_file_is_refused_with_the_names_there_are(folder: Path) -> None:
    save(head(), folder / "a.safetensors")
    with pytest.raises(ArtifactError, match=r"No such file .*Installed heads: .*openai-compatible/m"):
        SwiftReranker("openai", head="openai/gpt-4.1-minni")


@pytest.mark.parametrize("as_path", [False, True])
def test_a_path_or_value_for_something_else_is_refused_with_the_reason_and_what_to_do(
    as_path: bool, folder: Path, tmp_path: Path
) -> None:
    save(head(), tmp_path / "head.safetensors")
    head_or_path: Any = tmp_path / "head.safetensors" if as_path else head()
    with pytest.raises(ArtifactMismatchError, match="trained on openai-compatible/m, not on openai/gpt-4") as no:
        SwiftReranker("openai", head=head_or_path)
    assert 'ask for it by name: head="openai-compatible/m"' in no.value.hint
    assert str(folder) in no.value.hint
    save(head(), folder / "moved.safetensors")
    assert "head openai-compatible/m" in repr(SwiftReranker("openai", head="openai-compatible/m"))


def test_a_head_on_another_feature_set_is_refused_in_whatever_form_it_comes(tmp_path: Path) -> None:
    for facts, reason in (
        ({"features": ("moon_phase",)}, "Unknown features: moon_phase"),
        ({"features": ("logprob", "entropy")}, "1 weights for 2 columns"),
        ({"response_terms": ("agreement",)}, "0 weights for 1 columns"),
    ):
        misfit = head(provider="openai", model="gpt-4.1-mini", **facts)
        save(misfit, tmp_path / "head")
        for form in (misfit, tmp_path / "head"):
            with pytest.raises(ArtifactMismatchError, match=reason):
                SwiftReranker("openai", head=form)


@pytest.mark.parametrize("wrong", [3, b"head", ["head"], 1.5])
def test_anything_but_a_head_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="head= takes"):
        SwiftReranker("openai", head=wrong)


# --- what a head needs, and what it is worth ------------------------------------------------------------------------


@pytest.mark.parametrize("deadline", [None, 30.0])
def test_the_identities_of_alternatives_are_read_for_a_head_that_needs_them(
    deadline: float | None, fault_server: FaultServer
) -> None:
    identity_reader = reader_of_identities()
    body = chat(["The answer is 4", "It is 5", "The answer is 4"], k=7).body
    if deadline is None:
        fault_server.script(chat(["The answer is 4", "It is 5", "The answer is 4"], k=7))
    else:
        fault_server.answers = ("The answer is 4", "It is 5", "The answer is 4")
    expected = score(parse_response(body, token_ids=True), identity_reader)
    with ask(fault_server, head=identity_reader) as reranker:
        for selection in (reranker.best_of("q", n=3, deadline=deadline), reranker.rank(body)):
            assert [candidate.score for candidate in selection.candidates] == pytest.approx(
                expected.values.tolist(), rel=1e-6
            )
            assert selection.best.completion.top_ids is not None
    with ask(fault_server, head=head()) as reranker:
        assert reranker.rank(body).best.completion.top_ids is None


def test_lists_that_came_too_short_put_the_head_aside_with_a_note(folder: Path, fault_server: FaultServer) -> None:
    save(head(), folder / "a.safetensors")
    fault_server.serve(lambda request: chat(["The answer is 4", "It is 5"], k=2))
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=2)
    assert selection.scorer == "mean_logprob"
    assert selection.notes == (
        "head openai-compatible/m needs 3 alternatives per token and there are 2, "
        "so the mean_logprob scorer is used instead.",
        SHORT_NOTE,
    )


def test_a_found_head_that_was_no_better_than_chance_is_not_used_and_says_so(
    folder: Path, fault_server: FaultServer
) -> None:
    confident_head = GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[90.0], reward_bias=90.0)
    texts = ["The answer is 4", "The answer is 5", "The answer is 4"]
    fault_server.serve(lambda request: chat(texts, k=7))
    save(head(head=confident_head, training={"verdict": NO_BETTER_VERDICT}), folder / "a.safetensors")
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=3)
    assert (selection.answer, selection.scorer, selection.probability) == ("4", "mean_logprob", None)
    assert selection.notes == (
        "head openai-compatible/m ranked the answers of one question no better than chance on its validation "
        "questions, so the mean_logprob scorer is used instead.",
        SHORT_NOTE,
    )


def test_an_answers_probability_is_its_share_of_the_odds_of_all_whole_completions() -> None:
    texts = ["The answer is 4", "The answer is 5", "The answer is 4.0", "no idea", "The answer is 4"]
    body = chat_body(texts, k=7, finish_reason=["stop", "stop", "stop", "stop", "length"])
    plain_head = head()
    selection = select_best(parse_response(body), SelectionConfig(scorer=plain_head, answer="number"))
    p = [candidate.probability or 0.0 for candidate in selection.candidates]
    odds = [min(max(chance, 1e-3), 1 - 1e-3) / (1 - min(max(chance, 1e-3), 1 - 1e-3)) for chance in p]
    whole = 1 + odds[0] + odds[1] + odds[2]  # 1 for all answers that nobody gave
    assert selection.candidates[0].answer_probability == pytest.approx((odds[0] + odds[2]) / whole)
    assert selection.candidates[2].answer_probability == selection.candidates[0].answer_probability
    assert selection.candidates[1].answer_probability == pytest.approx(odds[1] / whole)
    assert [selection.candidates[index].answer_probability for index in (3, 4)] == [None, None]
    assert selection.answer_probability == selection.best.answer_probability
    document = selection.to_dict()
    assert document["answer_probability"] == selection.answer_probability
    assert document["candidates"][3]["answer_probability"] is None
    assert select_best(parse_response(body), SelectionConfig(answer="number")).answer_probability is None
