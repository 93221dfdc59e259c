"""``benchmarks/feedback.py`` simulates the users that it says, and its bars count what was proposed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from benchmarks.feedback import SCENARIOS, Run, bars, choose, give_feedback, write
from swift_client.store import StoredQuestion
from tests.graded import graded_groups
from tests.test_cascade import head


def words(name: str, count: int = 20_000) -> list[tuple[float, bool, bool | None]]:
    """Return place, truth and word of simulated choices, of which place · 100 % are right."""
    rng = np.random.default_rng(3)
    places = rng.random(count)
    right = rng.random(count) < places
    return [
        (place, bool(truth), SCENARIOS[name](rng, place, place, bool(truth)))
        for place, truth in zip(places, right, strict=True)
    ]


def test_every_scenario_is_biased_as_its_name_says() -> None:
    def share(name: str, *, truth: bool) -> float:
        spoken = [word is not None for _, right, word in words(name) if right == truth]
        return float(np.mean(spoken))

    assert share("any choice", truth=True) == pytest.approx(share("any choice", truth=False), abs=0.02)
    assert share("mostly complaints", truth=False) > 4 * share("mostly complaints", truth=True)
    assert share("mostly praise", truth=True) > 2 * share("mostly praise", truth=False)
    assert all(place > 0.5 for place, _, word in words("confident choices only") if word is not None)
    mistaken = [word != right for _, right, word in words("a tenth is mistaken") if word is not None]
    assert np.mean(mistaken) == pytest.approx(0.1, abs=0.01)
    at_random = [word for _, _, word in words("words at random") if word is not None]
    assert np.mean(at_random) == pytest.approx(0.5, abs=0.02)


def test_as_many_choices_as_asked_for_get_the_users_word(tmp_path: Path) -> None:
    groups = graded_groups(30)
    messages = ({"role": "user", "content": "2 + 2?"},)
    questions = {group.question_id: StoredQuestion(id=group.question_id, messages=messages) for group in groups}
    selections = choose(head(), groups)
    with write(tmp_path / "s.db", groups, questions, with_answers=False) as store:
        count = give_feedback(
            store, groups, selections, lambda rng, probability, place, right: right, 12, np.random.default_rng(0)
        )
        feedback = list(store.feedback())
        stored = store.selections()

    assert count == len(feedback) == 12
    assert len(stored) == 30
    labels = {
        selection.id: group.labels[selection.winner] == 1 for group, selection in zip(groups, selections, strict=True)
    }
    assert all(row.correct == labels[row.selection.id] for row in feedback)


def test_the_bars_count_proposed_heads_only() -> None:
    row = Run(
        scenario="any choice", labels=60, seed=0, feedbacks=500, proposed=False, measured=(0, -1, 1),
        true=(-3.0, -4.0, -2.0), seconds=1.0, reason="",
    )  # fmt: skip
    good = replace(row, proposed=True, true=(2.0, 1.0, 3.0))
    unclear = replace(row, proposed=True, true=(-0.5, -1.5, 0.5))

    assert bars([row])["worse_proposed"]["value"] == 0
    assert bars([row])["worst_proposed"]["value"] == 0
    values = bars([row, good, unclear])
    assert (values["worse_proposed"]["value"], values["worst_proposed"]["value"]) == (0, -0.5)
    assert values["worst_proposed"]["interval"] == [-1.5, 0.5]
    assert bars([replace(row, proposed=True)])["worse_proposed"]["value"] == 1
