from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swift_client.store.atomic_write import atomic_write
from tests.children import environment


def test_a_file_takes_its_name_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    with atomic_write(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
        assert draft.parent == tmp_path
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "nowhere" / "file") as draft:
        draft.write_text("x")


def test_a_name_cannot_be_guessed_a_symlink_is_not_followed_and_only_the_owner_reads(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".report.html.{os.getpid()}.draft").symlink_to("victim")
    (tmp_path / "report.html").symlink_to("victim")
    names = set()
    for _ in range(2):
        with atomic_write(tmp_path / "report.html") as draft:
            names.add(draft.name)
            assert stat.S_IMODE(draft.stat().st_mode) == 0o600
            draft.write_text("new")
    assert len(names) == 2
    assert stat.S_IMODE((tmp_path / "report.html").lstat().st_mode) == 0o600
    assert (tmp_path / "victim").read_text() == "precious"


def test_threads_that_write_one_file_at_once_all_succeed(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with atomic_write(tmp_path / "head") as draft:
            draft.write_text(f"{number}" * 10_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(1, 9)))
    assert len(set((tmp_path / "head").read_text())) == 1
    assert os.listdir(tmp_path) == ["head"]


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom swift_client.store.atomic_write import atomic_write\n"
        "with atomic_write('report.html') as draft:\n    draft.write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), check=False)
    (left,) = tmp_path.iterdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    (tmp_path / ".report.html.mine").write_text("not a draft")
    with atomic_write(tmp_path / "report.html"):
        assert left.exists()  # its process may still be at work
    os.utime(left, (0, 0))
    os.utime(tmp_path / ".report.html.mine", (0, 0))
    with atomic_write(tmp_path / "report.html"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".report.html.mine", "report.html"]


@pytest.mark.parametrize("name", ["n" * 250, "é" * 125, "名" * 80])
def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path: Path, name: str) -> None:
    with atomic_write(tmp_path / name) as draft:
        draft.write_text("x")
    assert os.listdir(tmp_path) == [name]
