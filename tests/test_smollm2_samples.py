"""Tests of the stored samples of SmolLM2, and of the forward pass that drew them, against transformers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.dataset.stored import StoredGroups
from swift_client.store import Meta, SampleStore, StateFile, StateLayout, StoredQuestion
from swift_client.types import Completion, Usage
from tools.smollm2 import stored
from tools.smollm2.questions import generate
from tools.smollm2.reduced import centred_means, fit_components, restore, write

SPLITS = {"capital-1": "train", "capital-2": "test", "job-1": "foreign"}


def completion(text: str, seed: int) -> Completion:
    top = -np.sort(np.random.default_rng(seed).exponential(size=(2, 20)), axis=1).astype(np.float32)
    return Completion(
        text=text,
        finish_reason="stop" if seed % 2 else "length",
        tokens=(text[:1], text[1:]),
        logprobs=top[:, seed % 3].copy(),
        top_logprobs=top,
        censored=np.zeros(2, np.bool_),
    )


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="smollm2", model="m", top_logprobs=20, sampling={"temperature": 0.8}))
        for number, question_id in enumerate([*SPLITS, "unfinished"]):
            messages = ({"role": "user", "content": f"question {number}?"},)
            store.add_questions([StoredQuestion(id=question_id, messages=messages, answer="Oslo", family="f")])
            drawn = [completion(f"Öslo{i}", 10 * number + i) for i in range(1 if question_id == "unfinished" else 2)]
            store.add_samples(question_id, drawn, usage=Usage(completion_tokens=4))
    asked = [
        {"id": question_id, "split": SPLITS.get(question_id, "train"), "answer": ["Oslo", "Christiania"]}
        | {"messages": [{"role": "user", "content": f"question {number}?"}]}
        for number, question_id in enumerate([*SPLITS, "unfinished"])
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    return path


def test_exported_samples_come_back_as_the_samples_file_has_them(samples: Path, tmp_path: Path) -> None:
    small, again = tmp_path / "small.xz", tmp_path / "again.db"
    assert stored.export(samples, tmp_path / "questions.jsonl", small, {"date": "2026-11-30"}, n=2) == 3
    assert stored.read_about(small) | {"date": "2026-11-30", "model": "m", "n": 2} == stored.read_about(small)
    assert {sampled.question.id: sampled.split for sampled in stored.read(small)} == SPLITS
    assert {sampled.question.answer for sampled in stored.read(small)} == {("Oslo", "Christiania")}
    assert stored.restore(small, again, {"train", "test"}) == 2
    with SampleStore(samples) as before, SampleStore(again) as after:
        assert after.meta == before.meta
        assert [question.id for question in after.questions()] == ["capital-1", "capital-2"]
        for question in after.questions():
            for old, new in zip(before.samples(question.id), after.samples(question.id), strict=True):
                assert (new.completion.text, new.completion.tokens) == (old.completion.text, old.completion.tokens)
                assert new.completion.finish_reason == old.completion.finish_reason
                np.testing.assert_array_equal(new.completion.logprobs, old.completion.logprobs)
                np.testing.assert_array_equal(new.completion.top_logprobs, old.completion.top_logprobs)


@pytest.mark.parametrize("prefix", [[3, 1, 4, 1, 5], []], ids=["shared prefix", "no prefix"])
def test_branches_of_one_prefix_give_the_logits_and_states_of_transformers(prefix: list[int]) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'local' is not installed")
    from tools.smollm2.forward import Branches

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    rows, further = [[9, 2, 6], [5, 3]], [[8, 7], [9, 1]]
    with torch.inference_mode():
        branches = Branches(model, prefix, rows=2, room=6)
        real = torch.tensor([[True, True, True], [False, True, True]])
        got = [branches.append(torch.tensor([[9, 2, 6], [0, 5, 3]]), real)]
        branches.repeat(2)  # rows 0, 0, 1, 1
        branches.select(torch.tensor([1, 2]))
        states: list[list[torch.Tensor]] = [[], []]
        for step in range(2):
            ids = torch.tensor([[further[0][step]], [further[1][step]]])
            got.append(branches.append(ids, torch.ones(2, 1, dtype=torch.bool), states[step]))
        for row in range(2):
            whole = torch.tensor([[*prefix, *rows[row], *further[row]]])
            expected = model(whole, output_hidden_states=True)
            logits = expected.logits[0, len(prefix) + len(rows[row]) - 1 :]
            torch.testing.assert_close(torch.stack([step[row] for step in got]), logits, atol=1e-5, rtol=1e-4)
            # The embedding, each layer but the last, and the final norm, after each of the last two tokens.
            assert [len(step) for step in states] == [len(expected.hidden_states)] * 2
            for layer, layer_states in enumerate(expected.hidden_states):
                read = torch.stack([step[layer][row, 0] for step in states])
                torch.testing.assert_close(read, layer_states[0, -2:], atol=1e-5, rtol=1e-4)


def test_completions_that_are_read_again_have_the_states_of_transformers() -> None:
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'local' is not installed")
    from tools.smollm2.draw import Sampler
    from tools.smollm2.states import StateReader

    class TinySampler(Sampler):
        """A random Llama whose tokens are letters."""

        def __init__(self) -> None:
            torch.manual_seed(0)
            config = transformers.LlamaConfig(
                vocab_size=26, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
            )
            self.model = transformers.LlamaForCausalLM(config).eval()

        def encode(self, messages: Iterable[Mapping[str, Any]]) -> list[int]:
            return [ord(letter) - 97 for message in messages for letter in message["content"]]

        def token_text(self, token: int) -> str:
            return chr(97 + token)

    sampler = TinySampler()
    texts = {"abcde": ["xy", "z", "xy", "xyz"], "abzz": ["q", "ab"]}
    batch = [
        stored.Sampled(
            question=StoredQuestion(id=prompt, messages=({"role": "user", "content": prompt},)),
            split="train",
            completions=tuple(
                Completion(
                    text=text,
                    tokens=tuple(text),
                    logprobs=np.zeros(len(text), np.float32),
                    top_logprobs=np.zeros((len(text), 0), np.float32),
                    censored=np.zeros(len(text), np.bool_),
                )
                for text in drawn
            ),
        )
        for prompt, drawn in texts.items()
    ]
    reader = StateReader(sampler, vocabulary=True)
    assert not reader.can_read(completion("É", 0))

    for (prompt, drawn), states in zip(texts.items(), reader.read(batch), strict=True):
        assert set(states) == {tuple(text) for text in drawn}
        for tokens, columns in states.items():
            with torch.inference_mode():
                ids = torch.tensor([[ord(letter) - 97 for letter in (*prompt, *tokens)]])
                expected = sampler.model(ids, output_hidden_states=True)
            layers = torch.cat([layer[0, len(prompt) :] for layer in expected.hidden_states], 1)
            produced = expected.logits[0, len(prompt) - 1 : -1].log_softmax(1)
            np.testing.assert_allclose(columns, torch.cat([layers, produced], 1).numpy(), rtol=2e-3, atol=2e-3)


def test_components_are_the_directions_in_which_completions_of_a_question_differ_most() -> None:
    rng = np.random.default_rng(0)
    states = [[rng.normal(size=(length, 12)).astype(np.float16) for length in (1, 3, 2)] for _ in range(40)]
    centred = centred_means(iter(states))
    means = np.array([np.float64(rows).mean(axis=0) for question in states for rows in question]).reshape(40, 3, 12)
    np.testing.assert_allclose(centred, (means - means.mean(axis=1, keepdims=True)).reshape(-1, 12), atol=1e-5)

    scaled = centred / centred.std(axis=0)
    _, _, exact = np.linalg.svd(scaled, full_matrices=False)
    components = fit_components(centred.copy(), 5)
    np.testing.assert_allclose(abs(exact[:5] @ components.directions), np.eye(5), atol=1e-3)

    expected = states[0][1].astype(np.float64) / centred.std(axis=0) / np.sqrt(12) @ components.directions
    np.testing.assert_allclose(components.project(states[0][1]), expected, atol=2e-3)


def test_reduced_states_come_back_as_a_samples_file_that_train_reads(tmp_path: Path) -> None:
    kept = [sampled for sampled, _ in zip(stored.read(splits={"train"}), range(6), strict=False)]
    rng = np.random.default_rng(0)
    layout = StateLayout(layers=(0, 2), width=8)
    with (
        SampleStore(tmp_path / "full.db", write=True) as store,
        StateFile(tmp_path / "full.db", write_layout=layout) as file,
    ):
        store.begin(Meta(provider="smollm2", model="m", top_logprobs=20))
        for sampled in kept:
            numbers = [0, 2, 5]
            completions = [
                replace(completion, hidden_states=rng.normal(size=(len(completion.tokens), 16)).astype(np.float16))
                for completion in (sampled.completions[number] for number in numbers)
            ]
            store.add_questions([sampled.question])
            stateless = file.append(sampled.question.id, numbers, completions)
            store.add_samples(sampled.question.id, stateless, usage=Usage(), numbers=numbers)
    assert write(tmp_path / "full.db", tmp_path / "full.db", tmp_path / "small.xz", count=4, about={}) == 12
    assert restore(tmp_path / "small.xz", tmp_path / "again.db", {"train"}) == 6

    groups = StoredGroups([tmp_path / "again.db"], grade="text", states="layers")
    full = StoredGroups([tmp_path / "full.db"], grade="text", states="layers")
    components = fit_components(
        centred_means([np.asarray(c.hidden_states) for c in group.completions] for group in full), 4
    )
    for before, after in zip(full, groups, strict=True):
        for old, new in zip(before.completions, after.completions, strict=True):
            assert (old.text, old.index) == (new.text, new.index)
            np.testing.assert_array_equal(new.hidden_states, components.project(np.asarray(old.hidden_states)))


def test_the_stored_questions_are_those_of_the_generator_with_their_splits() -> None:
    asked = {question.id: question for question in generate(seed=0)}
    counts: Counter[str] = Counter()
    for sampled in stored.read():
        question = asked[sampled.question.id]
        assert [dict(message) for message in sampled.question.messages] == question.messages
        assert (sampled.split, len(sampled.completions)) == (question.split, 16)
        assert {completion.top_logprobs.shape[1] for completion in sampled.completions} == {20}
        assert all(completion.top_ids is None for completion in sampled.completions)
        counts[sampled.split] += 1
    assert counts["test"] >= 800
    assert counts["foreign"] >= 400
