"""Tests of fusing a second score: real requests, failing and slow scorers, a reward model of transformers, a server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import Completion, SwiftReranker
from swift_client.adapters.local.reward_model import RewardModel, RewardServer, parse_rewards
from swift_client.errors import ConfigurationError, ResponseDecodeError
from swift_client.scoring.fusion import fuse
from swift_client.types import Message
from tests.servers import FaultServer, Received, Response, chat, json_response

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]


def ask(server: FaultServer, **options: Any) -> Any:
    with SwiftReranker("openai-compatible", "m", base_url=server.url, **{"max_retries": 0, **options}) as rr:
        return rr.best_of("What is 2 + 3?", n=4)


def by_length(messages: list[Message], completions: list[Completion]) -> list[float]:
    assert messages == QUESTION
    return [len(completion.text) for completion in completions]


def test_scores_are_fused_within_the_question_and_the_selection_says_with_what(fault_server: FaultServer) -> None:
    fault_server.answers = ("one", "two plus three", "x", "yes sir")
    plain = ask(fault_server, select="best")
    fused = ask(fault_server, select="best", external=by_length)

    scores = np.array([candidate.score for candidate in plain.candidates], np.float64)
    external_scores = np.array([len(candidate.text) for candidate in plain.candidates], np.float64)
    expected = fuse(scores, external_scores, "mean")
    assert [candidate.score for candidate in fused.candidates] == pytest.approx(expected.tolist(), abs=1e-6)
    assert fused.winner == int(expected.argmax())
    assert fused.scorer == "mean_logprob + by_length (mean)"
    assert not fused.notes[:-1] or all("external" not in note for note in fused.notes)


def test_fused_scores_weigh_votes(fault_server: FaultServer) -> None:
    fault_server.answers = ("The answer is 4", "The answer is 5", "The answer is 4", "The answer is 5")
    prefers = {"4": 0.0, "5": 1.0}

    async def tutor(messages: list[Message], completions: list[Completion]) -> list[float]:
        return [prefers[completion.text[-1]] for completion in completions]

    selection = ask(fault_server, external=tutor, fuse="weighted:share=0.1")
    assert selection.answer == "5"
    assert selection.method == "vote"
    weights = [candidate.weight for candidate in selection.candidates]
    assert weights[1] + weights[3] > weights[0] + weights[2]


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        (lambda messages, completions: [1.0], "failed"),
        (lambda messages, completions: 1 / 0, "failed (ZeroDivisionError"),
        (lambda messages, completions: [None] * len(completions), "returned no scores"),
        (lambda messages, completions: time.sleep(1.5) or [1.0] * 4, "took longer than 0.5 s"),
    ],
)
def test_a_failing_or_slow_scorer_leaves_the_choice_to_ours_and_says_so(
    fault_server: FaultServer, scorer: Any, words: str
) -> None:
    fault_server.answers = ("a", "b b", "c c c", "d")
    selection = ask(fault_server, select="best", external=scorer, timeout=0.5)

    assert selection.scorer == "mean_logprob"
    assert any(note.startswith("The external scorer") and words in note and "ours" in note.replace("our ", "ours ")
               for note in selection.notes)  # fmt: skip


def test_wrong_settings_are_one_clear_error(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="external= takes a function"):
        ask(fault_server, external="a-model")
    with pytest.raises(ConfigurationError, match="'best' is not a fusion"):
        ask(fault_server, fuse="best")


# --- a reward model of transformers ------------------------------------------------------------------------------


def reward_folder(folder: Path, *, labels: int = 1, template: bool = True) -> Path:
    """Write a tiny classifier with random weights and a word tokenizer."""
    pytest.importorskip("torch", reason="the extra 'local' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'local' is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "</s>", *["what", "is", "2", "+", "3", "?", "five", "six", "the", "answer", "user", "assistant"]]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")
    if template:
        tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_labels=labels, pad_token_id=1,
    )  # fmt: skip
    transformers.LlamaForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [True, False])
def test_a_reward_model_reads_the_question_with_each_answer_whatever_the_batch(tmp_path: Path, template: bool) -> None:
    folder = reward_folder(tmp_path, template=template)
    import torch
    import transformers

    completions = [Completion(text=text) for text in ("five", "the answer is six", "five five five", "?")]
    rewards = RewardModel(str(folder), batch=3)(QUESTION, completions)

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for completion, reward in zip(completions, rewards, strict=True):
        text = (
            f"user What is 2 + 3? assistant {completion.text} " if template else f"What is 2 + 3?\n\n{completion.text}"
        )
        with torch.inference_mode():
            expected = model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits[0, 0].item()
        assert reward == pytest.approx(expected, abs=1e-4)


def test_a_reward_model_with_two_outputs_or_none_at_all_is_one_clear_error(tmp_path: Path) -> None:
    folder = reward_folder(tmp_path / "two", labels=2)
    with pytest.raises(ConfigurationError, match="has 2 outputs"):
        RewardModel(str(folder))(QUESTION, [Completion(text="five")])
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        RewardModel(str(tmp_path / "nothing"))(QUESTION, [Completion(text="five")])


# --- a reward model behind HTTP ----------------------------------------------------------------------------------


def test_a_reward_server_is_asked_once_with_all_answers(fault_server: FaultServer) -> None:
    fault_server.answers = ("one", "two", "three", "four")

    def serve(request: Received) -> Response:
        if not request.path.endswith("/classify"):
            return chat(list(fault_server.answers), k=3)
        inputs = request.json["input"]
        data = [{"index": index, "label": "LABEL_0", "probs": [len(text) / 100], "num_classes": 1}
                for index, text in enumerate(inputs)]  # fmt: skip
        return json_response({"data": data[::-1]})

    fault_server.serve(serve)
    server = RewardServer(fault_server.url, "rm")
    selection = ask(fault_server, select="best", external=server, fuse="weighted:share=0")

    assert selection.text == "three"
    assert selection.scorer.endswith("rm (weighted:share=0)")
    requests = [request.json for request in fault_server.requests if request.path.endswith("/classify")]
    assert len(requests) == 1
    assert requests[0]["model"] == "rm"
    assert requests[0]["input"][0] == "What is 2 + 3?\n\none"


@pytest.mark.parametrize(
    "reply",
    [b"", b"{}", b'{"data": []}', b'{"data": [{"index": 0, "probs": []}]}', b'{"data": [{"index": 7, "probs": [1]}]}',
     b'{"data": [{"index": 0, "probs": ["x"]}]}', b"<html>"],
)  # fmt: skip
def test_a_server_that_answers_with_something_else_is_one_clear_error(reply: bytes) -> None:
    with pytest.raises(ResponseDecodeError, match="did not return 1 scores"):
        parse_rewards(reply, 1)


def test_a_server_that_is_not_there_costs_a_note(fault_server: FaultServer) -> None:
    selection = ask(fault_server, external=RewardServer("http://127.0.0.1:9/v1", "rm"))
    assert any("ConnectionFailedError" in note for note in selection.notes)


def test_numbers_of_a_whole_reply_are_read_by_index() -> None:
    data: Sequence[dict[str, Any]] = [{"index": 1, "probs": [0.2]}, {"index": 0, "probs": [0.1, 0.9]}]
    assert parse_rewards(json.dumps({"data": data}).encode(), 2) == [0.1, 0.2]


async def test_the_event_loop_ticks_while_a_sync_scorer_works(fault_server: FaultServer) -> None:
    from swift_client import AsyncSwiftReranker

    def slow(messages: list[Message], completions: list[Completion]) -> list[float]:
        time.sleep(0.3)
        return [0.0] * len(completions)

    longest, last = 0.0, time.perf_counter()

    async def heart() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()

    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, external=slow) as rr:
        await rr.best_of("q", n=1)
        beating = asyncio.create_task(heart())
        last = time.perf_counter()
        await rr.best_of("q", n=2)
        beating.cancel()
    assert longest < 0.2
