"""No shipped head accepts an answer to nonsense or to a question that its model was not made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.foreign_questions import FIXED, foreign_questions
from swift_client import SwiftReranker
from swift_client.models import AnyHead
from swift_client.models.library import PACKAGED_FOLDER
from swift_client.models.resolve_head import load_any_head
from swift_client.pocket.questions import questions

HEADS = sorted(PACKAGED_FOLDER.glob("*.safetensors"))


@pytest.fixture(params=HEADS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    file: Path = request.param
    return file


@pytest.fixture
def head(path: Path) -> AnyHead:
    artifact = load_any_head(path)
    if artifact.has_void_acceptances:
        pytest.skip(f"{path.stem} is of format 1: its thresholds are void, so it accepts no answer")
    return artifact


def test_a_shipped_head_knows_its_kind_of_question(head: AnyHead) -> None:
    assert head.sketch is not None
    assert head.acceptances
    foreign = [prompt for prompts in foreign_questions(400).values() for prompt in prompts]
    assert [prompt for prompt in foreign if head.sketch.covers(({"role": "user", "content": prompt},))] == []
    own = [({"role": "user", "content": question.prompt},) for question in questions(300, seed=77, split="test")]
    assert sum(map(head.sketch.covers, own)) >= 0.97 * len(own)


@pytest.fixture(scope="module")
def reranker() -> Iterator[SwiftReranker]:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    with SwiftReranker("pocket", timeout=600.0) as reranker:
        yield reranker


def calibrated_n(head: AnyHead) -> int:
    """Return the smallest number of completions, above 1, at which the head accepts answers; 4 if there is none."""
    return min((row.n for row in head.acceptances if row.stopping is None and row.n > 1), default=4)


def test_the_packaged_model_is_asked_nonsense_and_no_answer_is_accepted(reranker: SwiftReranker) -> None:
    n = calibrated_n(load_any_head(PACKAGED_FOLDER / "pocket.safetensors"))
    accepted = {}
    for number, prompt in enumerate(FIXED):
        selection = reranker.best_of(prompt, n, temperature=0.8, seed=number, max_tokens=60)
        accepted[prompt] = selection.accepted
        assert selection.accepted is not True, (prompt, selection.notes)
    assert len(accepted) >= 20


def test_the_packaged_models_own_questions_are_accepted_at_times(reranker: SwiftReranker, head: AnyHead) -> None:
    n = calibrated_n(head)
    verdicts = [
        reranker.best_of(question.prompt, n, temperature=0.8, seed=number, max_tokens=320).accepted
        for number, question in enumerate(questions(12, seed=78, split="test"))
    ]
    assert True in verdicts, head.acceptances
