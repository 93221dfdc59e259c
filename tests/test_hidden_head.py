"""Tests of heads on hidden states: the paper's equations, the file, the official checkpoint, and missing states."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from swift_client import Completion, rank
from swift_client.errors import ArtifactError, ArtifactMismatchError
from swift_client.features.segments import segment_offsets
from swift_client.models import GatedLinearHead, HiddenHead, IsotonicCalibration, load, save, scan
from swift_client.models.resolve_head import load_head
from swift_client.scoring.scorers import score
from swift_client.selection.select import SelectionConfig, select_best

DRAWS = np.random.default_rng(0)


def head_of(layers: tuple[int, ...] = (0, 2), width: int = 3, **facts: Any) -> HiddenHead:
    weights = DRAWS.normal(size=(2, len(layers) * width))
    head = GatedLinearHead(gate_weight=weights[0], gate_bias=0.3, reward_weight=weights[1], reward_bias=-0.1)
    return HiddenHead(head=head, layers=layers, width=width, model="m", **facts)


def completion(index: int, **states: Any) -> Completion:
    return Completion(text=f"{index}", index=index, **states)


def test_projections_are_pooled_by_the_papers_equations() -> None:
    # g = (.75, .5), r = (1, -1): R = (.75 - .5) / 1.25
    logits = np.array([[math.log(3), 1.0], [0.0, -1.0]])
    scores = head_of().scores(np.concatenate([logits, logits[:1]]), segment_offsets([2, 0, 1]))
    np.testing.assert_allclose(scores, [0.2, np.nan, 1.0])
    shut = np.array([[-800.0, 5.0]])
    assert head_of().scores(shut, segment_offsets([1]))[0] == 0.0


def test_captured_states_give_the_same_score_as_their_projections() -> None:
    head = head_of()
    states = DRAWS.normal(size=(7, 6)).astype(np.float16)
    captured, projected = completion(0, hidden_states=states), completion(1, projections=head.project(states))
    values = score([captured, projected], head).values
    assert values[0] == values[1] == pytest.approx(head.head.score(states.astype(np.float64)), rel=1e-5)


def test_a_selection_says_hidden_and_what_has_no_states_has_no_score() -> None:
    head = head_of()
    selection = select_best(
        [completion(0, projections=np.array([[0, 1]], np.float32)), completion(1), completion(2)],
        SelectionConfig(scorer=head, answer=None),
    )
    assert (selection.signal, selection.winner, selection.candidates[1].score) == ("hidden", 0, None)
    assert any(
        "2 of 3 completions have no score, because they have no hidden states" in note for note in selection.notes
    )
    none = select_best([completion(0), completion(1)], SelectionConfig(scorer=head))
    assert none.scorer == "mean_logprob"
    assert any("needs hidden states and there are none, so" in note for note in none.notes)


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(ArtifactMismatchError, match="reads 6 numbers per token"):
        head_of().project(np.zeros((2, 5), np.float16))


def test_a_file_holds_the_whole_head_and_can_be_found(tmp_path: Path) -> None:
    head = head_of(
        moment="produced", training={"questions": 3}, calibration=IsotonicCalibration(x=[0, 1], y=[0.2, 0.9])
    )
    save(head, tmp_path / "h.safetensors")
    loaded_head = load(tmp_path / "h.safetensors")
    assert isinstance(loaded_head, HiddenHead)
    assert (loaded_head.layers, loaded_head.width, loaded_head.moment, loaded_head.model) == (
        (0, 2),
        3,
        "produced",
        "m",
    )
    assert loaded_head.training == {"questions": 3}
    np.testing.assert_array_equal(loaded_head.matrix()[0], head.matrix()[0])
    np.testing.assert_array_equal(loaded_head.calibration.y, [0.2, 0.9])
    assert [summary.name for summary in scan([tmp_path]).for_model("huggingface", "m")] == ["huggingface/m"]
    with pytest.raises(ArtifactMismatchError, match="head on hidden states"):
        load_head(tmp_path / "h.safetensors")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"layers": [0, 2]', '"layers": [0, 9, 2]', "head has 6 weights"),
        ('"layers": [0, 2]', '"layers": [0, 0]', "are not hidden states"),
        ('"layers": [0, 2]', '"layers": [0, "a"]', r"Expected `int`, got `str` - at `\$\.layers\[1\]`"),
        ('"moment": "read"', '"moment": "soon"', "moment is 'soon'"),
        ('"width": 3', '"width": -3', "are not hidden states"),
        ('"kind": "hidden"', '"kind": "other"', "missing required field `k_min`"),
    ],
)
def test_a_file_whose_facts_do_not_fit_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "h.safetensors"
    save(head_of(), path)
    with safetensors.safe_open(path, "numpy") as file:
        facts = file.metadata()["swift_client"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    assert old in facts
    safetensors.numpy.save_file(tensors, path, {"swift_client": facts.replace(old, new)})
    with pytest.raises(ArtifactError, match=message):
        load(path)


def test_the_official_checkpoint_scores_as_its_own_forward_pass() -> None:
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    torch.manual_seed(0)
    states = torch.randn(5, 4 * 3)
    fused, plain = torch.nn.Linear(12, 2), torch.nn.Linear(12, 1)
    with torch.no_grad():
        gates, rewards = torch.sigmoid(fused(states)[:, 0]), fused(states)[:, 1]
        gated, mean = (gates * rewards).sum() / gates.sum().clamp(min=1e-8), plain(states).mean()
    for name, layer, expected in (("fused_layer", fused, gated), ("reward_layer", plain, mean)):
        state = {f"{name}.{part}": value.numpy() for part, value in layer.state_dict().items()}
        head = HiddenHead.from_state_dict(state, model="m", width=3)
        assert head.layers == (0, 1, 2, 3)
        assert head.head.score(states.numpy()) == pytest.approx(float(expected), rel=1e-5)
    back = HiddenHead.from_state_dict(
        {f"fused_layer.{part}": value.numpy() for part, value in fused.state_dict().items()}, model="m", width=3
    ).to_state_dict()
    fused.load_state_dict(
        {part.removeprefix("fused_layer."): torch.from_numpy(weights) for part, weights in back.items()}
    )
    with pytest.raises(ValueError, match="not one linear layer"):
        HiddenHead.from_state_dict({"a.weight": np.zeros((3, 12))}, model="m", width=3)
    with pytest.raises(ValueError, match="weights for layers"):
        HiddenHead.from_state_dict({"a.weight": np.zeros((2, 13))}, model="m", width=3)


def test_completions_with_projections_can_be_ranked_later() -> None:
    ranked = rank(
        [
            completion(0, projections=np.array([[0, 1]], np.float32)),
            completion(1, projections=np.array([[0, 2]], np.float32)),
        ],
        scorer=head_of(),
        answer=None,
    )
    assert (ranked.winner, ranked.score) == (1, 2.0)
