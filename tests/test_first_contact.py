"""The first minutes with the package: one default n, short tracebacks, and missing files named at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from swift_client import AsyncSwiftReranker, Cascade, SwiftReranker, training
from swift_client.cli.best_of import best_of
from swift_client.cli.calibrate import calibrate
from swift_client.cli.collect import collect
from swift_client.cli.plan import plan
from swift_client.cli.simulate import simulate
from swift_client.collect.batch.collect import collect_batch
from swift_client.evaluation.learning_curve import compute_curve
from tests.children import python

WITH_N = [
    SwiftReranker.best_of,
    AsyncSwiftReranker.best_of,
    Cascade.best_of,
    training.collect,
    training.collect_async,
    training.calibrate,
    training.simulate,
    collect_batch,
    compute_curve,
    best_of,
    calibrate,
    collect,
    plan,
    simulate,
]


@pytest.mark.parametrize("function", WITH_N, ids=lambda function: f"{function.__module__}.{function.__qualname__}")
def test_n_is_sixteen_wherever_it_is_not_given(function: Callable[..., object]) -> None:
    assert inspect.signature(function).parameters["n"].default == 16


def test_a_missing_key_is_a_traceback_of_a_few_lines_that_ends_with_the_variable(tmp_path: Path) -> None:
    code = 'from swift_client import SwiftReranker\nSwiftReranker("openai").best_of("What is 17 * 24?")'
    result = python("-c", code, cwd=tmp_path, OPENAI_API_KEY="")

    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1
    assert len(lines) <= 16
    assert lines[-1].startswith("swift_client.errors.MissingApiKeyError: There is no API key for provider 'openai'.")
    assert "Set OPENAI_API_KEY" in lines[-1]
    assert "tenacity" not in result.stderr.decode()


@pytest.mark.parametrize("call", ['train("no.db")', 'evaluate("h", "no.db")', 'calibrate("h", "no.db", risk=0.1)'])
def test_a_missing_file_is_named_before_torch_is_imported(call: str, tmp_path: Path) -> None:
    code = f"""
import sys
from swift_client.errors import SwiftClientError
from swift_client.training import calibrate, evaluate, train
try:
    {call}
except SwiftClientError as error:
    print(error)
assert not {{"torch", "sklearn"}} & sys.modules.keys()
"""
    result = python("-c", code, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert re.match(r"(There is no samples file no\.db|The head h cannot be read|There is no)", result.stdout.decode())
