"""Tests of SmolLM2's free sentences: their questions, grades and file, and the table of consensus that they make."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.consensus import consensus_bars, consensus_table, paired
from swift_client.selection.similarity import SIMILARITIES
from tools.smollm2.sentences import FAMILIES, export, generate, is_right, named_entities, read, read_about


def test_every_example_names_its_own_entity_alone_and_no_question_gives_its_answer_away() -> None:
    for name, family in FAMILIES.items():
        for key, sentence in family["examples"].items():
            assert len(named_entities(name, sentence)) == 1, (name, key)
    questions = generate()
    assert len({question.id for question in questions}) == len(questions) > 1_000
    for question in questions:
        asked = question.messages[-1]["content"]
        assert not named_entities(question.family, asked)
        assert asked not in [message["content"] for message in question.messages[:-1]]
    assert questions == generate()


@pytest.mark.parametrize(
    ("family", "text", "answers", "right"),
    [
        ("capital", "Santiago has been the capital of Chile.", ["Santiago"], True),
        ("capital", "The capital is SANTIAGO!", ["Santiago"], True),
        ("capital", "The capital is Santiago, not Lima.", ["Santiago"], False),
        ("capital", "It is a big city.", ["Santiago"], False),
        ("capital", "The Santiagos are many.", ["Santiago"], False),
        # The longest of names that overlap is the one that is named.
        ("country", "Conakry is in Guinea.", ["Guinea"], True),
        ("country", "Conakry is in Papua New Guinea.", ["Guinea"], False),
        ("language", "They speak Hebrew and Arabic.", ["Hebrew", "Arabic"], True),
        ("city", "Sydney is in New South Wales, Australia.", ["Australia"], True),
        ("city", "Cardiff is in Wales.", ["Wales"], True),
        ("city", "Basra is in Bahrain, near Iraq.", ["Iraq"], False),
    ],
)
def test_a_sentence_is_right_if_it_names_the_answer_and_nothing_else(
    family: str, text: str, answers: list[str], right: bool
) -> None:
    assert is_right(family, text, answers) is right


def test_the_file_has_what_was_drawn(tmp_path: Path) -> None:
    question = next(question for question in generate() if question.family == "capital")
    samples = [(f"It is {question.answers[0]}.", "stop", [-0.5, -0.25]), ("I cannot say, since", "length", [-1.0])]
    drawn = tmp_path / "drawn.jsonl"
    drawn.write_text(json.dumps({"id": question.id, "samples": samples}) + "\n")
    assert export(drawn, tmp_path / "file.xz", {"date": "today"}) == 1
    (sampled,) = read(tmp_path / "file.xz")
    assert read_about(tmp_path / "file.xz") == {"date": "today"}
    assert (sampled.id, sampled.question, sampled.labels) == (question.id, question.messages[-1]["content"], (1.0, 0.0))
    first, second = sampled.completions
    assert (first.text, first.finish_reason, first.index) == (f"It is {question.answers[0]}.", "stop", 0)
    assert first.logprobs.tolist() == [-0.5, -0.25]
    assert (second.finish_reason, second.index, second.logprobs.tolist()) == ("length", 1, [-1.0])


def test_the_stored_sentences_are_those_of_the_questions_and_about_half_are_right() -> None:
    asked = {question.id: question for question in generate()}
    stored = list(read())
    assert len(stored) >= 500
    assert len({sampled.id for sampled in stored}) == len(stored)
    for sampled in stored:
        assert asked[sampled.id].messages[-1]["content"] == sampled.question
        assert len(sampled.completions) == 16
        assert all((completion.logprobs <= 0).all() for completion in sampled.completions)
    assert 0.4 < np.mean([sampled.labels for sampled in stored]) < 0.6
    assert len(Counter(sampled.family for sampled in stored)) >= 8
    about = read_about()
    assert about["sampling"]["temperature"] == 0.8
    assert about["model"].startswith("SmolLM2-135M")


def test_the_table_compares_all_methods_on_the_same_draws() -> None:
    table = consensus_table(ns=(4, 16), limit=12)
    assert {"first", "mean_logprob", "sum_logprob", "auto", "text_auto", "any"} < set(table)
    assert {f"consensus_{name}" for name in SIMILARITIES} < set(table)
    stored = [sampled for sampled, _ in zip(read(), range(12), strict=False)]
    # All sixteen in their order: the best mean logprob is known without the library.
    means = []
    for sampled in stored:
        ended = [completion.finish_reason == "stop" for completion in sampled.completions]
        values = [c.logprobs.mean() if end else -np.inf for c, end in zip(sampled.completions, ended, strict=True)]
        means.append(sampled.labels[int(np.argmax(values))])
    assert table["mean_logprob"].accuracy[16] == pytest.approx(np.mean(means))
    assert table["auto"].accuracy == table["mean_logprob"].accuracy
    assert table["text_auto"].accuracy == table["text_token_f1"].accuracy
    assert table["any"].accuracy[16] == np.mean([max(sampled.labels) for sampled in stored])
    assert all(table["any"].accuracy[n] >= row.accuracy[n] for row in table.values() for n in (4, 16))
    assert table["mean_logprob"].difference[4] == (0, 0, 0)
    bars = consensus_bars(table, 16)
    assert bars["consensus_minus_mean_logprob"]["unit"] == "points"


def test_an_interval_is_that_of_paired_differences() -> None:
    rng = np.random.default_rng(3)
    difficulty = rng.random(2_000)
    mean, low, high = paired(list(difficulty + 0.01 + 0.02 * rng.normal(size=2_000)), list(difficulty))
    # In points: 1 with a standard error of 2 / sqrt(2,000); how hard the questions are does not matter.
    assert mean == pytest.approx(1, abs=0.15)
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / np.sqrt(2_000), rel=0.1)
