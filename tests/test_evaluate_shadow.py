"""`evaluate(shadow=)` and `evaluate --shadow`: two heads on the same draws of the same questions."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ArtifactMismatchError, ConfigurationError
from swift_client.evaluation.head_comparison import compare_heads, held_out
from swift_client.evaluation.result import weighted_means
from swift_client.models import GatedLinearHead, HeadArtifact, save
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training import evaluate
from tests.children import command
from tests.graded import graded_groups
from tests.test_agreement import samples_file
from tests.test_cascade import head as cascade_head


def head(weight: float, *, beta: float = 1.0, split: Split | None = None) -> HeadArtifact:
    """A head whose score is the mean logprob times ``weight``."""
    weights = GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[weight], reward_bias=0.0)
    facts = {} if split is None else {"split": {"validation": split.validation, "test": split.test, "seed": split.seed}}
    return replace(cascade_head(), head=weights, beta=beta, training=facts, provider="pocket")


def right_share(head: HeadArtifact, group: Group, n: int) -> float:
    """Return the share of all subsets of n completions in which the head's own Selection is right."""
    results = []
    for chosen in combinations(range(len(group.completions)), n):
        completions = [replace(group.completions[index], index=position) for position, index in enumerate(chosen)]
        selection = select_best(completions, SelectionConfig(scorer=head, answer="number"))
        results.append(group.labels[chosen[selection.winner]] == 1)
    return float(np.mean(results))


def test_the_difference_is_that_of_the_choices_of_best_of_on_every_subset() -> None:
    groups = graded_groups(12, n=4)
    first, second = head(5.0), head(-5.0, beta=float("inf"))
    result = compare_heads(first, second, groups, answer="number", ns=(2, 3), subsets=1000)

    assert result.questions == 12
    for n in (2, 3):
        expected = [np.mean([right_share(head, group, n) for group in groups]) for head in (first, second)]
        assert result.accuracy[n].value == pytest.approx(expected[0])
        assert result.other_accuracy[n].value == pytest.approx(expected[1])
        assert result.at[n].value == pytest.approx(expected[1] - expected[0])
    assert result.mean.value == pytest.approx(np.mean([result.at[n].value for n in (2, 3)]))
    assert result.at[2].value != 0
    assert result.mean.low <= result.mean.value <= result.mean.high


def test_a_head_does_not_differ_from_itself_on_any_resample() -> None:
    result = compare_heads(head(5.0), head(5.0), graded_groups(30), answer="number")

    assert (result.mean.value, result.mean.low, result.mean.high) == (0, 0, 0)


def test_only_questions_that_both_heads_keep_for_the_test_count() -> None:
    groups = graded_groups(200)
    splits = Split(), Split(seed=7)
    chosen = list(held_out(groups, splits, "test"))

    assert 0 < len(chosen) < 20
    assert all(split.part(group.question_id) == "test" for group in chosen for split in splits)
    result = evaluate(head(5.0), groups, shadow=head(1.0, split=splits[1]), trained=False, ns=(2,), answer="number")
    assert result.shadow is not None
    assert result.shadow.questions == len(chosen)


def test_the_weighted_interval_of_many_equal_weights_is_the_plain_one_and_copies_are_weights() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(400, 1))
    (plain,) = weighted_means(values, np.ones(400), resamples=3000, seed=1)
    (scaled,) = weighted_means(values, np.full(400, 7.0), resamples=3000, seed=1)
    weights = np.where(np.arange(400) < 100, 3.0, 1.0)
    (weighted,) = weighted_means(values, weights, resamples=3000, seed=1)

    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((plain.value, plain.low, plain.high))
    assert plain.high - plain.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    copies = np.repeat(values[:, 0], weights.astype(int))
    assert weighted.value == pytest.approx(copies.mean())
    # Kish: the weights cost as much as a smaller number of questions.
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert weighted.high - weighted.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(effective), rel=0.12)


def test_a_shadow_of_another_model_or_without_a_head_is_refused(tmp_path: Path) -> None:
    groups = graded_groups(40)
    with pytest.raises(ConfigurationError, match="is compared with a head"):
        evaluate(None, groups, shadow=head(1.0), trained=False)
    other = replace(head(1.0), model="another")
    path = samples_file(tmp_path / "samples.db", graded_groups(40))
    with pytest.raises(ArtifactMismatchError):
        evaluate(head(5.0), path, shadow=other, split="all", trained=False)


def test_the_command_shows_both_heads(tmp_path: Path) -> None:
    save(head(5.0), tmp_path / "old.safetensors")
    save(head(-5.0), tmp_path / "new.safetensors")
    path = samples_file(tmp_path / "samples.db", graded_groups(40))
    arguments = ("evaluate", "old.safetensors", str(path), "--shadow", "new.safetensors", "--split", "all")
    shown = command(*arguments, "--no-trained", "--n", "2", cwd=tmp_path)
    document = json.loads(command(*arguments, "--no-trained", "--n", "2", "--json", cwd=tmp_path).stdout)

    assert shown.returncode == 0, shown.stderr.decode()
    assert b"Shadow head" in shown.stdout
    assert document["shadow"]["at"]["2"]["value"] < 0
