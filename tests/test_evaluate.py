"""Tests of the evaluation table: picks against a Selection's, numbers against loops, sklearn and manual results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ArtifactError, ArtifactMismatchError, ConfigurationError
from swift_client.evaluation.baselines import MAX_RANKS, TEMPERATURES, train_baselines
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.methods import METHODS, DrawnSubsets, choose_winners
from swift_client.evaluation.pools import Agreement, StackedPools, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Evaluation, resampled_sums
from swift_client.features import DEFAULT_RESPONSE_TERMS, TokenTable, response, token
from swift_client.features.segments import segment_mean
from swift_client.models import HeadArtifact, ResponseWeights
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.selection.voting import draw_orders
from swift_client.training.fit import fit
from swift_client.training.recipes import RECIPES, Recipe
from swift_client.types import Completion

from .graded import graded_groups
from .test_train_command import samples_file

SINGLES = [
    m.scorer for m in METHODS if m.kind == "single" and not m.needs_labels and m.scorer not in ("none", "longest")
]


AGREEING = replace(RECIPES["default"], terms=(*DEFAULT_RESPONSE_TERMS, "agreement"), identity=())


@cache
def trained_head(recipe: str | Recipe = AGREEING) -> HeadArtifact:
    """Train a head. By default it counts agreement, and its scores depend on the subset."""
    return fit(graded_groups(40), provider="p", model="m", answer="auto", recipe=recipe).artifact


@cache
def agreeing_head() -> HeadArtifact:
    """Return a head for which agreement counts as much as tokens: its choice depends on the subset."""
    head, part = trained_head(), trained_head().response
    weight = np.append(part.weight[:-1], -1.5)
    response = ResponseWeights(mean=part.standardizer.mean, scale=part.standardizer.scale, weight=weight)
    return replace(head, response=response, training={})


def messy(questions: int, *, seed: int = 7, n: int = 6) -> list[Group]:
    """Make questions with some cut completions, some without answers or tokens, and some duplicates."""
    rng = np.random.default_rng(seed)

    def spoil(completion: Completion, twin: Completion) -> Completion:
        match int(rng.integers(10)):
            case 0:
                return replace(completion, finish_reason="length")
            case 1 | 2:
                return replace(completion, text="I would rather talk about the many kinds of weather that there are.")
            case 3:
                nothing = np.zeros(0, np.float32)
                return replace(
                    completion,
                    tokens=(),
                    logprobs=nothing,
                    top_logprobs=np.zeros((0, 8), np.float32),
                    censored=np.zeros(0, np.bool_),
                )
            case 4:
                return replace(twin, index=completion.index)
            case 5:
                return replace(completion, text="  ")
        return completion  # fmt: skip

    groups = []
    for number, group in enumerate(graded_groups(questions, n=n, seed=seed)):
        if number % 7 == 0:  # nothing whole at all
            completions = tuple(replace(completion, finish_reason="length") for completion in group.completions)
        else:
            completions = tuple(spoil(completion, group.completions[0]) for completion in group.completions)
        groups.append(replace(group, completions=completions))
    return groups


def renumbered(completions: Sequence[Completion], draw: Sequence[int]) -> list[Completion]:
    return [replace(completions[index], index=place) for place, index in enumerate(draw)]


def no_score(completions: Sequence[Completion]) -> list[None]:
    return [None] * len(completions)


def selectable() -> dict[str, tuple[Any, Any]]:
    """Return the rows that a Selection serves: scorer and way to choose."""
    rows: dict[str, tuple[Any, Any]] = {name: (name, "best") for name in SINGLES}
    head, swift = agreeing_head(), replace(trained_head("swift"), training={})
    return rows | {
        "first": (no_score, "best"),
        "default": ("mean_logprob", "vote"),
        "head": (head, "best"),
        "head_vote": (head, "vote"),
        "swift": (swift, "best"),
    }


@pytest.mark.parametrize("answer", ["auto", "number", None])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_every_row_picks_what_a_selection_would_from_the_same_completions(n: int, answer: str | None) -> None:
    head, swift = agreeing_head(), trained_head("swift")
    scorings = label_free_scorers({method.scorer for method in METHODS}) | {
        "head": head_scorer(head),
        "swift": head_scorer(swift),
    }
    rng = np.random.default_rng(n)
    draws = np.array([rng.permutation(6)[:n] for _ in range(3)])
    groups = messy(20)
    pools = [build_pool(group, scorings, answer) for group in groups]
    agreement = Agreement.from_head(head)
    subsets = DrawnSubsets(StackedPools.stack(pools, auto_answer=answer == "auto", agreement=agreement), draws)
    rows = selectable()
    for method in METHODS:
        if method.name in rows:
            scorer, select = rows[method.name]
            won = choose_winners(method, subsets)
            for question, group in enumerate(groups):
                for index, draw in enumerate(draws.tolist()):
                    rules = SelectionConfig(scorer=scorer, answer=answer, select=select)
                    selection = select_best(renumbered(group.completions, draw), rules)
                    assert won[question, index] == selection.winner, (method.name, group.question_id, draw)


def test_a_head_says_of_a_draw_what_it_says_in_a_selection() -> None:
    head = agreeing_head()
    groups = messy(10)
    pools = [build_pool(group, {"head": head_scorer(head)}, "auto") for group in groups]
    draws = np.array([[0, 3, 5], [4, 2, 1]])
    agreement = Agreement.from_head(head)
    subsets = DrawnSubsets(StackedPools.stack(pools, auto_answer=True, agreement=agreement), draws)
    chances = subsets.probabilities("head")
    assert chances is not None
    for question, group in enumerate(groups):
        for index, draw in enumerate(draws.tolist()):
            selection = select_best(renumbered(group.completions, draw), SelectionConfig(scorer=head))
            probabilities = [
                np.nan if candidate.probability is None else candidate.probability for candidate in selection.candidates
            ]
            assert chances[question, index] == pytest.approx(probabilities, abs=1e-6, nan_ok=True)


def word(index: int, answer: str, label: float, *, logprob: float = -1.0) -> tuple[Completion, float]:
    numbers = np.array([logprob], np.float32)
    completion = Completion(
        text=f"The answer is {answer}", index=index, tokens=(answer,), logprobs=numbers,
        top_logprobs=np.stack([numbers, numbers - 1], axis=1), censored=np.zeros(1, np.bool_),
    )  # fmt: skip
    return completion, label


def question(name: str, *answers: tuple[str, float, float]) -> Group:
    labelled_words = [
        word(index, answer, label, logprob=logprob) for index, (answer, label, logprob) in enumerate(answers)
    ]
    return Group(
        question_id=name,
        completions=tuple(completion for completion, _ in labelled_words),
        labels=np.array([label for _, label in labelled_words]),
    )


def test_a_table_small_enough_to_do_by_hand() -> None:
    # two right ones of three, the wrong one the surest: pairs are (right, right), and twice one of each
    groups = [question("a", ("4", 1, -2.0), ("4", 1, -3.0), ("7", 0, -1.0))]
    table = evaluate(None, groups, split="all", ns=(1, 2, 3), answer="number")
    assert [row.accuracy[1].value for row in table.rows] == pytest.approx([2 / 3] * len(table.rows))

    def right(name: str, n: int) -> float:
        return table.row(name).accuracy[n].value

    assert right("oracle", 2) == 1.0
    assert right("mean_logprob", 2) == pytest.approx(1 / 3)  # only the pair without the wrong one
    assert right("majority", 2) == pytest.approx(2 / 3)  # a tie goes to the first of six orders
    assert right("majority_ties", 2) == pytest.approx(1 / 3)
    assert (right("majority", 3), right("mean_logprob", 3)) == (1.0, 0.0)
    assert right("random", 3) == pytest.approx(2 / 3)
    row = table.row("mean_logprob")
    assert row.minus_majority[3].value == -1.0
    assert row.gap_closed[3] == pytest.approx((0 - 2 / 3) / (1 - 2 / 3))
    assert row.gap_closed[1] is None
    assert row.within_question_auroc is not None
    assert row.within_question_auroc.value == 0.0
    assert table.tokens == {1: 1.0, 2: 2.0, 3: 3.0}
    assert (table.questions, table.completions, table.split, table.families) == (1, 3, "all", {"unknown": 1})


def test_uneven_pools_count_where_they_have_enough_and_the_notes_say_so() -> None:
    groups = [
        question("a", ("4", 1, -1.0), ("4", 1, -2.0)),
        question("b", ("5", 0, -1.0)),
        question("c", ("5", np.nan, -1.0)),
        question("d", ("6", 1, -2.0), ("7", np.nan, -1.0)),
    ]
    table = evaluate(None, groups, split="all", ns=(1, 2, 4), answer="number")
    assert table.ns == (1, 2)
    assert table.questions == 3
    assert table.row("first").accuracy[1].value == pytest.approx((1 + 0 + 0.5) / 3)
    assert table.row("mean_logprob").accuracy[2].value == 0.5  # the surest of d has no label, so it is not right
    notes = " ".join(table.notes)
    for sentence in (
        "1 questions are left out: none of their completions has a label.",
        "n = 4 is left out: no question has so many completions.",
        "At n = 2 only the 2 of 3 questions with that many completions count.",
        "1 of 5 completions have no label: choosing one counts as wrong.",
        "WEPR, length and SWIFT as published are left out",
    ):
        assert sentence in notes


@cache
def table() -> Evaluation:
    return evaluate(trained_head(), graded_groups(40), ns=(1, 2, 4, 6), subsets=40)


def test_all_rows_are_there_and_the_same_questions_give_the_same_table() -> None:
    names = [
        "first", "random", "shortest", "longest", "mean_logprob", "sum_logprob", "min_logprob", "entropy",
        "self_certainty", "deepconf_mean", "deepconf_tail", "deepconf_bottom", "deepconf_lowest", "wepr", "length",
        "majority", "majority_ties", "default", "borda", "cisc", "swift", "swift_vote", "head", "head_vote", "head_p",
        "head_odds", "oracle",
    ]  # fmt: skip
    evaluation = table()
    assert sorted(row.name for row in evaluation.rows) == sorted(names)
    assert {row.name for row in evaluation.rows if row.needs_labels} == {
        "wepr", "length", "cisc", "swift", "swift_vote", "head", "head_vote", "head_p", "head_odds",
    }  # fmt: skip
    second_evaluation = evaluate(trained_head(), iter(graded_groups(40)), ns=(6, 1, 2, 4, 4), subsets=40)
    assert second_evaluation.to_dict() == evaluation.to_dict()
    assert json.loads(json.dumps(evaluation.to_dict(), allow_nan=False)) == evaluation.to_dict()


def test_the_test_part_is_the_one_that_the_heads_training_left_out() -> None:
    evaluations = {
        split: evaluate(trained_head(), graded_groups(40), split=split, ns=(1,), trained=False)
        for split in ("train", "validation", "test")
    }
    counts = trained_head().training["questions"]
    assert {split: evaluation.questions for split, evaluation in evaluations.items()} == {
        split: counts[split] for split in evaluations
    }
    assert "fitted on" in " ".join(evaluations["validation"].notes)
    assert not any("fitted on" in note for note in evaluations["test"].notes)


def test_neither_the_order_of_questions_nor_of_completions_matters() -> None:
    def turned(group: Group) -> Group:
        return replace(group, completions=group.completions[::-1], labels=group.labels[::-1])

    groups = messy(40)
    tables = [
        evaluate(trained_head(), order, split="all", ns=(2, 6), subsets=30)
        for order in (groups, [turned(group) for group in groups[::-1]])
    ]
    for one, other in zip(tables[0].rows, tables[1].rows, strict=True):
        for n in (2, 6):
            assert one.accuracy[n].value == pytest.approx(other.accuracy[n].value)
        assert (one.brier, one.ece) == pytest.approx((other.brier, other.ece), nan_ok=True)


def test_the_quality_of_scores_is_what_sklearn_finds() -> None:
    head, groups = trained_head(), graded_groups(40)
    tested = [group for group in groups if Split().part(group.question_id) == "test"]
    selections = [
        select_best(group.completions, SelectionConfig(scorer=replace(head, training={}))) for group in tested
    ]
    scores = np.array([candidate.score for selection in selections for candidate in selection.candidates])
    chances = np.array([candidate.probability for selection in selections for candidate in selection.candidates])
    labels = np.concatenate([group.labels for group in tested])
    row = table().row("head")
    assert row.pooled_auroc == pytest.approx(roc_auc_score(labels, scores))
    assert row.brier == pytest.approx(brier_score_loss(labels, chances), abs=1e-6)
    won, pairs = 0, 0
    for group, selection in zip(tested, selections, strict=True):
        scored_labels = [
            (candidate.score or 0.0, label) for candidate, label in zip(selection.candidates, group.labels, strict=True)
        ]
        duels = [a > b for a, right in scored_labels if right for b, wrong in scored_labels if not wrong]
        won, pairs = won + sum(duels), pairs + len(duels)
    assert row.within_question_auroc is not None
    assert row.within_question_auroc.value == pytest.approx(won / pairs)
    assert row.within_question_auroc.low < won / pairs < row.within_question_auroc.high
    assert row.ece == row.ece_at[6]
    reliability = table().reliability
    assert reliability is not None
    assert reliability.error == pytest.approx(row.ece)


def test_a_probability_is_judged_among_as_many_as_it_was_drawn_with() -> None:
    row = table().row("head")
    assert set(row.ece_at) == {1, 2, 4, 6} == set(row.brier_at)
    assert len(set(row.brier_at.values())) == 4  # agreement says another thing at each n
    result_row = table().row("swift")
    assert len(set(result_row.brier_at.values())) == 1


def test_intervals_come_from_one_resampling_of_the_questions() -> None:
    columns = np.random.default_rng(1).random((9, 3))
    draws = np.random.default_rng(5).integers(9, size=(200, 9))
    by_hand = np.array([columns[draw].sum(axis=0) for draw in draws])
    assert resampled_sums(columns, resamples=200, seed=5) == pytest.approx(by_hand)
    evaluation = table()
    for n in evaluation.ns:
        majority = evaluation.row("majority").minus_majority[n]
        assert (majority.value, majority.low, majority.high) == (0.0, 0.0, 0.0)
        for row in evaluation.rows:
            difference = row.minus_majority[n]
            assert difference.value == pytest.approx(
                row.accuracy[n].value - evaluation.row("majority").accuracy[n].value
            )
            assert difference.low <= difference.value <= difference.high
            assert row.accuracy[n].value <= evaluation.row("oracle").accuracy[n].value


def test_wepr_and_length_are_the_logistic_regressions_of_sklearn() -> None:
    groups, split = graded_groups(40, k=8), Split()
    baselines, _, notes = train_baselines(groups, split=split, answer="auto")
    assert not notes
    learned = [group for group in groups if split.part(group.question_id) == "train"]
    labels = np.concatenate([group.labels for group in learned])
    new = graded_groups(3, seed=99)[0].completions

    def columns(completions: Sequence[Completion]) -> dict[str, np.ndarray]:
        table = TokenTable(completions, width=8)
        means = [segment_mean(row, table.offsets) for row in token.rank_surprise(table)]
        length = np.log1p(np.diff(table.offsets))[:, None]
        return {"wepr": np.stack([*means, *response.max_rank_surprise(table)], axis=1), "length": length}

    training_columns = columns([completion for group in learned for completion in group.completions])
    for name in ("wepr", "length"):
        mean, scale = training_columns[name].mean(axis=0), training_columns[name].std(axis=0)
        model = LogisticRegression(max_iter=1000).fit((training_columns[name] - mean) / scale, labels)
        probabilities = baselines[name](new)
        expected = model.predict_proba((columns(new)[name] - mean) / scale)[:, 1]
        assert probabilities.probabilities == pytest.approx(expected, abs=1e-6)
    assert MAX_RANKS == 10


def test_cisc_gets_the_temperature_that_is_most_often_right_on_training_questions() -> None:
    groups, split = graded_groups(40, n=5, seed=4), Split()
    learned = [group for group in groups if split.part(group.question_id) == "train"]
    best_temperature = train_baselines(groups, split=split, answer="auto").temperature

    def right(temperature: float) -> float:
        total = 0.0
        for group in learned:
            for draw in draw_orders(5, 5, max_subsets=50, seed=0).tolist():
                weights: dict[str, float] = defaultdict(float)
                for index in draw:
                    completion = group.completions[index]
                    weights[completion.text] += np.exp(np.exp(completion.logprobs.mean(dtype=np.float64)) / temperature)
                winner = max(weights, key=weights.__getitem__)
                total += winner == "The answer is 4"
        return total

    assert best_temperature in TEMPERATURES
    assert right(best_temperature) == max(map(right, TEMPERATURES))
    label = next(row.label for row in table().rows if row.name == "cisc")
    assert label.startswith("CISC, T = ")


def test_baselines_never_learn_from_what_is_evaluated() -> None:
    groups = graded_groups(40)
    spoiled = [
        replace(group, labels=1 - group.labels) if Split().part(group.question_id) == "test" else group
        for group in groups
    ]
    one, other = (train_baselines(samples, split=Split(), answer="auto") for samples in (groups, spoiled))
    assert one.temperature == other.temperature
    new = graded_groups(1, seed=5)[0].completions
    for name in ("wepr", "length", "swift"):
        assert np.array_equal(one.scorers[name](new).values, other.scorers[name](new).values)


def test_unseen_questions_are_evaluated_beside_baselines_trained_elsewhere() -> None:
    unseen = graded_groups(12, seed=3)
    evaluation = evaluate(trained_head(), unseen, split="all", ns=(2,), train_samples=graded_groups(40))
    assert {"wepr", "length", "swift_vote"} <= {row.name for row in evaluation.rows}
    bare = evaluate(trained_head(), unseen, split="all", ns=(2,), trained=False)
    assert not {"wepr", "length", "swift", "swift_vote"} & {row.name for row in bare.rows}
    with pytest.raises(KeyError):
        bare.row("wepr")
    assert bare.row("head_vote").accuracy[2] == evaluation.row("head_vote").accuracy[2]


def test_what_cannot_be_trained_on_leaves_its_rows_out_with_a_note() -> None:
    right = [replace(group, labels=np.ones(6)) for group in graded_groups(20)]
    evaluation = evaluate(None, graded_groups(5, seed=2), split="all", ns=(2,), train_samples=right)
    assert "wepr" not in {row.name for row in evaluation.rows}
    assert "SWIFT as published is left out: All 120 completions are right" in " ".join(evaluation.notes)


def test_a_head_for_another_model_is_refused(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "other.db", model="other", questions=5)
    with pytest.raises(ArtifactMismatchError, match="trained on p/m, not on pocket/other"):
        evaluate(trained_head(), samples, split="all")


def test_an_empty_part_says_how_many_questions_each_part_has() -> None:
    groups = [group for group in graded_groups(40) if Split().part(group.question_id) == "train"][:5]
    with pytest.raises(ConfigurationError, match="5 train, 0 validation, 0 test"):
        evaluate(trained_head(), groups)


def test_bad_input_is_one_clear_error() -> None:
    groups = graded_groups(6)
    for wrong, message in (
        ({"ns": ()}, "must all be 1 or more"),
        ({"ns": (0, 2)}, "must all be 1 or more"),
        ({"subsets": 0}, "must all be 1 or more"),
        ({"split": "dev"}, "no split 'dev'"),
        ({"ns": (7,), "split": "all"}, "No question has 7 completions; the most are 6"),
        ({"answer": "numbr"}, "no answer reader"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            evaluate(None, groups, **{"split": "all", "trained": False} | wrong)  # type: ignore[arg-type]
    unknown = [replace(group, labels=np.full(6, np.nan)) for group in groups]
    with pytest.raises(ConfigurationError, match="none of its 6 questions has a label"):
        evaluate(None, unknown, split="all")
    with pytest.raises(ConfigurationError, match="samples of 0 models"):
        evaluate(None, [], split="all")
    first = groups[0].completions[0]
    damaged = replace(first, logprobs=np.full_like(first.logprobs, np.nan))
    spoiled = replace(groups[0], completions=(damaged, *groups[0].completions[1:]))
    with pytest.raises(ConfigurationError, match=r"Question q0-0: .*NaN"):
        evaluate(None, [spoiled, *groups[1:]], split="all", trained=False)


def test_a_head_whose_facts_say_nothing_usable_is_reported_or_refused() -> None:
    head = trained_head()
    evaluation = evaluate(replace(head, training={}), graded_groups(30), ns=(2,), trained=False)
    assert "does not say how its questions were split" in " ".join(evaluation.notes)
    with pytest.raises(ArtifactError, match="cannot be read"):
        evaluate(replace(head, training={"split": {"dev": 1}}), graded_groups(30))
    with pytest.raises(ArtifactError, match="cannot be read"):
        evaluate(replace(head, training={"split": "abc"}), graded_groups(30))
    with pytest.raises(ConfigurationError, match="read by a function"):
        evaluate(replace(head, training={"answer": "custom"}), graded_groups(30))


def test_one_question_has_no_width_and_no_crash() -> None:
    evaluation = evaluate(trained_head(), graded_groups(1), split="all", ns=(1, 2), trained=False)
    accuracy = evaluation.row("head_vote").accuracy[2]
    assert accuracy.low == accuracy.value == accuracy.high


def test_a_head_that_is_no_better_than_majority_says_so_in_the_table() -> None:
    head = replace(trained_head(), training={**trained_head().training, "verdict": "no better than majority"})
    assert "no better than chance" in " ".join(evaluate(head, graded_groups(40), ns=(2,), trained=False).notes)
