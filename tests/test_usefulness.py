"""A head that does not beat majority is not used, and a note says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from swift_client.models import (
    NO_BETTER_VERDICT,
    GatedLinearHead,
    HeadArtifact,
    PlattCalibration,
    ResponseWeights,
    Standardizer,
)
from swift_client.reranker import rank
from swift_client.scoring.scorers import score
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.metrics import (
    bootstrap_auroc,
    brier,
    expected_calibration_error,
    measure_usefulness,
    pooled_auroc,
    within_question_auroc,
)
from swift_client.types import Completion


def completion(index: int, text: str, logprob: float) -> Completion:
    return Completion(
        text=text,
        index=index,
        tokens=("a", "b"),
        logprobs=np.full(2, logprob, np.float32),
        top_logprobs=np.full((2, 1), logprob, np.float32),
        censored=np.zeros(2, np.bool_),
    )


POOL = [completion(0, "4", -0.5), completion(1, "5", -0.1), completion(2, "4", -0.9)]


def make_head(**facts: object) -> HeadArtifact:
    """Build a head that weights high logprobs so strongly that one certain answer outvotes two uncertain ones."""
    parts = {
        "features": ("logprob",),
        "width": 1,
        "standardizer": Standardizer(mean=[0.0], scale=[1.0]),
        "head": GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[50.0], reward_bias=15.0),
        "calibration": PlattCalibration(a=1.0, b=0.0),
        "provider": "pocket",
        "model": "m",
        "k_min": 0,
        "k_max": 1,
    }
    return HeadArtifact(**(parts | facts))  # type: ignore[arg-type]


def test_a_head_that_was_no_better_than_chance_is_not_used_and_says_so() -> None:
    helping = select_best(POOL, SelectionConfig(scorer=make_head(), answer="number"))
    assert (helping.answer, helping.scorer) == ("5", "head pocket/m")
    doubted = select_best(
        POOL, SelectionConfig(scorer=make_head(training={"verdict": NO_BETTER_VERDICT}), answer="number")
    )
    assert doubted.scorer == "mean_logprob"
    assert [candidate.weight for candidate in doubted.candidates] == [
        candidate.weight for candidate in select_best(POOL, SelectionConfig(answer="number")).candidates
    ]
    assert doubted.probability is None
    assert any("no better than chance" in note for note in doubted.notes)


def test_agreement_reaches_a_head_through_the_answers_that_were_read() -> None:
    agrees = make_head(
        head=GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[0.0], reward_bias=0.0),
        response_terms=("agreement",),
        response=ResponseWeights(mean=[0.5], scale=[1.0], weight=[2.0]),
    )
    selection = select_best(POOL, SelectionConfig(scorer=agrees, answer="number"))
    # The two that say 4 have one of two others with them, (1 + 1/2) / (2 + 1); the one that says 5 has none.
    assert [candidate.score for candidate in selection.candidates] == pytest.approx([0.0, 2 * (0.5 / 3 - 0.5), 0.0])
    assert not any("no answers were compared" in note for note in selection.notes)
    scores = score(POOL, agrees)
    assert scores.values.tolist() == [0.0, 0.0, 0.0]
    assert any("no answers were compared" in note for note in scores.notes)


def test_a_head_that_reads_the_alternatives_identities_gives_no_score_without_them() -> None:
    reads = make_head(
        features=("alternatives_hash",),
        standardizer=Standardizer(mean=np.zeros(128), scale=np.ones(128)),
        head=GatedLinearHead(gate_weight=np.zeros(128), gate_bias=0.0, reward_weight=np.ones(128), reward_bias=0.0),
    )
    named = replace(POOL[1], top_ids=np.zeros((2, 1), np.uint32))
    scored = score([POOL[0], named], reads)
    assert scored.values.tolist() == pytest.approx([np.nan, np.exp(-0.1)], nan_ok=True)
    assert any("reads the identities of the alternatives" in note for note in scored.notes)


def test_a_verdict_does_not_stop_the_head_from_scoring_when_it_is_asked_by_itself() -> None:
    doubted = make_head(training={"verdict": NO_BETTER_VERDICT})
    assert score(POOL, doubted).values.tolist() == score(POOL, make_head()).values.tolist()
    assert rank([replace(POOL[0])], answer="number").answer == "4"


rows = st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=1, max_size=24)


def arrays(table: list[tuple[int, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, labels, question = zip(*table, strict=True)
    return np.array(scores, np.float64), np.array(labels, np.float64), np.array(question)


@given(table=rows)
def test_within_question_auroc_is_the_share_of_pairs_won_counted_one_by_one(table: list[tuple[int, bool, int]]) -> None:
    duels = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, right, question in table
        for b, other, asked_too in table
        if right and not other and question == asked_too
    ]
    expected = sum(duels) / len(duels) if duels else np.nan
    assert within_question_auroc(*arrays(table)) == pytest.approx(expected, nan_ok=True)


@given(table=rows)
def test_auroc_of_one_question_is_sklearns(table: list[tuple[int, bool, int]]) -> None:
    scores, labels, question = arrays(table)
    expected = roc_auc_score(labels, scores) if len(set(labels)) == 2 else np.nan
    assert within_question_auroc(scores, labels, 0 * question) == pytest.approx(expected, nan_ok=True)
    assert pooled_auroc(scores, labels) == pytest.approx(expected, nan_ok=True)


def draw(strength: float, questions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random(questions * 8) < 0.6).astype(np.float64)
    return labels * strength + rng.normal(size=len(labels)), labels, np.repeat(np.arange(questions), 8)


def test_the_bound_of_a_resampled_auroc_has_the_width_that_many_draws_of_questions_have() -> None:
    observed = bootstrap_auroc(*draw(1.0, 100))
    assert len(observed) == 1000
    assert observed.std() == pytest.approx(0.021, abs=0.006)  # 1500 pairs, 8 completions a question


def test_scores_that_are_noise_are_no_better_than_majority_and_scores_that_tell_are() -> None:
    noise = measure_usefulness(*draw(0.0, 60))
    assert not noise.beats_chance
    assert noise.verdict == NO_BETTER_VERDICT
    telling = measure_usefulness(*draw(1.0, 60))
    assert telling.beats_chance
    assert 0.5 < telling.lower_bound < telling.auroc < 1
    assert telling.to_dict()["mixed_questions"] == telling.mixed_questions == 60 - _unmixed(draw(1.0, 60))


def _unmixed(table: tuple[np.ndarray, np.ndarray, np.ndarray]) -> int:
    return sum(len(set(question)) == 1 for question in table[1].reshape(-1, 8).tolist())


def test_without_a_mixed_question_nothing_is_shown_and_the_verdict_is_majority() -> None:
    empty = measure_usefulness(np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0, 1]))
    assert (empty.verdict, empty.to_dict()) == (NO_BETTER_VERDICT, {"auroc": None, "low": None, "mixed_questions": 0})


def test_calibration_errors_are_what_they_are_by_hand() -> None:
    probabilities, labels = np.array([0.1, 0.3, 0.7, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert brier(probabilities, labels) == pytest.approx((0.01 + 0.49 + 0.09 + 0.01) / 4)
    # Two bins of two: |0.4 - 1| and |1.6 - 2|, over four completions.
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(1.0 / 4)
