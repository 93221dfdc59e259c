"""Tests of the verdict on a head: a paired comparison with the best label-free rule, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swift_client import training
from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.evaluation.gate import MIN_QUESTIONS, choose_rule, judge_head
from swift_client.evaluation.methods import METHODS
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import build_pool, label_free_scorers
from swift_client.models import GatedLinearHead, HeadArtifact, PlattCalibration, Standardizer, load
from swift_client.models.artifact import BETTER_VERDICT, NOT_BETTER_VERDICT, TOO_FEW_VERDICT, describe_verdict
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.types import Completion

from .test_train_command import samples_file

SPLIT = Split(validation=0.3, test=0.4)


def made_head(weight: float, **facts: object) -> HeadArtifact:
    """Make a head whose score is ``weight`` times the mean logprob."""
    return HeadArtifact(
        features=("logprob",),
        width=1,
        standardizer=Standardizer(mean=[0.0], scale=[1.0]),
        head=GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[weight], reward_bias=0.0),
        calibration=PlattCalibration(a=1.0, b=0.0),
        provider="pocket",
        model="m",
        k_min=0,
        k_max=1,
        **facts,  # type: ignore[arg-type]
    )


def completion(index: int, answer: str, logprob: float) -> Completion:
    text = f"The answer is {answer}"
    tokens = tuple(text)
    return Completion(
        text=text,
        index=index,
        tokens=tokens,
        logprobs=np.full(len(tokens), logprob, np.float32),
        top_logprobs=np.zeros((len(tokens), 0), np.float32),
        censored=np.zeros(len(tokens), np.bool_),
    )


def misleading_groups(count: int, *, size: int = 2, seed: int = 0) -> list[Group]:
    """Make questions on which the less probable completion is usually the right one."""
    rng = np.random.default_rng(seed)
    groups = []
    for number in range(count):
        labels = (rng.random(size) < 0.5).astype(np.float64)
        logprobs = -0.2 - 0.4 * labels - 0.3 * rng.random(size)
        completions = tuple(
            completion(index, "4" if label else str(rng.integers(5, 7)), float(logprob))
            for index, (label, logprob) in enumerate(zip(labels, logprobs, strict=True))
        )
        groups.append(Group(question_id=f"{seed}-{number}", completions=completions, labels=labels))
    return groups


def chosen_by_hand(groups: list[Group], config: SelectionConfig) -> np.ndarray:
    """Return for each question of two completions the share of both orders in which the choice is right."""
    shares = []
    for group in groups:
        right = []
        for order in ((0, 1), (1, 0)):
            completions = [replace(group.completions[old], index=new) for new, old in enumerate(order)]
            right.append(group.labels[order[select_best(completions, config).winner]])
        shares.append(np.mean(right))
    return np.array(shares)


def part(groups: list[Group], name: str) -> list[Group]:
    return [group for group in groups if SPLIT.part(group.question_id) == name]


def test_the_difference_is_that_of_selections_one_by_one_on_test_questions_alone() -> None:
    groups, head = misleading_groups(300), made_head(-20.0)
    judged = judge_head(head, groups, split=SPLIT, answer="auto")
    tested = part(groups, "test")
    assert (judged.questions, judged.chosen_on) == (len(tested), len(part(groups, "validation")))
    # Logprobs mislead, and texts are equally long: taking the first one, as all others do, is best.
    assert judged.rule in ("shortest", "longest", "entropy", "majority", "borda")
    by_head = chosen_by_hand(tested, SelectionConfig(scorer=head, select="vote"))
    difference = by_head - np.array([group.labels.mean() for group in tested])
    assert judged.mean.value == pytest.approx(difference.mean())
    assert judged.at[2].value == pytest.approx(difference.mean())
    standard_error = difference.std() / np.sqrt(len(difference))
    assert judged.mean.high - judged.mean.low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)


def test_a_head_that_is_right_where_logprobs_mislead_is_better_and_the_mean_logprob_itself_is_not() -> None:
    groups = misleading_groups(300, size=4)
    better = judge_head(made_head(-20.0), groups, split=SPLIT, answer="auto")
    assert better.verdict == BETTER_VERDICT
    assert better.mean.low > 0
    assert set(better.at) == {2, 4}
    assert judge_head(made_head(20.0), groups, split=SPLIT, answer="auto").verdict == NOT_BETTER_VERDICT


def test_below_thirty_questions_nothing_is_claimed_and_more_can_be_given() -> None:
    groups = misleading_groups(60)
    few = judge_head(made_head(-20.0), groups, split=SPLIT, answer="auto")
    assert few.questions < MIN_QUESTIONS
    assert few.verdict == TOO_FEW_VERDICT
    more = judge_head(made_head(-20.0), groups, split=SPLIT, answer="auto", test_groups=misleading_groups(80, seed=1))
    assert (more.questions, more.verdict) == (80, BETTER_VERDICT)
    none = judge_head(made_head(-20.0), groups, split=Split(validation=0.3, test=0.0), answer="auto")
    assert (none.questions, none.verdict, none.at) == (0, TOO_FEW_VERDICT, {})
    assert none.to_dict()["mean"] == {"value": None, "low": None, "high": None}


def test_the_rule_is_the_one_that_is_right_most_often_on_validation_and_else_the_default() -> None:
    scorers = label_free_scorers({method.scorer for method in METHODS})
    # The longer text is right, and says so with equal logprobs.
    groups = [
        Group(
            question_id=str(number),
            completions=(completion(0, "5", -0.5), completion(1, "4444", -0.5)),
            labels=np.array([0.0, 1.0]),
        )
        for number in range(20)
    ]
    assert choose_rule(PoolTable(build_pool(group, scorers, "auto") for group in groups), answer="auto") == "longest"
    assert choose_rule(PoolTable(), answer="auto") == "default"


def test_a_head_that_is_set_aside_says_by_how_much_and_is_used_if_it_is_asked_for_by_name() -> None:
    comparison = {"label": "Majority", "questions": 194, "mean": {"value": 0.0108, "low": -0.004, "high": 0.026}}
    head = made_head(20.0, training={"verdict": NOT_BETTER_VERDICT, "comparison": comparison})
    completions = [completion(0, "4", -0.5), completion(1, "5", -0.1)]
    aside = select_best(completions, SelectionConfig(scorer=head))
    assert aside.scorer == "mean_logprob"
    assert aside.notes == (
        "head pocket/m was not clearly better than 'Majority' on 194 test questions (+1.1 points, 95 % interval "
        "-0.4 to +2.6), so the mean_logprob scorer is used instead.",
    )
    assert select_best(completions, SelectionConfig(scorer=head, force_head=True)).scorer == head.name


@pytest.mark.parametrize("facts", [{}, {"comparison": None}, {"comparison": {"label": 1}}, {"comparison": []}])
def test_a_files_verdict_without_numbers_is_described_all_the_same(facts: dict[str, object]) -> None:
    assert describe_verdict({"verdict": NOT_BETTER_VERDICT, **facts})


def test_train_on_few_questions_writes_the_comparison_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, out = samples_file(tmp_path / "a.db"), tmp_path / "head.safetensors"
    assert run(["train", str(samples), "--answer", "number", "--out", str(out), "--recipe", "swift"]) == 0
    shown = capsys.readouterr()
    head = load(out)
    assert head.training["verdict"] == TOO_FEW_VERDICT
    assert head.training["comparison"]["questions"] == head.training["questions"]["test"] < MIN_QUESTIONS
    assert not head.beats_majority
    assert "verdict: not enough questions to tell" in shown.out
    assert "set aside" in shown.err


def test_other_samples_can_give_the_verdict(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "a.db")
    result = training.train(samples, answer="number", recipe="swift", test_samples=samples)
    assert result.artifact.training["comparison"]["questions"] == 60
    assert result.verdict in (BETTER_VERDICT, NOT_BETTER_VERDICT)
