"""Tests of evaluations in constant memory: each number is that of a plain loop over everything in memory."""

from __future__ import annotations

import errno
import itertools
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.methods import METHODS, DrawnSubsets, choose_winners
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, Pool, StackedPools, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import plain_values
from swift_client.evaluation.scratch import scratch_file
from swift_client.evaluation.scratch.pair_metrics import measure_calibration, pooled_auroc
from swift_client.evaluation.scratch.resampling import resample_rows
from swift_client.evaluation.scratch.scratch_file import ScratchFile
from swift_client.evaluation.scratch.sorted_pairs import PairFile
from swift_client.evaluation.scratch.summation import SequentialReader, pairwise_sum
from swift_client.scoring.many_questions import score_questions
from swift_client.scoring.scorers import SCORERS, score
from swift_client.selection.voting import draw_orders
from swift_client.training import metrics

from .graded import graded_groups
from .test_evaluate import agreeing_head, messy, question
from .test_verifier_weight import judged_groups


@given(st.integers(0, 3000), st.integers(1, 700), st.integers(0, 5))
def test_a_sum_in_parts_has_the_bits_of_one_sum(count: int, part: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    reader = SequentialReader(values[start : start + part] for start in range(0, count, part))
    assert pairwise_sum(reader.take, count, max_values=128) == np.sum(values)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 0.25001, 1.0]), st.booleans()), max_size=900))
def test_pairs_come_back_as_from_a_stable_sort_and_give_the_metrics_of_training(pairs: list[Any]) -> None:
    values, labels = (np.array([pair[part] for pair in pairs], np.float64) for part in (0, 1))
    file = PairFile(max_in_memory=40)
    for start in range(0, len(pairs), 17):
        file.append(values[start : start + 17], labels[start : start + 17])
    order = np.argsort(values, kind="stable")
    parts = list(file.sorted_parts())
    assert [value for part in parts for value in part["value"]] == values[order].tolist()
    assert [label for part in parts for label in part["label"]] == labels[order].tolist()
    auroc = metrics.pooled_auroc(values, labels) if pairs else np.nan
    assert pooled_auroc(file) == auroc or np.isnan(auroc)


def test_calibration_in_parts_is_that_of_all_probabilities_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    values = np.round(rng.random(1234), 2)  # with ties across the edges of bins
    labels = (rng.random(1234) < values).astype(np.float64)
    file = PairFile(max_in_memory=100)
    file.append(values, labels)
    calibration, expected = measure_calibration(file), metrics.reliability(values, labels)
    assert calibration is not None
    assert calibration.brier == metrics.brier(values, labels)
    for name in ("predicted", "observed", "counts"):
        assert getattr(calibration.reliability, name).tolist() == getattr(expected, name).tolist()
    assert measure_calibration(PairFile()) is None


@pytest.mark.parametrize("count", [1, 3, 50])
def test_resamples_of_slices_are_those_of_the_whole_table(count: int) -> None:
    table = np.random.default_rng(0).integers(0, 9, size=(count, 4)).astype(np.float64)
    draws = np.random.default_rng(5).integers(count, size=(30, count))
    expected = [table.sum(axis=0), *(table[draw].sum(axis=0) for draw in draws)]
    for max_rows in (1, 7, 1000):
        sums = resample_rows(
            lambda rows, out: np.copyto(out, table[rows]), (count, 4), resamples=30, seed=5, max_rows=max_rows
        )
        assert sums.tolist() == np.array(expected).tolist()


def uneven(groups: list[Group]) -> list[Group]:
    """Cut questions to 1, 2, ... completions in turn."""
    sizes = [1 + (7 * number) % len(group.completions) for number, group in enumerate(groups)]
    return [
        replace(
            group,
            completions=group.completions[:size],
            labels=group.labels[:size],
            verifier_scores={name: values[:size] for name, values in group.verifier_scores.items()},
        )
        for size, group in zip(sizes, groups, strict=True)
    ]


def pools_of(groups: list[Group]) -> list[Pool]:
    scorers = label_free_scorers({method.scorer for method in METHODS}) | {"head": head_scorer(agreeing_head())}
    return [build_pool(group, scorers, "auto") for group in groups]


def compare(pools: PoolTable, **changes: Any) -> Comparison:
    options = {"ns": (1, 2, 4), "max_subsets": 30, "seed": 1, "agreement": Agreement.from_head(agreeing_head())}
    rows = [method for method in METHODS if method.scorer in ("none", *pools.scorers)]
    return Comparison(pools, rows, auto_answer=True, **(options | changes))


def test_slices_of_any_size_give_the_same_table() -> None:
    pools = pools_of(uneven(messy(20, n=6)))
    tables = [
        [plain_values(row) for row in compare(PoolTable(pools, questions_per_slice=size)).rows(resamples=20)]
        for size in (1, 7, 1000)
    ]
    assert tables[0] == tables[1] == tables[2]


def test_accuracies_are_those_of_a_loop_over_questions_and_draws() -> None:
    groups = uneven(messy(24, n=6))
    comparison, agreement = compare(PoolTable(pools_of(groups), questions_per_slice=5)), None
    agreement = Agreement.from_head(agreeing_head())
    for method in METHODS:
        if method.name not in ("first", "mean_logprob", "default", "head", "head_vote", "majority", "borda"):
            continue
        accuracies = comparison.accuracy(method.name, 2)
        for number, pool in enumerate(pools_of(groups)):
            size = len(pool.labels)
            if size < 2:
                assert np.isnan(accuracies[number])
                continue
            stack = StackedPools.stack([pool], auto_answer=True, agreement=agreement)
            right = []
            for draw in draw_orders(size, 2, max_subsets=30, seed=1):
                winner = choose_winners(method, DrawnSubsets(stack, draw[None]))[0, 0]
                right.append(pool.labels[draw[winner]] == 1)
            assert accuracies[number] == sum(right) / len(right)


def test_totals_of_the_pools_are_those_of_a_loop() -> None:
    groups = uneven(judged_groups(40, missing=0.3))
    pools = [build_pool(group, label_free_scorers({"mean_logprob"}), "auto") for group in groups]
    table = PoolTable(pools, questions_per_slice=7)
    assert table.sizes == Counter(len(pool.labels) for pool in pools)
    assert (table.count(3), table.max_size) == (sum(len(pool.labels) >= 3 for pool in pools), 5)
    assert table.completions == sum(len(pool.labels) for pool in pools)
    assert table.judged == Counter(
        name for pool in pools for name, values in pool.judgements.items() if not np.isnan(values).all()
    )
    for n, mean in table.mean_tokens((1, 3)).items():
        assert mean == n * np.mean([pool.tokens.mean() for pool in pools if len(pool.labels) >= n])


def test_a_number_of_completions_of_which_nothing_was_judged_leaves_the_rows_of_the_verifier() -> None:
    groups = judged_groups(40)
    short = [
        replace(group, completions=group.completions[:3], labels=group.labels[:3], verifier_scores={})
        for group in groups[:10]
    ]
    evaluation = evaluate(None, [*short, *groups[10:]], split="all", ns=(1, 2), subsets=20, resamples=20)
    assert "verifier_vote:openai/judge p_true v1" in {row.name for row in evaluation.rows}
    assert any("judged 30 of 40 questions" in note for note in evaluation.notes)


class Changing:
    """Groups of which the last one has a completion less when they are read again."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups, self.readings = groups, 0

    def __iter__(self) -> Iterator[Group]:
        self.readings += 1
        *others, last = self.groups
        if self.readings > 1:
            last = replace(last, completions=last.completions[:-1], labels=last.labels[:-1])
        yield from (*others, last)


def test_samples_that_change_between_two_readings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="changed while they were read"):
        evaluate(None, Changing(graded_groups(12)), train_samples=graded_groups(40), split="all", ns=(1,), subsets=5)


def test_a_full_disk_says_what_to_do_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch_file, "MAX_BYTES_IN_MEMORY", 100)
    file = ScratchFile()
    assert file.append(np.arange(1000.0)) == 0
    assert file.read(8, 2, np.float64).tolist() == [1.0, 2.0]
    monkeypatch.setattr(scratch_file, "MAX_BYTES_IN_MEMORY", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="TMPDIR") as caught:
        ScratchFile().append(np.arange(1000.0))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOENT
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_file, "MAX_BYTES_IN_MEMORY", 1000)
    (pool,) = pools_of([question("a", ("4", 1, -2.0), ("7", 0, -1.0))])

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            compare(PoolTable(itertools.repeat(pool, count), questions_per_slice=128), ns=(1,), max_subsets=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # 2000 questions take 6 MB in lists, and 0.3 MB here; Python's own free lists grow a little.
    assert peak(2500) < 1.5 * peak(500)


def test_scores_of_many_questions_are_those_of_each_alone_to_the_last_bit() -> None:
    rng = np.random.default_rng(4)
    completions = [completion for group in messy(30, n=5) for completion in group.completions]
    # Lists of different lengths, down to none, so that questions are read to different ranks.
    completions = [
        replace(completion, top_logprobs=completion.top_logprobs[:, : rng.integers(9)]) for completion in completions
    ]
    cuts = np.sort(rng.choice(len(completions), 40)).tolist()
    questions = [completions[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(completions)])]
    for values, question_completions in zip(score_questions(questions, SCORERS), questions, strict=True):
        for name in SCORERS:
            expected = score(question_completions, name).values
            assert values[name].tobytes() == expected.tobytes(), name


def test_an_invalid_completion_among_many_questions_is_named() -> None:
    groups = graded_groups(10)
    first = groups[7].completions[0]
    invalid = replace(first, logprobs=np.full(len(first.tokens), np.nan, np.float32))
    groups[7] = replace(groups[7], completions=(invalid, *groups[7].completions[1:]))
    with pytest.raises(ConfigurationError, match=f"Question {groups[7].question_id}: .*NaN"):
        evaluate(None, groups, split="all", ns=(1,))
