"""Tests of the benchmark of few labels: its candidates are what their names say, and its differences are paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.few_labels import RECIPE, Candidates, Questions, differences, measure
from benchmarks.few_labels import Judge as BenchmarkJudge
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.features import FEATURES, RESPONSE_TERMS, column_names
from swift_client.scoring.scorers import score
from swift_client.training.agreement import AgreementNetwork
from swift_client.training.folds import read_groups
from swift_client.training.optimize import network_scores, train

from .graded import graded_groups
from .test_agreement import CPU


def shorten(group: Group, tokens: int) -> Group:
    cut = [
        replace(
            completion,
            tokens=completion.tokens[:tokens],
            logprobs=completion.logprobs[:tokens],
            top_logprobs=completion.top_logprobs[:tokens],
            censored=completion.censored[:tokens],
        )
        for completion in group.completions
    ]
    return replace(group, completions=tuple(cut))


@pytest.mark.parametrize(("tokens", "scorer"), [(3, "sum_logprob"), (14, "mean_logprob")])
def test_the_label_free_start_is_the_label_free_score_scaled_to_the_labels(tokens: int, scorer: str) -> None:
    groups = [shorten(group, tokens) for group in graded_groups(20, n=4, k=20)]
    recipe = replace(RECIPE, epochs=1, thin=False)
    parts = read_groups(groups, recipe, split=Split(test=0.0), answer="number").parts()
    trained = train(parts, recipe, seed=0, device=CPU)
    candidates = Candidates(groups, AgreementNetwork(trained=trained, questions=0, completions=0), "number", 0)
    scores = network_scores(candidates._label_free(trained.network, parts), parts.train)
    split = Split(test=0.0)
    in_train = [group for group in groups if split.part(group.question_id) == "train"]
    expected = np.concatenate([score(group.completions, scorer).values for group in in_train])
    factor, offset = np.polyfit(expected, scores, 1)
    assert factor > 0
    assert scores == pytest.approx(factor * expected + offset, abs=2e-3)  # features are stored as float16
    is_sum, column = candidates._label_free_column()
    rows, names = (RESPONSE_TERMS, RECIPE.terms) if is_sum else (FEATURES, RECIPE.features)
    assert column_names(rows, names)[column] == ("sum_logprob" if tokens == 3 else "logprob")


def test_differences_are_means_over_seeds_paired_by_question() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 50, 4)), rng.random((1, 50, 4))
    found = differences(list(one), list(other))
    expected = 100 * (one.mean(axis=(0, 1)) - other.mean(axis=(0, 1)))
    assert [estimate.value for estimate in found] == pytest.approx([*expected, expected.mean()])
    assert all(estimate.low < estimate.value < estimate.high for estimate in found)
    shifted = differences([other[0] + 0.1], list(other))  # the same for every question: no width
    assert [(estimate.low, estimate.high) for estimate in shifted] == [pytest.approx((10, 10))] * 5


def test_every_row_is_measured_for_every_number_of_labels_and_seed() -> None:
    groups = graded_groups(70, n=16, k=20)
    questions = Questions(train=groups[:50], validation=groups[50:60], test=groups[60:], answer="number")
    judge = BenchmarkJudge(questions, questions.test)
    rows = measure(questions, judge, [15], seeds=1, unlabelled=30)
    assert {name for size, name in rows if size == 15} == {
        "labels", "labels, best", "agreement first", "agreement first, best", "agreement as a column",
        "label-free start", "standardized",
    }  # fmt: skip
    assert all(len(accuracies) == 1 and accuracies[0].shape == (10, 4) for accuracies in rows.values())
    assert all(((accuracies[0] >= 0) & (accuracies[0] <= 1)).all() for accuracies in rows.values())
    # The rows that need no labels are those of the evaluation table.
    (majority,) = judge.label_free("majority")
    assert majority.shape == (10, 4)
