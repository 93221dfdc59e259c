"""The streaming score equals the batch score at every token, at constant cost per token."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.errors import ConfigurationError
from swift_client.features import FEATURES, TokenTable, column_names, token_columns
from swift_client.features.segments import segment_offsets
from swift_client.models import GatedLinearHead, HeadArtifact, Standardizer
from swift_client.models.resolve_head import load_head
from swift_client.scoring.streaming import StreamingScore
from swift_client.types import Completion
from tests.generated import completion

PACKAGED = Path(__file__).parents[1] / "swift_client" / "models" / "packaged" / "pocket.safetensors"


def random_head(seed: int, names: tuple[str, ...], width: int = 5) -> HeadArtifact:
    draw = np.random.default_rng(seed)
    d = len(column_names(FEATURES, names, width=width))
    return HeadArtifact(
        features=names,
        width=width,
        standardizer=Standardizer(mean=draw.normal(size=d), scale=draw.uniform(0.5, 2, d)),
        head=GatedLinearHead(
            gate_weight=draw.normal(size=d) / math.sqrt(d),
            gate_bias=0.1,
            reward_weight=draw.normal(size=d),
            reward_bias=-0.3,
        ),
        provider="p",
        model="m",
        k_min=0,
        k_max=width,
    )


def batch(head: HeadArtifact, full_completion: Completion, k: int) -> float:
    """Return the score of the whole text without response terms, as ``best_of`` computes it."""
    table = TokenTable([full_completion], width=head.width, k=k)
    features = token_columns(table, head.features)
    return float(head.head.logits(head.standardizer(features.values), features.offsets)[0])


def part(full_completion: Completion, start: int, stop: int) -> Completion:
    return replace(
        full_completion,
        tokens=full_completion.tokens[start:stop],
        logprobs=full_completion.logprobs[start:stop],
        top_logprobs=full_completion.top_logprobs[start:stop],
        censored=full_completion.censored[start:stop],
        top_ids=None if full_completion.top_ids is None else full_completion.top_ids[start:stop],
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 16),
    names=st.lists(st.sampled_from(sorted(FEATURES)), min_size=1, max_size=8, unique=True),
    tokens=st.integers(1, 200),
    data=st.data(),
)
def test_after_any_pieces_it_is_the_batch_score_of_what_has_come(
    seed: int, names: list[str], tokens: int, data: st.DataObject
) -> None:
    head, full_completion = random_head(seed, tuple(names)), completion(seed, tokens=tokens, k=5)
    running, position = StreamingScore(head), 0
    while position < tokens:
        step = data.draw(st.integers(1, 90))
        score = running.add(part(full_completion, position, position + step))
        position = min(position + step, tokens)
        assert running.token_count == position
        assert score == pytest.approx(batch(head, part(full_completion, 0, position), 5), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("step", [1, 16, 1000])
def test_the_packaged_head_gives_at_the_last_token_what_it_gives_the_whole(step: int) -> None:
    head = load_head(PACKAGED)
    for seed in range(3):
        full_completion = completion(seed, tokens=300)
        running = StreamingScore(head)
        for start in range(0, 300, step):
            running.add(part(full_completion, start, start + step))
        expected = batch(head, full_completion, head.k_max)
        assert running.score == pytest.approx(expected, rel=1e-6)
        # and with its response terms it is the head's own score
        values = token_columns(TokenTable([full_completion], width=head.width, k=head.k_max), head.features).values
        zero = np.zeros((1, len(head.response.weight)))
        assert head.scores(values, segment_offsets([300]), zero)[0] - head.response(zero)[0] == pytest.approx(expected)


def test_pieces_may_list_different_numbers_of_alternatives() -> None:
    head, full_completion = random_head(0, ("logprob", "entropy", "logprob_min_64")), completion(1, tokens=40, k=5)
    ragged = replace(
        full_completion, top_logprobs=np.where(np.arange(40)[:, None] < 20, -np.inf, full_completion.top_logprobs)
    )
    running = StreamingScore(head)
    short = part(ragged, 0, 20)
    running.add(replace(short, top_logprobs=np.zeros((20, 0), np.float32), top_ids=None))
    running.add(part(ragged, 20, 40))
    assert running.score == pytest.approx(batch(head, ragged, 5), rel=1e-6)


def test_before_the_first_token_there_is_no_score() -> None:
    running = StreamingScore(random_head(0, ("logprob",)))
    assert math.isnan(running.score)
    assert math.isnan(running.add(Completion(text="")))


def test_a_head_of_another_kind_is_one_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="needs a head on logprobs"):
        StreamingScore("pocket")  # type: ignore[arg-type]


def test_a_token_late_in_a_long_answer_costs_what_an_early_one_costs() -> None:
    head, full_completion = load_head(PACKAGED), completion(0, tokens=4000)
    pieces = [part(full_completion, index, index + 1) for index in range(4000)]
    running, took = StreamingScore(head), []
    for piece in pieces:
        start = time.process_time()
        running.add(piece)
        took.append(time.process_time() - start)
    assert np.median(took[-500:]) < 2 * np.median(took[100:600])
