"""Tests of training at scale: features on disk, samples read once, block sizes, and thin lists."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.features import token_features
from swift_client.training import optimize
from swift_client.training.feature_matrix import FeatureMatrix, FeatureMatrixBuilder
from swift_client.training.folds import Folds, read_groups
from swift_client.training.metrics import within_question_auroc
from swift_client.training.network import _Linear
from swift_client.training.optimize import network_scores, train
from swift_client.training.recipes import RECIPES
from swift_client.types import Completion

from .generated import completion
from .graded import graded_groups

CPU = torch.device("cpu")
DEFAULT = RECIPES["default"]
QUICK = replace(DEFAULT, epochs=12, batch=128, learning_rate=3e-2)


def built(groups: list[Group], *, width: int = 8, k: int = 8) -> FeatureMatrix:
    with FeatureMatrixBuilder(DEFAULT.features, DEFAULT.terms, width=width) as builder:
        for group in groups:
            builder.add(group, [None] * len(group.completions), k=k)
        return builder.build()


@dataclass(frozen=True)
class Streamed:
    """Questions that are generated while they are read."""

    count: int
    pool: tuple[Completion, ...]

    def __iter__(self) -> Iterator[Group]:
        for number in range(self.count):
            start = number % (len(self.pool) - 8)
            labels = np.array([0.0, 1.0] * 4)
            yield Group(question_id=f"q{number}", completions=self.pool[start : start + 8], labels=labels)


def test_memory_grows_by_a_few_kilobytes_a_question_and_not_by_its_features() -> None:
    pool = tuple(completion(seed, ids=False) for seed in range(16))
    peaks, sizes = [], []
    for count in (80, 160):
        tracemalloc.start()
        readings = read_groups(Streamed(count, pool), recipe=DEFAULT, split=Split(), answer=None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert isinstance(readings.matrix.values, np.memmap)
        sizes.append(readings.matrix.values.nbytes)
    assert sizes[1] - sizes[0] > 15e6
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0])


def test_mean_and_deviation_of_selected_questions_are_those_of_their_tokens() -> None:
    groups = graded_groups(30)
    selected_mask = np.random.default_rng(0).random(30) < 0.5
    selected_completions = [
        completion
        for group, keep in zip(groups, selected_mask, strict=True)
        if keep
        for completion in group.completions
    ]
    values = token_features(selected_completions, DEFAULT.features, width=8).values.astype(np.float64)
    tokens = built(groups).select(selected_mask).token_standardizer
    np.testing.assert_allclose(tokens.mean, values.mean(axis=0), rtol=1e-9, atol=1e-12)
    varying = values.std(axis=0) > 1e-4
    np.testing.assert_allclose(tokens.scale[varying], values.std(axis=0)[varying], rtol=1e-9)
    assert (tokens.scale[~varying] == 1).all()


def test_selected_questions_are_the_same_as_those_questions_alone() -> None:
    groups = graded_groups(12)
    mask = np.arange(12) % 3 == 1
    selected = built(groups).select(mask)
    subset = built([group for group, keep in zip(groups, mask, strict=True) if keep])
    for name in ("lengths", "terms", "labels", "question", "question_offsets"):
        np.testing.assert_array_equal(getattr(selected, name), getattr(subset, name))
    for i in range(len(subset.labels)):
        rows = [dataset.values[dataset.first_rows[i] :][: dataset.lengths[i]] for dataset in (selected, subset)]
        np.testing.assert_array_equal(*rows)


@pytest.fixture(scope="module")
def readings() -> Folds:
    return read_groups(graded_groups(90), recipe=DEFAULT, split=Split(), answer=None)


@pytest.mark.parametrize("held_out", [None, 0, 1, 2, 3])
def test_one_reading_serves_every_fold_and_only_training_sees_thinned_questions(
    readings: Folds, held_out: int | None
) -> None:
    data, split = readings.parts(held_out=held_out), Split()
    parts = [split.part(group.question_id, held=held_out) for group in graded_groups(90)]
    rows = {"validation": data.validation, "train": data.train} | ({"held": data.held_out} if data.held_out else {})
    for part, matrix in rows.items():
        times = 2 if part == "train" else 1
        assert len(matrix.question_offsets) - 1 == times * parts.count(part)
    full_matrix = readings.matrix
    first_rows = np.concatenate([matrix.first_rows for matrix in rows.values()])
    assert len(set(first_rows.tolist())) == len(first_rows)  # no completion stands in two parts
    assert set(first_rows.tolist()) <= set(full_matrix.first_rows.tolist())


@pytest.mark.parametrize("sizes", [[1], [5, 1, 7], [3, 3]])
def test_the_gradient_over_blocks_is_the_true_one(sizes: list[int]) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    blocks = [torch.randn(size, 4).half() for size in sizes]
    inputs = (weight.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(lambda weight, bias: _Linear.apply(weight, bias, *blocks), inputs)
    plain = torch.cat(blocks).double() @ weight.T + bias
    torch.testing.assert_close(_Linear.apply(weight, bias, *blocks), plain)


@pytest.mark.parametrize("block", [1, 50, 10**9])
def test_the_size_of_a_block_changes_no_score(readings: Folds, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = readings.parts()
    network = train(data, replace(QUICK, epochs=2, precision="float64"), seed=0, device=CPU).network
    before = network_scores(network, data.validation)
    monkeypatch.setattr(optimize, "MIN_BLOCK_ROWS", block)
    np.testing.assert_allclose(network_scores(network, data.validation), before, rtol=1e-12)
    second_result = train(data, replace(QUICK, epochs=2, precision="float64"), seed=0, device=CPU).network
    np.testing.assert_allclose(network_scores(second_result, data.validation), before, rtol=1e-6)


def test_a_head_that_saw_thinned_lists_of_twenty_loses_less_on_lists_of_five_and_nothing_on_twenty() -> None:
    aurocs: dict[tuple[bool, int], list[float]] = {}
    for seed in range(3):
        groups, fresh = graded_groups(150, k=20, seed=seed), graded_groups(150, k=20, seed=100 + seed)
        for thin in (True, False):
            recipe = replace(QUICK, thin=thin)
            data = read_groups(groups, recipe=recipe, split=Split(), answer=None).parts()
            network = train(data, recipe, seed=0, device=CPU).network
            for k in (20, 5):
                cut_dataset = built(fresh, width=20, k=k)
                auroc = within_question_auroc(
                    network_scores(network, cut_dataset), cut_dataset.labels, cut_dataset.question
                )
                aurocs.setdefault((thin, k), []).append(auroc)
    mean = {key: float(np.mean(values)) for key, values in aurocs.items()}
    assert mean[True, 20] > mean[False, 20] - 0.02
    assert mean[True, 20] - mean[True, 5] < 0.04 < mean[False, 20] - mean[False, 5]
