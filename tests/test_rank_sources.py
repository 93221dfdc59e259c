"""Files that rank_files() reads, beyond plain ones: pipes, devices, and files of one row group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swift_client.bulk import rank_files
from swift_client.errors import ConfigurationError
from tests.children import environment
from tests.stored_samples import write_replies


@pytest.mark.parametrize("name", ["pipe", "pipe.parquet"])
def test_a_pipe_is_refused_before_a_byte_of_it_is_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(ConfigurationError, match="is a pipe or a device, which cannot be read twice") as caught:
        rank_files(tmp_path / name, tmp_path / "out.jsonl")

    assert "file first" in caught.value.hint


def test_standard_input_from_a_file_is_ranked_by_all_workers(tmp_path: Path) -> None:
    replies = write_replies(tmp_path / "r.jsonl", 800)
    code = (
        "import sys; sys.modules['__main__'].__file__ = None\n"
        "from swift_client.bulk import rank_files\n"
        "print(rank_files('/dev/stdin', 'out.jsonl', workers=2).questions)"
    )
    with replies.open("rb") as file:
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=file, capture_output=True, timeout=60, env=environment()
        )

    assert (result.stdout, result.stderr) == (b"800\n", b"")
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 800
