"""Tests of the equality of answers, and of comparisons that hang."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.answers import are_equal, math_equality, normalize, read
from swift_client.answers.equality import group_answers
from swift_client.answers.numbers import parse_number, shorten_decimal

needs_math = pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed")
TOWER = "9^{9^{9^{9^{9}}}}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", Fraction(18)),
        ("-0.50", Fraction(-1, 2)),
        ("1/3", Fraction(1, 3)),
        ("-2 1/2", Fraction(-5, 2)),
        ("1.5e3", Fraction(1500)),
        ("1.5*10^3", Fraction(1500)),
        ("10^-2", Fraction(1, 100)),
        ("1e-2", Fraction(1, 100)),
        ("0.1", Fraction(1, 10)),
        ("1/0", None),
        ("1e401", None),
        ("1e999999999", None),
        ("1e99999999999999999999", None),
        ("9" * 400, Fraction(10**400 - 1)),
        ("9" * 401, None),
        ("2 5", None),
        ("1,234", None),
        ("x", None),
        ("", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_plain_numbers_have_an_exact_value_and_nothing_else_has(text: str, value: Fraction | None) -> None:
    assert parse_number(text) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_the_shortest_writing_keeps_the_value(number) -> None:
    assert parse_number(shorten_decimal(str(number))) == Fraction(number)
    assert parse_number(normalize(str(number))) == Fraction(number)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("18", "$18.00", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", ".50", True),
        (r"2\frac{1}{2}", "2.5", True),
        ("1,000", "1e3", True),
        (r"1.2\times 10^{3}", "1200", True),
        ("50%", "50", True),
        ("50%", "0.5", False),
        ("1/3", "0.3333", False),
        ("0.1", "0.1000000000000000055511151231257827", False),
        ("10000000000000000000001", "10000000000000000000002", False),
        ("1e999999999", "1e999999998", False),
        ("1e999999999", "1E999999999", True),
        ("Paris", "paris.", True),
        ("5 am", "5 pm", False),
        ("(1,2)", "(1, 2)", True),
        ("nk", "kn", False),
        ("star", "rats", False),
        ("1011_2", "1011_3", False),
        ("5 a.m.", "5 p.m.", False),
        ("", "", False),
    ],
)
def test_answers_are_equal_by_text_or_by_exact_value(a: str, b: str, same: bool) -> None:
    groups, _ = group_answers([normalize(a) or None, normalize(b) or None])
    assert (groups[0] is not None and groups[0] == groups[1]) == same


ANSWERS = st.sampled_from(["1/2", "0.5", "2/4", "1", "1.0", "1e0", "paris", "2 1/2", "5/2", "2.5", "1e999999999", None])


@settings(max_examples=30)
@given(st.lists(ANSWERS, max_size=8), st.randoms())
def test_grouping_is_an_equivalence_that_no_order_changes(values: list[str | None], random) -> None:
    groups, note = group_answers(values)
    assert note is None
    assert [group is None for group in groups] == [value is None for value in values]
    for i, first in enumerate(values):
        for j, right in enumerate(values):
            if first is not None and right is not None:
                pair, _ = group_answers([first, right])
                assert (groups[i] == groups[j]) == (pair[0] == pair[1])
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled, _ = group_answers([values[index] for index in order])
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            assert (shuffled[i] == shuffled[j]) == (groups[a] == groups[b])


def test_groups_are_counted_in_order_of_appearance() -> None:
    assert group_answers(["b", None, "a", "b", "1.0", "1"])[0] == (0, None, 1, 0, 2, 2)


def test_letters_and_json_are_equal_only_as_texts() -> None:
    assert read(["(A)", "Answer: A", "B"], "choice").groups == (0, 0, 1)
    assert read(['{"a":1.0}', '{ "a": 1 }', '{"a": 2}'], "json").groups == (0, 0, 1)


def test_two_written_answers_can_be_compared_with_a_readers_normal_form() -> None:
    assert are_equal("$1,234.00", "1234", "number")
    assert not are_equal("1234", "1235", "number")
    assert not are_equal("no number", "no number", "number")


@needs_math
@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x+1", "1+x", True),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        (r"\left(3, \frac{\pi}{2}\right)", r"(3, \frac{2\pi}{4})", True),
        (r"\sqrt{4}", "2", True),
        ("[0, 1)", r"0 \le x < 1", True),
        ("(1, 2)", "[1, 2]", False),
        ("x+1", "x+2", False),
        ("x^2+y^2=4", "y^2+x^2=4", True),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\ 2\end{pmatrix}", True),
        (r"\frac{", r"\frac}", False),
    ],
)
def test_formulas_are_equal_as_mathematics(a: str, b: str, same: bool) -> None:
    assert are_equal(a, b, "text") == same
    assert are_equal(b, a, "text") == same


@needs_math
def test_a_formula_that_hangs_is_killed_at_the_deadline_and_counts_as_different() -> None:
    worker = math_equality.FormulaWorker()
    assert worker.are_equal("x+1", "1+x") is True
    start = time.monotonic()
    assert worker.are_equal(TOWER, "x+1", seconds=0.5) is None
    assert time.monotonic() - start < 3
    assert worker.are_equal("x+1", "1+x") is True


@needs_math
def test_a_question_with_hanging_formulas_ends_in_bounded_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_equality, "SECONDS_PER_PAIR", 0.5)
    texts = [rf"\boxed{{{TOWER}+{tower}}}" for tower in range(12)] + [r"\boxed{x+1}", r"\boxed{1+x}"]
    start = time.monotonic()
    answers = read(texts, "boxed")
    assert time.monotonic() - start < 30
    assert answers.note is not None
    assert "could not be compared in time and count as different" in answers.note
    assert len(set(answers.groups[:12])) == 12


@needs_math
def test_one_worker_serves_many_threads() -> None:
    worker = math_equality.FormulaWorker()
    results: list[bool | None] = []
    threads = [
        threading.Thread(
            target=lambda number=index: results.append(worker.are_equal(f"x+{number}", f"{number}+x", seconds=20))
        )
        for index in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


@needs_math
def test_the_parent_never_imports_sympy_and_a_fork_has_its_own_worker() -> None:
    script = """
import os, sys
from swift_client.answers import are_equal
assert are_equal("x+1", "1+x")
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if are_equal("x+2", "2+x") and not are_equal("x+3", "x+4") else 1)
    assert os.waitpid(child, 0)[1] == 0
assert are_equal("x+5", "5+x")
assert "sympy" not in sys.modules and "math_verify" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")


@needs_math
@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="reads the process table of Linux")
def test_no_worker_outlives_its_process() -> None:
    script = """
import os
from swift_client.answers import math_equality
worker = math_equality.FormulaWorker()
worker.are_equal("x+1", "1+x")
print(worker._child.pid, flush=True)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for ending in ("", "os.kill(os.getpid(), 9)"):
        result = subprocess.run(
            [sys.executable, "-c", script + ending], env=env, capture_output=True, text=True, timeout=120
        )
        pid = int(result.stdout)
        for _ in range(100):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
            time.sleep(0.05)
        else:
            pytest.fail(f"the worker {pid} is still running")


def test_without_math_verify_formulas_are_compared_as_text_and_the_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(math_equality, "is_available", lambda: False)
    answers = read([r"\boxed{x+1}", r"\boxed{1+x}", r"\boxed{x + 1}"], "boxed")
    assert answers.groups == (0, 1, 0)
    assert answers.note is not None
    assert "swift-client[math]" in answers.note
    assert read(["18", "19", "Paris"], "text").note is None
