"""A head knows the kind of its training questions by hashes alone, and accepts no answer to a question of another."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from swift_client import Cascade, SwiftReranker, rank
from swift_client.dataset.question_samples import Group
from swift_client.errors import ArtifactError, ConfigurationError, RejectedError
from swift_client.evaluation.risk.calibrate import calibrate, replay_questions
from swift_client.models import AnyHead, HeadArtifact, load, save
from swift_client.models.question_sketch import MAX_GROUPS, MAX_WORDS, QuestionSketch, split_conversation
from swift_client.reranker.acceptance import with_acceptance
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training import question_kind
from swift_client.training.fit import fit
from swift_client.training.question_kind import LIMIT_QUANTILE, MIN_QUESTIONS, sketch_questions
from swift_client.types import Message
from tests.graded import graded_groups
from tests.servers import FaultServer
from tests.test_cascade import SURE, acceptance
from tests.test_cascade import head as mean_logprob_head
from tests.test_out_of_distribution import strange

N = 6
NAMES = ("Ada", "Ben", "Cleo", "Dario", "Edda", "Flora", "Gita", "Hugo", "Ines", "Jan", "Kai", "Lea", "Mara", "Nils")
THINGS = ("eggs", "figs", "pens", "cards", "nuts", "stones", "lamps", "seeds", "coins", "plums", "pins", "pearls")
FOREIGN = ("What is the capital of France?", "Tell me a joke about Ada.", "Wie viele Eier hat Ben?", "?", "asdf qwer")


def user(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def sums(count: int, seed: int = 0) -> list[tuple[Message, ...]]:
    """Return word problems of one kind, with other names, things and numbers."""
    rng = np.random.default_rng(seed)
    return [
        user(
            f"{rng.choice(NAMES)} has {rng.integers(10, 99)} {(thing := rng.choice(THINGS))}. "
            f"{rng.choice(NAMES)} takes {rng.integers(1, 9)} of them. How many {thing} are left?"
        )
        for _ in range(count)
    ]


def with_questions(groups: list[Group], seed: int = 0) -> list[Group]:
    return [replace(group, messages=messages) for group, messages in zip(groups, sums(len(groups), seed), strict=True)]


@pytest.fixture(scope="module")
def head() -> HeadArtifact:
    artifact = fit(with_questions(graded_groups(120, signal=4.0)), provider="p", model="m", answer="number").artifact
    assert isinstance(artifact, HeadArtifact)
    return replace(artifact, acceptances=(acceptance(-50.0, n=N),))


def sketch_of(head: AnyHead) -> QuestionSketch:
    assert head.sketch is not None
    return head.sketch


# --- The sketch


def test_questions_of_the_same_kind_are_covered_and_others_are_not(head: HeadArtifact) -> None:
    sketch = sketch_of(head)
    assert np.mean([sketch.covers(messages) for messages in sums(300, seed=5)]) >= 0.98
    assert not any(sketch.covers(user(text)) for text in FOREIGN)
    asked = sums(1, seed=5)[0][0]["content"]
    assert not sketch.covers(({"role": "system", "content": "Answer in French, in verse."}, *user(asked)))
    assert not sketch.covers(user(f"{asked} " * 5))


def test_the_numbers_are_those_of_a_plain_loop_over_words() -> None:
    questions = sums(60)
    sketch = QuestionSketch.from_questions(questions)
    split = [split_conversation(messages)[0] for messages in questions]
    counts = Counter(word for words in split for word in set(words))
    known = {word for word, count in counts.items() if count >= 3}

    def template_groups(words: list[str]) -> list[tuple[str, ...]]:
        template = ["^"]
        for word in words:
            if word in known:
                template.append(word)
            else:
                template.append("?" + template.pop() if template[-1].startswith("?") else "?")
        template = [word if "?" not in word or word in known else "?" * _power(len(word)) for word in template] + ["$"]
        return [tuple(template[start : start + 3]) for start in range(len(template) - 2)]

    def pairs(words: list[str]) -> list[tuple[str, ...]]:
        return [*((word,) for word in words), *pairwise(["^", *words, "$"])]

    def frequent(make: Any) -> set[tuple[str, ...]]:
        groups = Counter(group for words in split for group in set(make(words)))
        return {group for group, count in groups.items() if count >= 2}

    lengths = [np.log1p(len(words)) for words in split]
    for messages in (*sums(20, seed=3), *map(user, FOREIGN)):
        words = split_conversation(messages)[0]
        length = np.log1p(len(words))
        by_hand = (
            np.mean([group in frequent(template_groups) for group in template_groups(words)]),
            np.mean([group in frequent(pairs) for group in pairs(words)]),
            min(0.0, length - min(lengths), max(lengths) - length),
            1.0,
        )
        np.testing.assert_allclose(sketch.likeness(messages), by_hand)


def _power(run: int) -> int:
    power = 1
    while power < run:
        power *= 2
    return power


def test_limits_are_quantiles_of_questions_that_the_sketch_did_not_see() -> None:
    questions, folds = sums(100), np.arange(100) % 4
    sketch = sketch_questions(questions, folds)
    assert sketch is not None
    held_out = [
        QuestionSketch.from_questions([q for q, f in zip(questions, folds, strict=True) if f != fold]).likeness(
            question
        )
        for question, fold in zip(questions, folds, strict=True)
    ]
    margins = (0.0, 0.0, np.log(1.1), 0.2)
    np.testing.assert_allclose(sketch.limits, np.quantile(held_out, LIMIT_QUANTILE, axis=0) - margins)
    assert sketch_questions(questions[: MIN_QUESTIONS - 1], folds[: MIN_QUESTIONS - 1]) is None
    assert sketch_questions(questions, np.zeros(100, np.int64)) is None


def test_of_many_questions_some_at_equal_distances_are_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    questions, folds = sums(99), np.arange(99) % 5
    expected = sketch_questions(questions[::2], folds[::2])
    monkeypatch.setattr(question_kind, "MAX_QUESTIONS", 50)

    sketch = sketch_questions(questions, folds)

    assert sketch is not None
    assert expected is not None
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(sketch, name), values)


def test_words_are_read_in_any_script_without_case_and_numbers_without_their_values() -> None:
    words, around = split_conversation(user("Ｗhat is 17.5 * 24?\n東京は Straße, don't_"))
    assert words == ["what", "is", "00.0", "*", "00", "?", "東", "京", "は", "strasse", ",", "don", "'", "t", "_"]
    assert around == []


@pytest.mark.parametrize(
    "messages",
    [
        (),
        user(""),
        user(" \n"),
        user("\ud800"),
        user("a" * 200_000),
        ({"role": "user", "content": None},),
        ({"role": "assistant", "content": "no user"},),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},),
        ({"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": None}, 3, "x"]},),
    ],
)
def test_odd_prompts_are_compared_and_are_not_of_the_kind(messages: Sequence[Message], head: HeadArtifact) -> None:
    assert not sketch_of(head).covers(messages)


def test_text_in_parts_is_the_same_text(head: HeadArtifact) -> None:
    asked = sums(1, seed=5)[0]
    parts = ({"role": "user", "content": [{"type": "text", "text": asked[0]["content"]}]},)
    assert sketch_of(head).likeness(parts) == sketch_of(head).likeness(asked)
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    only_images = [({"role": "user", "content": [image]},)] * 30
    assert QuestionSketch.from_questions(only_images).likeness(only_images[0]).template == 1.0


def test_a_very_long_prompt_takes_no_more_time_than_its_ends(head: HeadArtifact) -> None:
    started = time.process_time()
    sketch_of(head).covers(user("word " * 2_000_000))
    assert time.process_time() - started < 0.5


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_every_number_lies_in_its_range(question: str, context: str) -> None:
    messages = ({"role": "system", "content": context}, *user(question))
    likeness = QuestionSketch.from_questions([*sums(30), messages]).likeness(messages)
    assert all(0 <= share <= 1 for share in (likeness.template, likeness.pairs, likeness.context))
    assert likeness.length == 0.0  # the sketch has this question


# --- The file


def test_a_sketch_is_kept_in_the_file_without_any_text(head: HeadArtifact, tmp_path: Path) -> None:
    save(head, tmp_path / "h")
    loaded = sketch_of(load(tmp_path / "h"))
    for name, values in vars(sketch_of(head)).items():
        np.testing.assert_array_equal(getattr(loaded, name), values)
    data = (tmp_path / "h").read_bytes().lower()
    assert not any(word.encode() in data for word in ("many", "takes", "cleo", "stones"))
    save(replace(head, sketch=None), tmp_path / "without")
    assert load(tmp_path / "without").sketch is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("words", np.arange(MAX_WORDS + 1, dtype=np.uint32)),
        ("pairs", np.arange(MAX_GROUPS + 1, dtype=np.uint32)),
        ("templates", np.array([2, 1], np.uint32)),
        ("context", np.array([1.0, 2.0])),
        ("limits", np.array([np.nan] * 4)),
        ("limits", np.zeros(3)),
        ("lengths", np.zeros((1, 2))),
        ("lengths", np.zeros(2, np.complex64)),
        ("spare", np.zeros(1)),
        ("words", None),
    ],
)
def test_a_damaged_sketch_is_refused(
    name: str, values: np.ndarray[Any, Any] | None, head: HeadArtifact, tmp_path: Path
) -> None:
    path = tmp_path / "h"
    save(head, path)
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = safetensors.numpy.load(data)
    if values is None:
        del tensors[f"sketch.{name}"]
    else:
        tensors[f"sketch.{name}"] = values
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    with pytest.raises(ArtifactError):
        load(path)


# --- Training and acceptance


def test_training_without_the_questions_text_makes_no_sketch() -> None:
    groups = graded_groups(30)
    assert fit(groups, provider="p", model="m", answer="number").artifact.sketch is None


def accepted(
    head: HeadArtifact, group: Group, messages: Sequence[Message], *, n: int = N, **options: Any
) -> tuple[bool | None, str]:
    rules = SelectionConfig(scorer=head)
    selection = with_acceptance(select_best(group.completions, rules), rules, n=n, messages=messages, **options)
    return selection.accepted, " ".join(selection.notes)


def test_an_answer_is_accepted_only_if_its_question_is_of_the_kind(head: HeadArtifact) -> None:
    (group,) = graded_groups(1, signal=4.0, seed=7)
    assert accepted(head, group, sums(1, seed=5)[0]) == (True, "")
    for messages, reason in (
        (user("What is the capital of France?"), "the question is unlike those that head p/m was trained on"),
        ((), "the question was not given (prompt=)"),
    ):
        verdict, notes = accepted(head, group, messages)
        assert verdict is None
        assert f"It is unknown whether the answer is accepted: {reason}" in notes
    verdict, notes = accepted(head, group, sums(1, seed=5)[0], out_of_distribution=True)
    assert verdict is None
    assert "these answers are unlike those that head p/m was trained on" in notes
    assert accepted(replace(head, sketch=None), group, ()) == (True, "")


def test_one_note_says_why_an_answer_is_not_accepted(head: HeadArtifact) -> None:
    (group,) = graded_groups(1, signal=4.0, seed=7)
    rules = SelectionConfig(scorer=head, force_head=True)
    selection = with_acceptance(
        select_best(group.completions, rules), rules, n=3, messages=user("?"), out_of_distribution=True
    )
    assert selection.accepted is None
    assert sum("accepted" in note for note in selection.notes) == 1


def test_a_head_that_was_asked_for_by_name_accepts_no_answer_unlike_those_of_its_training(head: HeadArtifact) -> None:
    (group,) = strange(graded_groups(1, signal=4.0, seed=7))
    selection = rank(list(group.completions), head=head, prompt=sums(1, seed=5)[0])
    assert selection.scorer == head.name
    assert selection.accepted is None
    assert any("accepted: these answers are unlike" in note for note in selection.notes)


def test_rank_accepts_an_answer_only_with_its_question(head: HeadArtifact) -> None:
    (group,) = graded_groups(1, signal=4.0, seed=7)
    completions = list(group.completions)
    assert rank(completions, head=head).accepted is None
    assert rank(completions, head=head, prompt="What is the capital of France?").accepted is None
    asked = sums(1, seed=5)[0]
    assert rank(completions, head=head, prompt=asked).accepted is True
    assert rank(completions, head=head, prompt=asked[0]["content"]).accepted is True
    with pytest.raises(ConfigurationError, match="prompt is empty"):
        rank(completions, head=head, prompt="")


def reranker_of_sums(server: FaultServer) -> SwiftReranker:
    """Return a reranker whose head knows questions like ``sums()`` and accepts every answer to them."""
    questions = sums(100)
    head = replace(mean_logprob_head(acceptance(SURE)), sketch=sketch_questions(questions, np.arange(100) % 5))
    return SwiftReranker("openai-compatible", "m", base_url=server.url, head=head, max_retries=0)


def test_best_of_accepts_an_answer_only_to_a_question_of_the_kind(fault_server: FaultServer) -> None:
    with reranker_of_sums(fault_server) as reranker:
        own = reranker.best_of(sums(1, seed=5)[0][0]["content"], n=4)
        foreign = reranker.best_of("What is the capital of France?", n=4)
        with pytest.raises(RejectedError, match="the question is unlike those that head"):
            reranker.best_of("What is the capital of France?", n=4, on_reject="abstain")
        body = fault_server.requests[-1]
    assert (own.accepted, foreign.accepted) == (True, None)
    assert foreign.scorer == own.scorer  # the head still scores
    assert body.json["messages"] == list(user("What is the capital of France?"))


def test_a_cascade_asks_on_for_a_question_of_another_kind(fault_server: FaultServer) -> None:
    with Cascade([(reranker_of_sums(fault_server), 4), (reranker_of_sums(fault_server), 2)]) as cascade:
        own, foreign = (cascade.best_of(prompt) for prompt in (sums(1, seed=5)[0], "What is the capital of France?"))
    assert [step.accepted for step in own.path] == [True]
    assert [step.accepted for step in foreign.path] == [None, None]


def test_calibration_accepts_no_question_of_another_kind_and_says_how_many_there_were(head: HeadArtifact) -> None:
    fresh = with_questions(graded_groups(150, signal=4.0, seed=9, right=0.75), seed=9)
    foreign = [replace(group, messages=user("What is the capital of France?")) for group in fresh[:40]]
    replayed = replay_questions([*foreign, *fresh[40:]], SelectionConfig(scorer=head), n=N, split="all")
    assert np.isnan(replayed.log_odds[:40]).all()
    assert np.isnan(replayed.log_odds[40:]).mean() <= 0.03
    calibrated = calibrate(head, [*foreign, *fresh[40:]], risk=0.2, n=N, split="all", answer="number")
    assert calibrated.acceptance is not None
    assert calibrated.acceptance.accepted <= 110
    assert calibrated.acceptance.questions == 150
    assert any("of 150 questions are unlike those that the head was trained on" in note for note in calibrated.notes)
    unknown = calibrate(head, graded_groups(150, signal=4.0, seed=9), risk=0.2, n=N, split="all", answer="number")
    assert unknown.acceptance is None
    assert "of the 150 questions can be accepted: the others are of another kind" in unknown.reason
