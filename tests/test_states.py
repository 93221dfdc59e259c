"""Tests of files of hidden states: reading, resuming, cutting, and refusing hostile files."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.errors import ConfigurationError
from swift_client.store import StateFile, StateLayout
from swift_client.types import Completion

LAYOUT = StateLayout(layers=(0, 2, 3), width=4, vocabulary=5)
RNG = np.random.default_rng(0)


def completions(*lengths: int, columns: int = LAYOUT.columns) -> list[Completion]:
    return [Completion(text="x", hidden_states=RNG.normal(size=(t, columns)).astype(np.float16)) for t in lengths]


def fill(samples: Path, *lengths: int, question: str = "q é", first: int = 0) -> list[np.ndarray[Any, Any]]:
    written = completions(*lengths)
    with StateFile(samples, write_layout=LAYOUT) as file:
        stateless = file.append(question, range(first, first + len(lengths)), written)
    assert all(completion.hidden_states is None for completion in stateless)
    return [np.asarray(completion.hidden_states) for completion in written]


def test_what_was_appended_is_read_back_by_question_and_number_also_after_another_run(tmp_path: Path) -> None:
    first = fill(tmp_path / "s.db", 3, 0, 7)
    second = fill(tmp_path / "s.db", 2, first=3)
    with StateFile(tmp_path / "s.db") as file:
        assert file.layout == LAYOUT
        assert set(file.keys()) == {("q é", number) for number in range(4)}
        for number, expected in enumerate([*first, *second]):
            np.testing.assert_array_equal(file.states("q é", number, LAYOUT), expected)


def test_layers_are_read_by_their_numbers_in_the_order_asked_for(tmp_path: Path) -> None:
    (all_layers,) = fill(tmp_path / "s.db", 6)
    with StateFile(tmp_path / "s.db") as file:
        np.testing.assert_array_equal(
            file.states("q é", 0, file.layout.select_layers([3, 0])), all_layers[:, [8, 9, 10, 11, 0, 1, 2, 3]]
        )
        np.testing.assert_array_equal(file.states("q é", 0, file.layout.select_layers()), all_layers[:, :12])
        np.testing.assert_array_equal(file.states("q é", 0, file.layout.select_vocabulary()), all_layers[:, 12:])
        with pytest.raises(ConfigurationError, match="Hidden state 1 was not captured"):
            file.layout.select_layers([0, 1])
        with pytest.raises(ConfigurationError, match="logprobs were not captured"):
            file.layout.select_layers().select_vocabulary()


def test_states_are_mapped_and_not_copied_where_they_lie_in_one_piece(tmp_path: Path) -> None:
    fill(tmp_path / "s.db", 6)
    with StateFile(tmp_path / "s.db") as file:
        for layout in (LAYOUT, LAYOUT.select_layers(), LAYOUT.select_layers([2]), LAYOUT.select_vocabulary()):
            assert file.states("q é", 0, layout).base is not None


def test_what_a_killed_run_left_half_written_is_overlooked_and_then_cut_off(tmp_path: Path) -> None:
    states_kept = fill(tmp_path / "s.db", 5)[0]
    path = tmp_path / "s.db.states"
    content = path.read_bytes()
    fill(tmp_path / "s.db", 4, first=1)
    longer = path.read_bytes()
    for end in range(len(content), len(longer), 7):
        path.write_bytes(longer[:end])
        with StateFile(tmp_path / "s.db") as file:
            assert set(file.keys()) == {("q é", 0)}
        with StateFile(tmp_path / "s.db", write_layout=LAYOUT):
            pass
        assert path.read_bytes() == content
    states_again = fill(tmp_path / "s.db", 2, first=1)[0]
    with StateFile(tmp_path / "s.db") as file:
        np.testing.assert_array_equal(file.states("q é", 0, LAYOUT), states_kept)
        np.testing.assert_array_equal(file.states("q é", 1, LAYOUT), states_again)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    fill(tmp_path / "s.db", 1)
    assert os.stat(tmp_path / "s.db.states").st_mode & 0o077 == 0


def test_states_of_another_layout_are_refused_and_nothing_is_added(tmp_path: Path) -> None:
    with StateFile(tmp_path / "s.db", write_layout=LAYOUT) as file:
        for wrong in (Completion(text="x"), *completions(3, columns=16)):
            with pytest.raises(ConfigurationError, match="of another kind"):
                file.append("q", [0, 1], [*completions(2), wrong])
        assert not set(file.keys())
    with pytest.raises(ConfigurationError, match="holds vocabulary 5, but this run captures vocabulary 0"):
        StateFile(tmp_path / "s.db", write_layout=LAYOUT.select_layers())
    with pytest.raises(ConfigurationError, match=r"holds layers \[0, 2, 3\], but this run captures layers \[0, 2, 4\]"):
        StateFile(tmp_path / "s.db", write_layout=replace(LAYOUT, layers=(0, 2, 4)))


def test_a_writer_starts_a_cut_header_again_and_leaves_any_other_short_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db.states"
    for data in (b"", b"swft", b"swftHID1\x10\0"):
        path.write_bytes(data)
        with StateFile(tmp_path / "s.db", write_layout=LAYOUT) as file:
            assert file.layout == LAYOUT
        with StateFile(tmp_path / "s.db") as file:
            assert not set(file.keys())
    path.write_bytes(b"my notes")
    with pytest.raises(ConfigurationError, match="is not a file of hidden states"):
        StateFile(tmp_path / "s.db", write_layout=LAYOUT)
    assert path.read_bytes() == b"my notes"


def test_missing_states_and_numbers_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file of hidden states"):
        StateFile(tmp_path / "s.db")
    fill(tmp_path / "s.db", 2)
    path = tmp_path / "s.db.states"
    path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8)
    with StateFile(tmp_path / "s.db") as file:
        with pytest.raises(ConfigurationError, match="lacks the states of question 'other'"):
            file.states("other", 0, LAYOUT)
        with pytest.raises(ConfigurationError, match="is damaged"):
            file.states("q é", 0, LAYOUT)


GOOD = {"layers": [0, 1], "width": 4, "moment": "read", "vocabulary": 0}


@pytest.mark.parametrize(
    "facts",
    [
        [],
        {},
        {**GOOD, "more": 1},
        {**GOOD, "layers": [0, 0]},
        {**GOOD, "layers": [-1]},
        {**GOOD, "layers": ["a"]},
        {**GOOD, "layers": [[1]]},
        {**GOOD, "width": 2**40},
        {**GOOD, "width": 1.5},
        {**GOOD, "width": True},
        {**GOOD, "layers": [], "vocabulary": 0},
        {**GOOD, "moment": "later"},
        {**GOOD, "moment": []},
    ],
)
def test_a_file_that_says_impossible_things_of_itself_is_refused(tmp_path: Path, facts: Any) -> None:
    text = json.dumps(facts).encode()
    (tmp_path / "s.db.states").write_bytes(struct.pack("<8sQ", b"swftHID1", len(text)) + text)
    with pytest.raises(ConfigurationError, match=r"s\.db\.states is not a file of hidden states"):
        StateFile(tmp_path / "s.db")


def test_any_other_file_and_any_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "s.db.states"
    for data in (b"", b"x", b"swftHID1" + b"\xff" * 8, b"swftHID1" + struct.pack("<Q", 5) + b"[" * 5, b"\0" * 4000):
        path.write_bytes(data)
        with pytest.raises(ConfigurationError, match="is not a file of hidden states"):
            StateFile(tmp_path / "s.db")
    path.unlink()
    fill(tmp_path / "s.db", 3, 2)
    content = path.read_bytes()
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :])
        try:
            with StateFile(tmp_path / "s.db") as file:
                for key in list(file.keys()):
                    file.states(*key, file.layout)
        except ConfigurationError:
            pass
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        StateFile(tmp_path / "s.db")
