"""Heads that were replaced: kept beside the file, put back by `swift-client rollback`, whole after kill -9."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.models import HeadArtifact, load, save, scan
from swift_client.models.replaced_heads import install_head, kept_heads, rollback
from swift_client.server.app import Service
from swift_client.store.write_lock import WriteLock
from tests.children import ROOT, command, python
from tests.servers import FaultServer
from tests.services import service_config
from tests.test_heads import folder as folder
from tests.test_heads import head


def numbered(number: int) -> HeadArtifact:
    """A head that says which one it is."""
    return head(licence=f"head {number}")


def name_in(path: Path) -> str:
    return load(path).licence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "head.safetensors"


def rows(path: Path) -> list[tuple[int, str, bool]]:
    return [(row.number, name_in(row.path), row.withdrawn) for row in kept_heads(path)]


def test_an_installed_head_replaces_the_old_one_which_is_kept(path: Path) -> None:
    assert install_head(numbered(1), path) is None
    assert kept_heads(path) == ()
    old_bytes = path.read_bytes()
    replaced = install_head(numbered(2), path)

    assert replaced is not None
    assert (name_in(path), rows(path)) == ("head 2", [(1, "head 1", False)])
    assert replaced.path.read_bytes() == old_bytes
    assert stat.S_IMODE(replaced.path.stat().st_mode) == 0o600


def test_rollback_goes_one_head_further_each_time_and_never_back_to_a_withdrawn_one(path: Path) -> None:
    for number in (1, 2, 3):
        install_head(numbered(number), path)
    assert rollback(path).number == 2
    assert name_in(path) == "head 2"
    assert rollback(path).number == 1
    assert name_in(path) == "head 1"
    with pytest.raises(ConfigurationError, match="No earlier head is kept") as error:
        rollback(path)
    assert "by its number" in error.value.hint

    install_head(numbered(4), path)
    rollback(path)
    assert name_in(path) == "head 1"
    assert sorted(name for _, name, _ in rows(path)) == ["head 2", "head 3", "head 4"]


def test_a_calibration_between_two_installs_is_rolled_back_with_its_head(path: Path) -> None:
    install_head(numbered(1), path)
    install_head(numbered(2), path)
    save(numbered(20), path)  # as `calibrate` changes the file
    rollback(path)

    assert name_in(path) == "head 1"
    assert [(name, withdrawn) for _, name, withdrawn in rows(path)] == [("head 20", True)]


def test_any_kept_head_can_be_put_back_by_its_number(path: Path) -> None:
    for number in (1, 2, 3, 4):
        install_head(numbered(number), path)
    rollback(path, to=1)
    assert name_in(path) == "head 1"
    with pytest.raises(ConfigurationError):  # 2 and 3 came after it and are withdrawn too
        rollback(path)
    withdrawn = next(row for row in kept_heads(path) if name_in(row.path) == "head 3")
    rollback(path, to=withdrawn.number)
    assert name_in(path) == "head 3"
    rollback(path)
    assert name_in(path) == "head 1"
    with pytest.raises(ConfigurationError, match="number 99"):
        rollback(path, to=99)


def test_a_file_that_is_not_a_head_is_neither_replaced_nor_put_back(path: Path) -> None:
    path.write_text("notes")
    with pytest.raises(ArtifactError, match="is not a head"):
        install_head(numbered(1), path)
    assert path.read_text() == "notes"
    path.unlink()
    install_head(numbered(1), path)
    install_head(numbered(2), path)
    kept_heads(path)[0].path.write_text("damaged")
    with pytest.raises(ArtifactError, match="is not a head"):
        rollback(path)
    assert name_in(path) == "head 2"
    with pytest.raises(ConfigurationError, match="No earlier head"):
        rollback(path.with_name("nothing.safetensors"))
    with pytest.raises(ArtifactError, match="no head"):
        rollback(path.parent / "nowhere" / "head.safetensors")


def test_a_head_that_was_damaged_or_deleted_can_be_rolled_back(path: Path) -> None:
    for damage in (lambda: path.write_text("damaged"), path.unlink):
        install_head(numbered(1), path)
        install_head(numbered(2), path)
        damage()
        rollback(path)
        assert name_in(path) == "head 1"


def test_kept_heads_are_not_found_as_installed_ones(folder: Path) -> None:
    for number in (1, 2):
        install_head(numbered(number), folder / "a.safetensors")

    assert [entry.path.name for entry in scan([folder]).heads] == ["a.safetensors"]
    assert scan([folder]).skip_reasons == ()


def test_two_processes_do_not_change_one_head_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_head(numbered(1), path)
    monkeypatch.setattr("swift_client.models.replaced_heads._LOCK_SECONDS", 0.05)
    lock = WriteLock(path, shared=False, timeout=0)
    try:
        with pytest.raises(ConfigurationError, match="Another process"):
            install_head(numbered(2), path)
    finally:
        lock.release()
    assert name_in(path) == "head 1"


KILLED = """
import os, signal, sys
from pathlib import Path
from swift_client.models import load
from swift_client.models.replaced_heads import install_head, kept_heads, rollback
from tests.test_kept_heads import numbered

path, action = Path(sys.argv[1]), sys.argv[2]
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect", "os.listdir"}

def change():
    install_head(numbered(3), path) if action == "install" else rollback(path)

def change_until(step):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in EVENTS:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    change()
    os._exit(0)

before, after = ("head 2", "head 3") if action == "install" else ("head 2", "head 1")
killed, seen = 0, set()
for step in range(1, 500):
    for old in [path, *(row.path for row in kept_heads(path))]:
        old.unlink(missing_ok=True)
    install_head(numbered(1), path)
    install_head(numbered(2), path)
    child = os.fork()
    if child == 0:
        change_until(step)
    status = os.waitpid(child, 0)[1]
    name = load(path).licence
    seen.add(name)
    assert name in (before, after), name
    kept = {load(row.path).licence for row in kept_heads(path)}
    assert {"head 1", "head 2"} <= kept | {name}, kept
    if not os.WIFSIGNALED(status):
        assert (os.WEXITSTATUS(status), name) == (0, after)
        break
    killed += 1
    if name == before:
        change()  # the same change again
    assert load(path).licence == after, (step, load(path).licence)
    if action == "install":  # and it can be undone
        rollback(path)
        assert load(path).licence == before
assert seen == {before, after}, seen
print(killed)
"""


@pytest.mark.parametrize("action", ["install", "rollback"])
def test_a_kill_at_any_step_leaves_a_whole_head_and_loses_none(action: str, path: Path) -> None:
    result = python("-c", KILLED, str(path), action, cwd=path.parent)

    assert result.returncode == 0, result.stderr.decode()
    assert int(result.stdout) > 10  # steps at which a process was killed


def test_the_command_lists_and_rolls_back(path: Path, tmp_path: Path) -> None:
    facts = {"questions": {"train": 300, "validation": 100}, "verdict": "better than the best label-free rule"}
    install_head(head(training=facts), path)
    install_head(numbered(2), path)
    before = path.read_bytes()
    listed = command("rollback", str(path), "--list", "--json", cwd=tmp_path)
    assert path.read_bytes() == before
    shown = command("rollback", str(path), cwd=tmp_path)
    last = command("rollback", str(path), cwd=tmp_path)

    document = json.loads(listed.stdout)
    assert document["restored"] is None
    (row,) = document["kept"]
    assert (row["number"], row["withdrawn"], row["questions"]) == (1, False, 400)
    assert row["verdict"] == facts["verdict"]
    assert shown.returncode == 0
    text = b" ".join(shown.stdout.split())  # a long path wraps its line
    assert b"head 1 is back" in text
    assert b"SIGHUP" in text
    assert b"withdrawn" in text
    assert load(path).training["questions"] == facts["questions"]
    assert last.returncode == 3
    assert b"No earlier head is kept" in last.stderr
    missing = command("rollback", str(tmp_path / "mistyped.safetensors"), "--list", cwd=tmp_path)
    assert missing.returncode == 3
    assert b"There is no head" in missing.stderr


def test_the_command_takes_the_name_of_a_head_and_refuses_a_packaged_one(folder: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        install_head(numbered(number), folder / "own.safetensors")
    result = command("rollback", "openai-compatible/m", cwd=tmp_path)
    packaged = command("rollback", "pocket/pocket", cwd=tmp_path)

    assert result.returncode == 0
    assert name_in(folder / "own.safetensors") == "head 1"
    assert packaged.returncode == 3
    assert b"part of swift-client" in packaged.stderr


def test_the_commands_of_the_guide_run_in_turn(path: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        install_head(numbered(number), path)
    guide = (ROOT / "docs" / "guides" / "retraining.md").read_text()
    lines = [line for line in guide.splitlines() if line.startswith("swift-client rollback")]
    assert len(lines) == 3
    for line in lines:
        result = command(*line.split()[1:], cwd=tmp_path)
        assert result.returncode == 0, result.stderr.decode()


async def test_a_running_service_takes_the_restored_head_when_it_reloads(fault_server: FaultServer, path: Path) -> None:
    for number in (1, 2):
        install_head(numbered(number), path)
    config = service_config(fault_server, head=str(path))
    service = Service(config)
    first = service.models.models["best"].reranker.head
    rollback(path)
    await service.reload(config)
    second = service.models.models["best"].reranker.head

    assert first is not None
    assert second is not None
    assert (first.licence, second.licence) == ("head 2", "head 1")
