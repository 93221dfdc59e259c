"""Tests of the advice on a head and on stopping rules, of the headline behind it, and of tables in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.cli.app import run
from swift_client.dataset.splits import Split
from swift_client.evaluation.advice import advise, advise_stopping, sufficient_n
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.gate import judge_head
from swift_client.evaluation.headline import headline
from swift_client.evaluation.methods import METHODS
from swift_client.evaluation.result import Estimate, Evaluation, Replayed, Row, Simulation
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.models.artifact import BETTER_VERDICT, NO_BETTER_VERDICT, NOT_BETTER_VERDICT, TOO_FEW_VERDICT

from .graded import graded_groups
from .test_report import a_head, samples_file

NAN = math.nan
NS = (2, 4, 8)
RISING = (0.30, 0.36, 0.38)
"""Accuracy of a vote at each of NS: every doubling brings two points or more."""
COMPARED = {"questions": 90, "label": "Mean logprob", "mean": {"value": 0.002, "low": -0.01, "high": 0.02}}


def results(
    gain: tuple[float, float, float],
    *,
    questions: int = 400,
    split: str = "test",
    votes: Sequence[float] = RISING,
    training: Mapping[str, Any] | None = None,
    has_head: bool = True,
    ns: Sequence[int] = NS,
) -> Evaluation:
    """Return an evaluation with this mean gain of the vote."""

    def row(name: str, label: str, accuracies: Sequence[float]) -> Row:
        estimates = {n: Estimate(value, value - 0.02, value + 0.02) for n, value in zip(ns, accuracies, strict=True)}
        differences = dict.fromkeys(ns, Estimate(*gain))
        return Row(
            name=name,
            label=label,
            kind="vote",
            needs_labels=False,
            accuracy=estimates,
            minus_majority=differences,
            minus_label_free=differences,
            gain=Estimate(*gain),
            gain_over_majority=Estimate(*gain),
        )

    labels = {"majority": "Majority", "default": "Default without a head", "oracle": "Any of n"}
    rows = [row(name, label, votes) for name, label in labels.items()]
    rows += [row("head_vote", "This head, vote", votes)] if has_head else []
    return Evaluation(
        rows=tuple(rows),
        ns=tuple(ns),
        questions=questions,
        completions=16 * questions,
        families={},
        split=split,
        subsets=10,
        seed=0,
        tokens=dict.fromkeys(ns, 10.0),
        head=(training or {"verdict": BETTER_VERDICT}) if has_head else {},
        gain_ns=tuple(ns),
    )


GAIN = 'over n = 2, 4, 8 it gains 1.9 points on "Default without a head" (95 % interval +0.7 to +3.2)'
CASES = {
    "better": (
        results((0.019, 0.007, 0.032)),
        f"Use the head at n = 8: right on 38.0 % of 400 questions; {GAIN}.",
    ),
    "enough at four": (
        results((0.019, 0.007, 0.032), votes=(0.30, 0.36, 0.369)),
        f"Use the head at n = 4: right on 36.0 % of 400 questions; {GAIN}.",
    ),
    "barely better": (
        results((0.005, 0.0002, 0.01)),
        'Use the head at n = 8: right on 38.0 % of 400 questions; over n = 2, 4, 8 it gains 0.5 points on "Default '
        'without a head" (95 % interval +0.02 to +1.0).',
    ),
    "chance": (
        results((0.003, -0.005, 0.011)),
        'Do not use this head: over n = 2, 4, 8 it gains 0.3 points on "Default without a head" (95 % interval -0.5 to '
        "+1.1), which may be chance.",
    ),
    "the interval begins at zero": (
        results((0.003, 0.0, 0.011)),
        'Do not use this head: over n = 2, 4, 8 it gains 0.3 points on "Default without a head" (95 % interval +0.0 to '
        "+1.1), which may be chance.",
    ),
    "worse": (
        results((-0.02, -0.03, -0.01)),
        'Do not use this head: over n = 2, 4, 8 it loses 2.0 points to "Default without a head" (95 % interval -3.0 to '
        "-1.0).",
    ),
    "few questions": (
        results((0.05, 0.03, 0.07), questions=29),
        "Do not use this head yet: 29 questions cannot tell if it helps; at least 30 are needed.",
    ),
    "set aside by its training": (
        results((0.019, 0.007, 0.032), training={"verdict": NOT_BETTER_VERDICT, "comparison": COMPARED}),
        "Do not use this head: in its training it was not clearly better than 'Mean logprob' on 90 test questions "
        "(+0.2 points, 95 % interval -1.0 to +2.0).",
    ),
    "no better than chance": (
        results((0.019, 0.007, 0.032), training={"verdict": NO_BETTER_VERDICT}),
        "Do not use this head: in its training it ranked the answers of one question no better than chance on its "
        "validation questions.",
    ),
    "trained with too few test questions, but better here": (
        results(
            (0.019, 0.007, 0.032), training={"verdict": TOO_FEW_VERDICT, "comparison": {**COMPARED, "questions": 9}}
        ),
        f"Train this head again with these samples as test samples: {GAIN}, but its file counts too few test "
        "questions, so best_of does not use it.",
    ),
    "trained with too few test questions, and no better here": (
        results(
            (0.003, -0.005, 0.011), training={"verdict": TOO_FEW_VERDICT, "comparison": {**COMPARED, "questions": 9}}
        ),
        "Do not use this head: in its training it was tested on 9 questions, too few to tell if it is better than "
        "'Mean logprob'.",
    ),
    "questions that fitted the head": (
        results((0.019, 0.007, 0.032), split="train"),
        "Do not decide by these numbers: the head was fitted to these train questions, so it looks better here than it "
        "is.",
    ),
    "one completion": (
        results((0.0, 0.0, 0.0), ns=(1,), votes=(0.3,)),
        "Draw more completions: one per question leaves nothing to choose.",
    ),
    "unknown": (
        results((NAN, NAN, NAN)),
        'Do not use this head: its difference to "Default without a head" is unknown.',
    ),
    "without a head, better": (
        results((0.019, 0.007, 0.032), has_head=False),
        "Without a head, vote by log-probabilities at n = 8: right on 38.0 % of 400 questions; over n = 2, 4, 8 it "
        'gains 1.9 points on "Majority" (95 % interval +0.7 to +3.2).',
    ),
    "without a head, chance": (
        results((0.003, -0.005, 0.011), has_head=False),
        'Do not expect more than from a majority: over n = 2, 4, 8 it gains 0.3 points on "Majority" (95 % interval '
        "-0.5 to +1.1), which may be chance.",
    ),
    "without a head, worse": (
        results((-0.02, -0.03, -0.01), has_head=False),
        'Do not weigh votes by log-probabilities: over n = 2, 4, 8 it loses 2.0 points to "Majority" (95 % interval '
        "-3.0 to -1.0).",
    ),
    "without a head, few questions": (
        results((0.05, 0.03, 0.07), questions=1, has_head=False),
        "Do not choose a method yet: 1 question cannot tell if it helps; at least 30 are needed.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_advice_on_a_head_follows_from_its_numbers(case: str) -> None:
    evaluation, sentence = CASES[case]

    assert str(advise(evaluation)) == sentence
    assert advise(evaluation).use == sentence.startswith(("Use", "Without a head, vote"))


@pytest.mark.parametrize(
    ("accuracies", "n"),
    [
        ([(2, 0.3)], 2),
        ([(2, 0.3), (4, 0.31)], 4),
        ([(2, 0.3), (4, 0.3099)], 2),
        ([(2, 0.3), (4, 0.305), (8, 0.4)], 2),
        ([(2, 0.3), (4, 0.36), (8, 0.35)], 4),
    ],
)
def test_doubling_ends_where_it_brings_less_than_a_point(accuracies: list[tuple[int, float]], n: int) -> None:
    assert sufficient_n(accuracies) == n


def replayed(
    name: str, share: float, difference: tuple[float, float, float], choice: Any = "vote", published: bool = True
) -> Replayed:
    return Replayed(
        name=name,
        choice=choice,
        published=published,
        source="",
        accuracy=Estimate(0.4, 0.38, 0.42),
        minus_majority=Estimate(*difference),
        minus_vote=Estimate(-0.01, -0.02, 0.0),
        completions=Estimate(16 * share, 1.0, 16.0),
        token_share=Estimate(share, share, share),
    )


def simulation(*rows: Replayed, questions: int = 200, majority: float = 0.4) -> Simulation:
    return Simulation(
        rows=rows,
        n=16,
        orders=5,
        waves=(1,),
        questions=questions,
        completions=16 * questions,
        majority=Estimate(majority, majority, majority),
        tokens=44.0,
        prompt_tokens=None,
        split="all",
        seed=0,
    )


HARMLESS, HARMFUL = (0.005, -0.005, 0.015), (0.005, -0.012, 0.02)
STOPPING_CASES = {
    "the cheapest that loses less than a point": (
        simulation(replayed("auto", 0.5, HARMLESS), replayed("beta", 0.4, HARMLESS), replayed("esc", 0.3, HARMFUL)),
        "Use stopping=beta: 40 % of the tokens of all 16, at +0.5 points against a majority of 16 (95 % interval -0.5 "
        "to +1.5) and -1.0 against best_of's vote over all.",
    ),
    "a fixed number": (
        simulation(replayed("auto", 0.5, HARMLESS), replayed("fixed:4", 0.25, HARMLESS, published=False)),
        "Use n = 4 and no stopping rule: 25 % of the tokens of all 16, at +0.5 points against a majority of 16 (95 % "
        "interval -0.5 to +1.5) and -1.0 against best_of's vote over all.",
    ),
    "closing streams": (
        simulation(replayed("abort_deepconf:keep=0.5", 0.9, HARMLESS)),
        "Use abort=deepconf:keep=0.5: 90 % of the tokens of all 16, at +0.5 points against a majority of 16 (95 % "
        "interval -0.5 to +1.5) and -1.0 against best_of's vote over all.",
    ),
    "choices that best_of does not make are not advised": (
        simulation(
            replayed("beta", 0.4, HARMLESS, choice="majority"),
            replayed("deepconf_low", 0.4, HARMLESS),
            replayed("fixed:16", 1.0, (0.02, 0.01, 0.03)),
        ),
        "Do not stop early on this evidence: no rule is certain to stay within 1 point of a majority of 16.",
    ),
    "few questions": (
        simulation(replayed("auto", 0.5, HARMLESS), questions=29),
        "Do not stop early on this evidence: 29 questions are too few to choose a rule by; at least 30 are needed.",
    ),
    "no labels": (
        simulation(replayed("auto", 0.5, (NAN, NAN, NAN)), majority=NAN),
        "Do not stop early on this evidence: without labels nobody knows what it costs in accuracy.",
    ),
}


@pytest.mark.parametrize("case", STOPPING_CASES)
def test_the_advice_on_stopping_follows_from_its_numbers(case: str) -> None:
    replays, sentence = STOPPING_CASES[case]

    assert str(advise_stopping(replays)) == sentence
    assert advise_stopping(replays).use == sentence.startswith("Use")


def test_the_gain_is_the_one_that_the_gate_stores_in_the_head() -> None:
    groups = graded_groups(60, n=8)
    # Some questions have too few completions for the larger n.
    groups[:10] = [replace(group, completions=group.completions[:3], labels=group.labels[:3]) for group in groups[:10]]
    verdict = judge_head(a_head(), [], split=Split(), answer="auto", test_groups=groups)

    evaluation = evaluate(a_head(), groups, split="all", subsets=100, resamples=2000, trained=False, answer="auto")
    comparison = headline(evaluation)

    assert (comparison.rule, comparison.questions) == (verdict.rule, verdict.questions)
    assert [comparison.gain.value, comparison.gain.low, comparison.gain.high] == pytest.approx(
        [verdict.mean.value, verdict.mean.low, verdict.mean.high], abs=1e-12
    )
    assert {row.n: pytest.approx(row.gain.value, abs=1e-12) for row in comparison.rows} == {
        n: difference.value for n, difference in verdict.at.items()
    }


def test_the_mean_gain_is_that_of_the_questions_one_by_one() -> None:
    groups = graded_groups(40, n=8)
    evaluation = evaluate(a_head(), groups, split="all", ns=(1, 2, 4, 8), subsets=30, trained=False)
    vote, rule = evaluation.row("head_vote"), evaluation.row(evaluation.label_free)

    by_hand = np.mean([vote.accuracy[n].value - rule.accuracy[n].value for n in NS])

    assert evaluation.gain_ns == NS
    assert headline(evaluation).gain.value == pytest.approx(by_hand, abs=1e-12)
    assert rule.gain == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize(("ns", "gain_ns"), [((1, 2, 3), (2,)), ((1, 3), (3,)), ((1,), (1,)), ((4, 5, 8), (4, 8))])
def test_other_n_than_the_gates_are_used_only_without_them(ns: tuple[int, ...], gain_ns: tuple[int, ...]) -> None:
    evaluation = evaluate(a_head(), graded_groups(5, n=8), split="all", ns=ns, subsets=5, trained=False)

    assert evaluation.gain_ns == gain_ns
    assert [row.n for row in headline(evaluation).rows] == list(gain_ns)


@cache
def many_ns() -> Evaluation:
    """Return an evaluation at ten n, with the widest numbers that there can be."""
    evaluation = evaluate(a_head(), graded_groups(40, n=16), split="all", ns=range(1, 12), subsets=5, trained=False)
    wide = Estimate(-0.123, -0.234, -0.101)
    rows = tuple(
        replace(row, accuracy=dict.fromkeys(evaluation.ns, Estimate(1.0, 1.0, 1.0)), gain=wide)
        for row in evaluation.rows
    )
    return replace(evaluation, rows=rows, tokens=dict.fromkeys(evaluation.ns, 123456.0), provider="p", model="m" * 60)


def test_the_table_of_evaluate_fits_80_columns_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swift_client.cli.evaluate import _render
    from swift_client.cli.output import show

    monkeypatch.setenv("COLUMNS", "80")
    show(*_render(many_ns()))
    lines = capsys.readouterr().out.splitlines()

    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for method in METHODS:
        if any(row.name == method.name for row in many_ns().rows):
            label = many_ns().row(method.name).label
            assert any(line.startswith(f"{label}  ") for line in lines), label
    assert "-12.3 -23.4…-10.1" in text
    for words in ("n=11", "123k", "AUROC", "Mean gain", "the best rule without"):
        assert words in text
    assert " ".join(lines).replace("  ", " ").rstrip().endswith(str(advise(many_ns())))


def test_the_table_of_simulate_fits_80_columns_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swift_client.cli.output import show
    from swift_client.cli.simulate import _render

    replays = simulate(graded_groups(40, n=8), n=8, orders=2, sweep=True, resamples=20)
    wide = replace(replays.rows[0], accuracy=Estimate(1.0, 1.0, 1.0), minus_majority=Estimate(-0.2, -0.234, -0.101))
    replays = replace(replays, rows=(wide, *replays.rows[1:]))
    monkeypatch.setenv("COLUMNS", "80")
    show(*_render(replays))
    lines = capsys.readouterr().out.splitlines()

    assert max(map(len, lines)) <= 80
    assert "100.0 -23.4…-10.1" in "\n".join(lines)
    for row in replays.rows:
        assert any(line.split()[:2] == [row.name, row.choice] for line in lines), row.name
    assert " ".join(lines).replace("  ", " ").rstrip().endswith(str(advise_stopping(replays)))


def test_both_commands_end_with_the_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = samples_file(tmp_path / "samples.db", graded_groups(40, n=8))

    assert run(["evaluate", "none", str(samples), "--split", "all", "--n", "2", "--no-trained", "--subsets", "5"]) == 0
    evaluated = " ".join(capsys.readouterr().out.split())
    assert run(["simulate", str(samples), "--n", "8", "--orders", "3", "--rules", "beta,fixed:4"]) == 0
    simulated = " ".join(capsys.readouterr().out.split())

    expected = advise(evaluate(None, samples, split="all", ns=(2,), trained=False, subsets=5))
    assert evaluated.endswith(str(expected))
    assert simulated.endswith(str(advise_stopping(simulate(samples, n=8, orders=3, rules="beta,fixed:4"))))
