"""Tests of what a head learns about a verifier: its weight, the gate, the table, the file and acceptance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from swift_client import AsyncSwiftReranker, Selection, Verifier
from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ArtifactError, ConfigurationError, RejectedError
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.methods import DrawnSubsets, choose_winners
from swift_client.evaluation.pools import Agreement, Pool, StackedPools, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.risk.calibrate import calibrate
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.evaluation.verifier_gate import judge_verifiers
from swift_client.evaluation.verifier_rows import head_method, verifier_methods
from swift_client.models import HeadArtifact, load, save
from swift_client.models.artifact import BETTER_VERDICT
from swift_client.models.verifier_term import VerifierTerm
from swift_client.reranker.acceptance import answer_log_odds, with_acceptance
from swift_client.selection.select import SelectionConfig, build_selection, score_completions, select
from swift_client.store import SampleStore
from swift_client.training.fit import fit
from swift_client.training.verifier_weight import MIN_QUESTIONS, WEIGHTS, LearntWeight, learn_weight
from swift_client.types import Verification
from swift_client.verify.stored_verification import verify_stored
from swift_client.verify.verification import VerifiedChoice, apply_verification
from tests.graded import graded_groups
from tests.servers import FaultServer

from .test_gate import completion, made_head
from .test_train_command import samples_file
from .test_verifier import OTHER, RIGHT, WRONG, right, serve

JUDGE, NOISE = "openai/judge p_true v1", "openai/noise score v1"
NAN = float("nan")


def term(verifier: str = JUDGE, exponent: float = 1.0, **facts: Any) -> VerifierTerm:
    return VerifierTerm(
        **{"gain": 2.0, "low": 0.5, "high": 3.5, "questions": 100, **facts}, verifier=verifier, exponent=exponent
    )


def judged_groups(count: int, *, size: int = 5, seed: int = 0, shift: float = 2.0, missing: float = 0.0) -> list[Group]:
    """Make questions with a judge whose log odds for right and wrong answers are ``shift`` apart, and one of noise."""
    rng = np.random.default_rng(seed)
    groups = []
    for number in range(count):
        labels = (rng.random(size) < rng.uniform(0.2, 0.7)).astype(np.float64)
        answers = np.where(labels == 1, 4, rng.integers(5, 7, size))
        logprobs = -0.3 + 0.15 * rng.normal(size=size) + 0.1 * labels
        completions = [
            completion(index, str(answer), float(min(logprob, -0.01)))
            for index, (answer, logprob) in enumerate(zip(answers, logprobs, strict=True))
        ]
        scores = {}
        for verifier, distance in ((JUDGE, shift), (NOISE, 0.0)):
            log_odds = {answer: distance * ((answer == 4) - 0.5) + rng.normal() for answer in (4, 5, 6)}
            judgements = np.array([1 / (1 + math.exp(-log_odds[answer])) for answer in answers])
            judgements[np.isin(answers, np.flatnonzero(rng.random(7) < missing))] = NAN
            scores[verifier] = judgements
        groups.append(
            Group(
                question_id=f"q{seed}-{number}",
                completions=tuple(completions),
                labels=labels,
                verifier_scores=scores,
            )
        )
    return groups


def head(*terms: VerifierTerm, beta: float = 1.0) -> HeadArtifact:
    return made_head(3.0, beta=beta, verifier_terms=terms)


def chosen_with(group: Group, artifact: HeadArtifact, verifier: VerifierTerm, when: str = "always") -> VerifiedChoice:
    scored = score_completions(group.completions, SelectionConfig(scorer=artifact))
    return verify_stored(
        scored, select(scored, "auto"), group.verifier_scores[verifier.verifier], term=verifier, when=when
    )


def pool(group: Group, artifact: HeadArtifact) -> Pool:
    return build_pool(
        group, {**label_free_scorers({"mean_logprob", "shortest"}), "head": head_scorer(artifact)}, "auto"
    )


# Choices over many draws


@pytest.mark.parametrize(("beta", "exponent"), [(0.5, 4.0), (1.0, 1.0), (4.0, 0.25), (math.inf, 1.0)])
def test_draws_are_judged_as_a_single_choice_is(beta: float, exponent: float) -> None:
    groups = judged_groups(30, missing=0.3)
    # Some completions are cut, and some questions have no answer that can be read.
    groups += [
        replace(group, completions=(replace(group.completions[0], finish_reason="length"), *group.completions[1:]))
        for group in judged_groups(8, seed=1)
    ]
    groups += [
        replace(group, completions=tuple(replace(c, text=f"no {c.index}") for c in group.completions))
        for group in judged_groups(8, seed=2)
    ]
    verifier = term(exponent=exponent, mean_log_odds=0.3)
    artifact = head(verifier, beta=beta)
    stack = StackedPools.stack(
        [pool(group, artifact) for group in groups],
        auto_answer=True,
        agreement=Agreement.from_head(artifact),
        beta=beta,
    )
    winners = choose_winners(head_method(JUDGE, exponent, 0.3), DrawnSubsets(stack, np.arange(5)[None]))[:, 0]
    expected = [chosen_with(group, artifact, verifier).choice.winner for group in groups]
    assert winners.tolist() == expected
    changed = [
        chosen_with(group, artifact, verifier).choice.winner != select_plain(group, artifact) for group in groups
    ]
    assert any(changed)


def select_plain(group: Group, artifact: HeadArtifact) -> int:
    return select(score_completions(group.completions, SelectionConfig(scorer=artifact)), "auto").winner


def test_the_best_judgement_alone_by_a_plain_loop() -> None:
    groups = judged_groups(30, size=4)
    artifact = head()
    stack = StackedPools.stack([pool(g, artifact) for g in groups], auto_answer=True, agreement=None)
    alone = next(row for row in verifier_methods([JUDGE], None) if row.name == f"verifier:{JUDGE}")
    winners = choose_winners(alone, DrawnSubsets(stack, np.arange(4)[None]))[:, 0]
    for group, winner in zip(groups, winners.tolist(), strict=True):
        assert group.verifier_scores[JUDGE][winner] == group.verifier_scores[JUDGE].max()
    # Equal judgements: the votes decide.
    tied = [replace(g, verifier_scores={JUDGE: np.full(4, 0.7)}) for g in groups]
    stack = StackedPools.stack([pool(g, artifact) for g in tied], auto_answer=True, agreement=None)
    subsets = DrawnSubsets(stack, np.arange(4)[None])
    assert (choose_winners(alone, subsets) == choose_winners(replace(alone, verifier=None), subsets)).all()


@pytest.mark.parametrize(
    ("when", "judgement"), [("always", right(0.95, 0.2)), ("doubt", right(0.95, 0.2)), ("doubt", right(0.1, 0.9))]
)
async def test_stored_judgements_choose_as_the_verifier_did(
    fault_server: FaultServer, when: Any, judgement: Callable[[str], float]
) -> None:
    fault_server.serve(serve([WRONG, RIGHT, WRONG, OTHER], judgement))
    learnt = term("openai-compatible/m p_true v1", exponent=2.0)
    artifact = replace(made_head(3.0, verifier_terms=(learnt,)), provider="openai-compatible")
    async with AsyncSwiftReranker(
        "openai-compatible",
        "m",
        base_url=fault_server.url,
        scorer=artifact,
        verifier=Verifier(mode="p_true", when=when),
    ) as reranker:
        selection = await reranker.best_of("What is 17 * 24?", n=4)
    verification = selection.verification
    assert verification is not None
    assert (verification.verifier, verification.when) == (learnt.verifier, when)
    assert verification.answers == verification.judged == (3 if when == "always" else verification.judged)
    completions = [candidate.completion for candidate in selection.candidates]
    scored = score_completions(completions, SelectionConfig(scorer=artifact))
    # What the rounds did not ask for must not count.
    judgements = np.array(
        [judgement(c.text) if c.verifier_score is None else c.verifier_score for c in selection.candidates]
    )
    verified = verify_stored(scored, select(scored, "auto"), judgements, term=learnt, when=when)
    assert verified.verifier_scores == tuple(candidate.verifier_score for candidate in selection.candidates)
    assert verified.choice.winner == selection.winner
    assert verified.answer_probabilities == tuple(c.answer_probability for c in selection.candidates)
    assert verified.verification.confidence == verification.confidence


# The weight


def learn(judgements: list[list[float]], odds: list[list[float]], labels: list[list[int]], repeat: int = 40) -> Any:
    """Learn from questions with two answers, each repeated."""
    questions = len(judgements) * repeat
    values, flat = np.tile(np.array(odds), (repeat, 1)).ravel(), np.tile(np.array(judgements), (repeat, 1)).ravel()
    right_answers = np.tile(np.array(labels, np.float64), (repeat, 1)).ravel()
    question = np.repeat(np.arange(questions), 2)
    probabilities = values / (1 + values)
    return learn_weight(
        np.log(values), probabilities, right_answers, np.tile([0, 1], questions), question, flat, beta=1.0
    )


def test_a_weight_is_worth_what_the_odds_say() -> None:
    # The wrong answer has the odds 4 against 1; the judge has log odds of 1.0986 for the right one, and as much against
    # the other: 2 · 1.0986 · w exceeds log 4 = 1.386 from w = 0.63 on.
    learnt = learn([[0.25, 0.75]], [[4.0, 1.0]], [[0, 1]])
    assert learnt.accuracy == {0.0: 0.0, 0.25: 0.0, 0.5: 0.0, 1.0: 1.0, 2.0: 1.0, 4.0: 1.0}
    assert (learnt.weight, learnt.questions) == (1.0, 40)  # the smallest of equally good ones


def test_a_judge_who_is_wrong_is_not_heard_and_few_questions_teach_nothing() -> None:
    assert learn([[0.75, 0.25]], [[1.0, 2.0]], [[0, 1]]).weight == 0.0
    few = learn([[0.25, 0.75]], [[4.0, 1.0]], [[0, 1]], repeat=MIN_QUESTIONS - 1)
    assert (few.weight, few.accuracy) == (0.0, {})
    unjudged = learn([[NAN, NAN]], [[4.0, 1.0]], [[0, 1]])
    assert (unjudged.questions, unjudged.accuracy) == (0, {})


def test_a_gain_within_its_standard_error_keeps_the_votes() -> None:
    # Of 100 questions the judge corrects 11 and spoils 9: +2 points, and its standard error is 4.5.
    labels = [[0, 1]] * 11 + [[1, 0]] * 9 + [[1, 0]] * 80
    judgements = [[0.02, 0.98]] * 20 + [[0.5, 0.5]] * 80
    learnt = learn(judgements, [[2.0, 1.0]] * 100, labels, repeat=1)
    assert learnt.accuracy[4.0] - learnt.accuracy[0.0] == pytest.approx(0.02)
    assert learnt.mean_log_odds == pytest.approx(0.0, abs=1e-12)
    assert learnt.weight == 0.0


@cache
def trained() -> Any:
    groups = [
        replace(group, verifier_scores=judge_by_label(group, seed))
        for seed, group in enumerate(graded_groups(100, n=5))
    ]
    return fit(groups, provider="p", model="m"), groups


def judge_by_label(group: Group, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    texts = [c.text.split()[-1] for c in group.completions]
    by_text = {text: (rng.normal(1.5 if text == "4" else -1.5), rng.normal()) for text in sorted(set(texts))}
    columns = np.array([by_text[text] for text in texts]).T
    return {name: 1 / (1 + np.exp(-column)) for name, column in zip((JUDGE, NOISE), columns, strict=True)}


def test_training_learns_from_a_good_judge_and_not_from_noise_or_comparisons() -> None:
    result, groups = trained()
    assert result.verifier_weights[JUDGE].weight > 0
    assert result.verifier_weights[NOISE].weight == 0.0
    assert result.verifier_weights[JUDGE].questions > MIN_QUESTIONS
    assert result.artifact.verifier_terms == ()  # not yet tested
    stored = result.artifact.training["verifier_weights"][JUDGE]
    assert set(stored["accuracy"]) == {f"{weight:g}" for weight in WEIGHTS}
    json.dumps(result.artifact.training)
    pairwise = [replace(g, verifier_scores={"j pairwise v1": np.full(5, 0.5)}) for g in groups]
    assert fit(pairwise, provider="p", model="m").verifier_weights == {}


# The gate


def learnt_weight(weight: float) -> LearntWeight:
    return LearntWeight(weight=weight, accuracy={}, questions=100)


def test_the_gate_measures_a_paired_difference_by_a_plain_loop() -> None:
    groups = judged_groups(80, size=2, seed=5)
    artifact = head()
    tested = judge_verifiers(
        artifact, {JUDGE: learnt_weight(2.0)}, (), split=Split(), answer="auto", test_groups=groups
    )
    differences = []
    for group in groups:
        for order in ((0, 1), (1, 0)):  # both draws of two
            drawn = replace(
                group,
                completions=tuple(replace(group.completions[i], index=place) for place, i in enumerate(order)),
                labels=group.labels[list(order)],
                verifier_scores={JUDGE: group.verifier_scores[JUDGE][list(order)]},
            )
            fused = chosen_with(drawn, artifact, term(exponent=2.0)).choice.winner
            differences.append(drawn.labels[fused] - drawn.labels[select_plain(drawn, artifact)])
    assert tested[0].gain == pytest.approx(100 * np.mean(differences))
    by_question = np.reshape(differences, (-1, 2)).mean(axis=1)
    error = 100 * by_question.std() / math.sqrt(len(groups))
    assert (tested[0].high - tested[0].low) / 3.92 == pytest.approx(error, rel=0.15)


def test_a_good_judge_passes_noise_is_set_aside_and_too_few_questions_tell_nothing() -> None:
    groups = judged_groups(200, seed=6)
    weights = {JUDGE: learnt_weight(1.0), NOISE: learnt_weight(0.5), "other p_true v1": learnt_weight(1.0)}
    good, noise = judge_verifiers(head(), weights, (), split=Split(), answer="auto", test_groups=groups)
    assert (good.verifier, good.exponent, good.questions) == (JUDGE, 1.0, 200)
    assert good.low > 0
    assert (noise.verifier, noise.exponent, noise.helps) == (NOISE, 0.0, False)
    assert noise.low <= 0
    assert str(good).startswith(f"The verifier {JUDGE} adds +")
    assert "on 200 held-out questions" in str(good)
    assert str(noise).startswith(f"The verifier {NOISE} was set aside: ")
    # A weight of 0 stays 0, whatever the gain at 1 is; below 30 questions nothing is said.
    (unlearnt,) = judge_verifiers(
        head(), {JUDGE: learnt_weight(0.0)}, (), split=Split(), answer="auto", test_groups=groups
    )
    assert (unlearnt.exponent, unlearnt.gain) == (0.0, good.gain)
    few = judge_verifiers(
        head(), {JUDGE: learnt_weight(1.0)}, (), split=Split(), answer="auto", test_groups=groups[:29]
    )
    assert few == ()


# The file


def test_a_head_comes_back_with_its_verifier_terms(tmp_path: Path) -> None:
    terms = (term(mean_log_odds=-0.5), term(NOISE, 0.0, gain=-0.25, low=-1.5, high=0.5, questions=30))
    save(head(*terms), tmp_path / "h")
    assert load(tmp_path / "h").verifier_terms == terms
    save(head(), tmp_path / "without")
    assert load(tmp_path / "without").verifier_terms == ()
    result, _ = trained()
    save(replace(result.artifact, verifier_terms=terms), tmp_path / "trained")
    assert load(tmp_path / "trained").verifier_terms == terms


def hostile(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Save a head and change the facts in its file."""
    save(head(term()), tmp_path / "h")
    with safetensors.safe_open(tmp_path / "h", "numpy") as file:
        facts = json.loads(file.metadata()["swift_client"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(facts)
    safetensors.numpy.save_file(tensors, tmp_path / "h", {"swift_client": json.dumps(facts)})
    return tmp_path / "h"


@pytest.mark.parametrize(
    "change",
    [
        {"exponent": 51.0},
        {"exponent": -1.0},
        {"exponent": "1"},
        {"exponent": None},
        {"mean_log_odds": "0"},
        {"gain": math.inf},
        {"gain": 9.0},
        {"low": 3.0},
        {"questions": -1},
        {"questions": 1.5},
        {"verifier": ""},
        {"verifier": 3},
    ],
)
def test_a_term_that_no_training_gives_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = hostile(tmp_path, lambda facts: facts["verifier_terms"][0].update(change))
    with pytest.raises(ArtifactError):
        load(path)


def test_two_terms_for_one_verifier_and_an_acceptance_without_its_term_are_refused(tmp_path: Path) -> None:
    path = hostile(tmp_path, lambda facts: facts["verifier_terms"].append(asdict(term())))
    with pytest.raises(ArtifactError, match="two weights for the same verifier"):
        load(path)
    calibrated = calibrate(head(term()), judged_groups(300), risk=0.4, n=4, split="all", verifier="auto").head
    assert calibrated.acceptances[0].verifier == JUDGE
    save(calibrated, tmp_path / "calibrated")
    assert load(tmp_path / "calibrated").acceptances == calibrated.acceptances
    save(replace(calibrated, verifier_terms=(term(exponent=0.0),)), tmp_path / "calibrated")
    with pytest.raises(ArtifactError, match="does not weigh"):
        load(tmp_path / "calibrated")
    acceptances = calibrated.acceptances
    with pytest.raises(ValueError, match="without the time"):
        replace(acceptances[0], when=None)


# The table


def test_the_table_has_the_verifier_alone_with_votes_with_the_head_and_more_samples_for_its_calls() -> None:
    groups = judged_groups(120, size=8, seed=7)
    table = evaluate(head(term()), groups, split="all", ns=(1, 2, 4), trained=False, subsets=20, resamples=50)
    names = [row.name for row in table.rows]
    assert names.index(f"verifier:{JUDGE}") < names.index("majority") < names.index(f"head_verifier:{JUDGE}")
    assert names[-1] == "oracle"
    assert table.row(f"head_verifier:{JUDGE}").accuracy[4].value > table.row("head_vote").accuracy[4].value + 0.05
    assert table.row(f"verifier:{JUDGE}").within_question_auroc.value > 0.8  # type: ignore[union-attr]
    assert table.row(f"verifier:{NOISE}").within_question_auroc.value == pytest.approx(0.5, abs=0.1)  # type: ignore[union-attr]
    # A single answer is judged by two calls, so three samples could be drawn instead.
    assert table.judge_calls[JUDGE][1] == 2.0
    assert table.judge_calls[NOISE][1] == 1.0
    wider = evaluate(head(), groups, split="all", ns=(3,), trained=False, subsets=20, resamples=50)
    assert table.row(f"more_samples:{JUDGE}").accuracy[1].value == wider.row("head_vote").accuracy[3].value
    calls = table.judge_calls[JUDGE][2]
    expected = np.mean([2 * len({c.text for c in g.completions}) for g in groups])
    assert 2 < calls < expected
    assert any(note.startswith(f"Verifier 1 is {JUDGE}.") for note in table.notes)
    json.dumps(table.to_dict())


def test_without_a_head_and_with_comparisons_the_table_says_what_is_left_out() -> None:
    groups = [
        replace(group, verifier_scores={**group.verifier_scores, "j pairwise v1": np.full(4, 0.5)})
        for group in judged_groups(40, size=4)
    ]
    groups[0] = replace(groups[0], verifier_scores={})
    table = evaluate(None, groups, split="all", ns=(1, 4), trained=False, subsets=20, resamples=50)
    assert table.row(f"verifier_vote:{JUDGE}").kind == "vote"
    assert not any("pairwise" in row.name for row in table.rows)
    assert any("j pairwise v1 compared all samples" in note for note in table.notes)
    assert "It judged 39 of 40 questions; on the others its rows are votes alone." in table.notes
    assert any("there are no more than 4" in note for note in table.notes)


def test_simulations_ignore_judgements() -> None:
    groups = judged_groups(20, size=4)
    plain = [replace(group, verifier_scores={}) for group in groups]
    with_judgements, without = (
        simulate(questions, n=4, split="all", orders=2, resamples=20) for questions in (groups, plain)
    )
    assert with_judgements.to_dict() == without.to_dict()


# Acceptance


def accepted_with(artifact: HeadArtifact, group: Group, when: str, *, n: int = 4) -> Selection:
    config = SelectionConfig(scorer=artifact)
    part = replace(
        group,
        completions=group.completions[:n],
        labels=group.labels[:n],
        verifier_scores={name: scores[:n] for name, scores in group.verifier_scores.items()},
    )
    scored = score_completions(part.completions, config)
    verified = chosen_with(part, artifact, artifact.verifier_terms[0], when)
    selection = apply_verification(build_selection(scored, verified.choice), verified)
    return with_acceptance(selection, config, n=n)


@pytest.mark.parametrize("when", ["doubt", "always"])
def test_a_calibration_with_a_verifier_accepts_what_it_counted(when: Any) -> None:
    groups = judged_groups(200, seed=8)
    calibrated = calibrate(head(term()), groups, risk=0.3, n=4, split="all", verifier=JUDGE, when=when)
    acceptance = calibrated.acceptance
    assert acceptance is not None
    assert (acceptance.verifier, acceptance.when) == (JUDGE, when)
    selections = [accepted_with(calibrated.head, group, when) for group in groups]  # type: ignore[arg-type]
    assert sum(selection.accepted is True for selection in selections) == acceptance.accepted
    wrong = sum(
        selection.accepted is True and group.labels[selection.winner] == 0
        for selection, group in zip(selections, groups, strict=True)
    )
    assert wrong == acceptance.errors
    # With the other time, without a verifier, and for a choice that a failed judgement changed, nothing is known.
    other = {"doubt": "always", "always": "doubt"}[when]
    unknown = accepted_with(calibrated.head, groups[0], other)  # type: ignore[arg-type]
    assert unknown.accepted is None
    assert f"not for n=4, stopping=None, select=auto, answer=auto, verifier={JUDGE}, when={other}" in unknown.notes[-1]
    config = SelectionConfig(scorer=calibrated.head)
    scored = score_completions(groups[0].completions[:4], config)
    assert with_acceptance(build_selection(scored, select(scored, "auto")), config, n=4).accepted is None
    judged = next(selection for selection in selections if selection.verification.judged > 1)  # type: ignore[union-attr]
    partly = replace(judged.verification, judged=1)  # type: ignore[type-var]
    partly_judged = with_acceptance(replace(judged, accepted=None, verification=partly), config, n=4)
    assert partly_judged.accepted is None
    assert "openai/judge judged 1 of the " in partly_judged.notes[-1]


def test_fused_log_odds_by_hand() -> None:
    group = judged_groups(1, seed=3)[0]
    artifact = head(term(exponent=2.0))
    config = SelectionConfig(scorer=artifact)
    scored = score_completions(group.completions, config)
    verified = chosen_with(group, artifact, term(exponent=2.0))
    selection = apply_verification(build_selection(scored, verified.choice), verified)
    odds: dict[Any, float] = {}
    for candidate, judgement in zip(selection.candidates, group.verifier_scores[JUDGE], strict=True):
        assert candidate.probability is not None
        odds[candidate.group, judgement] = odds.get((candidate.group, judgement), 0.0) + candidate.probability / (
            1 - candidate.probability
        )
    weights = {key: total * (key[1] / (1 - key[1])) ** 2 for key, total in odds.items()}
    best = max(weights, key=lambda key: weights[key])
    assert selection.best.group == best[0]
    expected = math.log(weights[best] / (1 + sum(weights.values()) - weights[best]))
    assert answer_log_odds(selection) == pytest.approx(expected, abs=1e-5)


def test_a_verifier_that_was_set_aside_changes_no_calibration_and_an_unknown_one_ends_it() -> None:
    groups = judged_groups(200, seed=8)
    calibrated = calibrate(head(term(exponent=0.0)), groups, risk=0.4, n=4, split="all").head
    config = SelectionConfig(scorer=calibrated)
    scored = score_completions(groups[0].completions[:4], config)
    selection = build_selection(scored, select(scored, "auto"))
    plain = with_acceptance(selection, config, n=4).accepted
    assert plain is not None
    verification = Verification(judge="openai/judge", mode="p_true", verifier=JUDGE)
    assert with_acceptance(replace(selection, verification=verification), config, n=4).accepted is plain
    foreign = replace(verification, verifier="openai/other p_true v1")
    unknown = with_acceptance(replace(selection, verification=foreign), config, n=4)
    assert unknown.accepted is None
    assert "verifier=openai/other p_true v1" in unknown.notes[-1]


def test_a_question_without_its_judgement_is_never_accepted() -> None:
    groups = judged_groups(200, seed=8)
    unjudged = [replace(group, verifier_scores={}) for group in groups[:50]] + groups[50:]
    calibrated = calibrate(head(term()), unjudged, risk=0.4, n=4, split="all", verifier=JUDGE, when="always")
    assert any(note.startswith("On 50 of 200 questions a judgement is missing") for note in calibrated.notes)
    assert calibrated.acceptance is not None
    assert calibrated.acceptance.accepted <= 150


@pytest.mark.parametrize(
    ("terms", "verifier", "message"),
    [
        ((), "auto", "weighs no verifier 'auto'"),
        ((term(exponent=0.0),), JUDGE, "weighs no verifier"),
        ((term(), term(NOISE)), "auto", "weighs several verifiers"),
    ],
)
def test_a_verifier_that_a_head_does_not_weigh_is_not_calibrated(
    terms: tuple[VerifierTerm, ...], verifier: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        calibrate(head(*terms), judged_groups(10), risk=0.4, n=4, split="all", verifier=verifier)
    with pytest.raises(ConfigurationError, match="when="):
        calibrate(head(*terms), judged_groups(10), risk=0.4, n=4, when="never")  # type: ignore[arg-type]


async def test_best_of_accepts_and_abstains_by_the_calibration_with_its_verifier(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(0.97, 0.03)))
    learnt = term("openai-compatible/m p_true v1")
    artifact = replace(made_head(3.0, verifier_terms=(learnt,)), provider="openai-compatible")
    groups = [
        replace(group, verifier_scores={learnt.verifier: group.verifier_scores[JUDGE]})
        for group in judged_groups(200, seed=8, shift=8.0)
    ]
    calibrated = calibrate(artifact, groups, risk=0.3, n=4, split="all", verifier="auto").head
    for verifier, accepted in ((Verifier(), True), (Verifier(when="always"), None)):
        async with AsyncSwiftReranker(
            "openai-compatible", "m", base_url=fault_server.url, scorer=calibrated, verifier=verifier
        ) as reranker:
            selection = await reranker.best_of("What is 17 * 24?", n=4)
            assert selection.accepted is accepted, selection.notes
            if accepted is None:
                with pytest.raises(ConfigurationError, match="when=always"):
                    await reranker.best_of("What is 17 * 24?", n=4, on_reject="abstain")
                continue
            await reranker.best_of("What is 17 * 24?", n=4, on_reject="abstain")
            fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(NAN, NAN)))
            with pytest.raises(RejectedError) as caught:
                await reranker.best_of("What is 17 * 24?", n=4, on_reject="abstain")
            assert caught.value.selection.accepted is None
            fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(0.97, 0.03)))


# From files


def test_a_file_with_judgements_is_trained_on_evaluated_reported_and_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = samples_file(tmp_path / "samples.db", questions=170)
    with SampleStore(samples, write=True) as store:
        for number, group in enumerate(graded_groups(170, n=4)):
            for verifier, scores in judge_by_label(group, number).items():
                store.add_verifier_scores(group.question_id, dict(enumerate(scores.tolist())), verifier=verifier)
    path = tmp_path / "head.safetensors"
    assert run(["train", str(samples), "--out", str(path), "--answer", "number", "--recipe", "swift"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"The verifier {JUDGE} adds +" in words
    assert f"The verifier {NOISE} was set aside: " in words
    terms = {learnt.verifier: learnt for learnt in load(path).verifier_terms}
    assert (terms[JUDGE].helps, terms[NOISE].helps) == (True, False)
    assert terms[JUDGE].questions >= MIN_QUESTIONS

    assert run(["evaluate", str(path), str(samples), "--no-trained", "--n", "2", "--n", "4"]) == 0
    output = capsys.readouterr()
    for label in (
        "Verifier 1 alone",
        "Verifier 1 and votes",
        "Verifier 1 and head, w = ",
        "More samples for 1's calls",
    ):
        assert label in output.out
    assert f"Verifier 1 is {JUDGE}. Calls per question: " in " ".join(output.err.split())
    page = tmp_path / "page.html"
    assert run(["report", str(path), str(samples), "--out", str(page)]) == 0
    assert "Verifier 1 and head" in page.read_text()
    capsys.readouterr()

    # So few questions do not show that the head itself is better, which calibration asks for.
    learnt_head = load(path)
    save(replace(learnt_head, training={**learnt_head.training, "verdict": BETTER_VERDICT}), path)
    arguments = ["calibrate", str(path), str(samples), "--risk", "0.5", "--n", "4", "--verifier", "auto", "--json"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verifier"], document["when"]) == (JUDGE, "doubt")
    assert [row.verifier for row in load(path).acceptances] == [JUDGE]
