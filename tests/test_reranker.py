"""Tests of settings, rank and Selections: early refusals, and the signals and notes of a choice."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Completion, Selection, SwiftReranker, parse_response, rank
from swift_client.errors import (
    ArtifactError,
    ArtifactMismatchError,
    ConfigurationError,
    LogprobsUnavailableError,
    ResponseDecodeError,
    UnknownProviderError,
)
from swift_client.models import GatedLinearHead, HeadArtifact, PlattCalibration, Standardizer, save
from tests.servers import FaultServer, chat, chat_body, logprobs_of

ROOT = Path(__file__).parents[1]


def ask(server: FaultServer, **options: Any) -> SwiftReranker:
    return SwiftReranker("openai-compatible", "m", base_url=server.url, **{"max_retries": 0, **options})


# --- bad input, before anything is sent ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "n must be a whole number from 1 to 1,024, not 0"),
        ({"n": -3}, "not -3"),
        ({"n": 1025}, "not 1025"),
        ({"n": 10**9}, "1,024"),
        ({"n": True}, "not True"),
        ({"n": 2.0}, "not 2.0"),
        ({"n": "4"}, "not '4'"),
        ({"n": None}, "not None"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t "}, "prompt is empty"),
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [{"role": "user", "content": " "}]}, "prompt is empty"),
        ({"prompt": [{"role": "user"}]}, "Message 0 .* no role and content"),
        ({"prompt": [{"role": "user", "content": "q"}, "text"]}, "Message 1"),
        ({"prompt": None}, "must be a str or a list"),
        ({"prompt": b"q"}, "must be a str or a list"),
        ({"prompt": {"role": "user", "content": "q"}}, "must be a str or a list"),
        ({"min_completions": 0}, "min_completions must be a whole number from 1 to 4"),
        ({"min_completions": 5}, "min_completions must be a whole number from 1 to 4"),
        ({"deadline": 0}, "deadline must be a number of seconds above 0"),
        ({"deadline": -1.0}, "deadline"),
        ({"deadline": math.nan}, "deadline"),
        ({"deadline": math.inf}, "deadline"),
        ({"deadline": "5"}, "deadline"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"stream": True}, "'stream' is not a sampling field"),
        ({"top_logprobs": 5}, "'top_logprobs' is not a sampling field"),
        ({"logprobs": False}, "require_logprobs="),
        ({"model": "other"}, "Give it to the reranker"),
        ({"messages": []}, "prompt"),
        ({"stopping": "soon"}, "There is no stopping rule 'soon'"),
        ({"budget": 1.0}, "budget= takes a Budget, not"),
        ({"on_reject": "abstain"}, "needs a head that was calibrated to a risk: there is none"),
        ({"on_reject": "escalate"}, "nothing left to ask"),
        ({"on_reject": "shrug"}, "on_reject='shrug' is unknown"),
        ({"response_model": dict}, "response_model= takes a pydantic model class or a JSON schema dict, not dict"),
    ],
)
def test_a_wrong_argument_of_best_of_is_one_clear_error_and_nothing_is_sent(
    arguments: dict[str, Any], words: str, fault_server: FaultServer
) -> None:
    with ask(fault_server) as reranker, pytest.raises(ConfigurationError, match=words):
        reranker.best_of(**{"prompt": "q", "n": 4, **arguments})
    assert fault_server.requests == []


@pytest.mark.parametrize("face", [SwiftReranker, AsyncSwiftReranker])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": None}, "timeout"),
        ({"max_retries": -1}, "max_retries must be a whole number of at least 0"),
        ({"max_retries": True}, "max_retries"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number of at least 1"),
        ({"top_logprobs": -1}, "top_logprobs must be a whole number of at least 0"),
        ({"require_logprobs": "yes"}, "require_logprobs"),
        ({"scorer": "best"}, "Unknown scorer 'best'.* mean_logprob"),
        ({"scorer": 3}, "scorer= takes a name, a callable or a HeadArtifact"),
        ({"answer": "numbr"}, "no answer reader called 'numbr'"),
        ({"answer": "(["}, "not a valid regex"),
        ({"select": "majority"}, 'select= must be "auto", "best", "vote" or "consensus", not .majority'),
    ],
)
def test_a_wrong_setting_is_refused_when_the_reranker_is_made(face: type, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        face("openai", **settings)


def test_a_missing_address_and_a_client_of_another_kind_are_refused_when_the_reranker_is_made() -> None:
    with pytest.raises(ConfigurationError, match="needs an address"):
        SwiftReranker("openai-compatible", "m")
    with pytest.raises(ConfigurationError, match="openai client"):
        SwiftReranker("openai", client=object())


def test_an_unknown_provider_is_refused_with_near_names() -> None:
    with pytest.raises(UnknownProviderError, match="openai"):
        SwiftReranker("opnai")


def test_n_of_one_and_n_of_1024_are_allowed(fault_server: FaultServer) -> None:
    with ask(fault_server, require_logprobs=False) as reranker:
        assert len(reranker.best_of("q", n=1).candidates) == 1
        assert len(reranker.best_of("q", n=1024).candidates) == 1024


def test_chat_messages_are_sent_as_they_are(fault_server: FaultServer) -> None:
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    with ask(fault_server) as reranker:
        reranker.best_of(messages, n=1)
    assert fault_server.requests[0].json["messages"] == messages


# --- keys and secrets ---------------------------------------------------------------------------------------------

KEY = "sk-verysecret1234567890"


def test_the_key_is_read_at_the_first_request_and_shown_nowhere(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="swift_client")
    events: list[object] = []
    reranker = SwiftReranker("openai", base_url=fault_server.url, on_event=events.append)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with reranker:
        selection = reranker.best_of("my private question", n=2)

    assert fault_server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    texts = [repr(reranker), repr(vars(reranker)), repr(selection), repr(events), json.dumps(selection.to_dict())]
    assert KEY not in "".join(texts)
    assert caplog.records
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("swift_client"))
    assert KEY not in logged
    assert "private" not in logged
    assert "The answer is 4" not in logged


def test_a_callable_key_is_asked_for_each_request(fault_server: FaultServer) -> None:
    keys = iter(["key-one", "key-two"])
    with ask(fault_server, api_key=lambda: next(keys)) as reranker:
        reranker.best_of("q", n=1)
        reranker.best_of("q", n=1)
    assert [request.headers["authorization"] for request in fault_server.requests] == [
        "Bearer key-one",
        "Bearer key-two",
    ]


def test_the_repr_names_provider_model_and_scorer(fault_server: FaultServer) -> None:
    assert repr(SwiftReranker("openai", api_key=KEY)) == (
        "SwiftReranker('openai', 'gpt-4.1-mini', scorer='mean_logprob')"
    )


# --- what a selection says ----------------------------------------------------------------------------------------


def test_the_selection_votes_and_the_best_member_of_the_winning_answer_is_its_text(fault_server: FaultServer) -> None:
    texts = ["The answer is 5", "So the answer is 4", "Thus, the answer is 4"]
    fault_server.script(chat(texts, k=3))
    with ask(fault_server) as reranker:
        selection = reranker.best_of("q", n=3)

    means = [
        np.mean([entry["logprob"] for entry in logprobs_of(text, k=3, seed=seed)]) for seed, text in enumerate(texts)
    ]
    assert [candidate.score for candidate in selection.candidates] == pytest.approx(means, rel=1e-5)
    assert (selection.method, selection.scorer) == ("vote", "mean_logprob")
    lengths = [len(logprobs_of(text, k=3, seed=seed)) for seed, text in enumerate(texts)]
    chances = [min(max(np.exp(mean * length), 0.001), 0.999) for mean, length in zip(means, lengths, strict=True)]
    weights = [candidate.weight for candidate in selection.candidates]
    assert weights == pytest.approx([chance / (1 - chance) for chance in chances], rel=1e-4)
    four_wins = weights[1] + weights[2] > weights[0]
    assert selection.answer == ("4" if four_wins else "5")
    assert selection.winner == (1 + int(means[2] > means[1]) if four_wins else 0)
    assert selection.probability is None
    assert (selection.signal, selection.provider, selection.model) == ("logprobs:k=3", "openai-compatible", "m")
    assert 0 < selection.elapsed < 30


@pytest.mark.parametrize(
    ("scorer", "k", "signal"),
    [
        ("mean_logprob", 20, "logprobs:k=20"),
        ("entropy", 5, "logprobs:k=5"),
        ("mean_logprob", 0, "logprobs:chosen"),
        ("entropy", 0, "text"),  # it needs alternatives, so nothing has a score
        ("mean_logprob", None, "text"),
        ("shortest", 20, "text"),
        ("random", 20, "text"),
        (lambda completions: [len(completion.tokens) for completion in completions], 20, "logprobs:k=20"),
    ],
)
def test_the_signal_says_what_the_choice_rests_on(scorer: Any, k: int | None, signal: str) -> None:
    assert rank(chat_body(["one answer", "another one here"], k=k), scorer=scorer).signal == signal


def test_fewer_alternatives_than_asked_are_counted_as_they_came(fault_server: FaultServer) -> None:
    fault_server.script(chat(["a b", "c d e"], k=5))
    with ask(fault_server) as reranker:
        assert reranker.best_of("q", n=2).signal == "logprobs:k=5"
    assert fault_server.requests[0].json["top_logprobs"] == 20


def test_a_number_of_alternatives_of_ones_own_is_asked_for(fault_server: FaultServer) -> None:
    with ask(fault_server, top_logprobs=3) as reranker:
        assert reranker.best_of("q", n=2).signal == "logprobs:k=3"
    assert fault_server.requests[0].json["top_logprobs"] == 3


def test_a_scorer_that_fails_after_the_money_is_spent_loses_no_completion(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Sequence[Completion]) -> list[float]:
        raise KeyError("my bug")

    with ask(fault_server, scorer=broken) as reranker:
        selection = reranker.best_of("q", n=3)
    assert len(selection.candidates) == 3
    assert selection.scorer == "mean_logprob"
    assert any("my bug" in note for note in selection.notes)
    assert "the scorer failed" in caplog.text


# --- heads --------------------------------------------------------------------------------------------------------


def head(**facts: Any) -> HeadArtifact:
    """Return a head whose score is the mean logprob: logprobs as rewards, a constant gate."""
    return HeadArtifact(
        **{
            "features": ("logprob",),
            "width": 20,
            "standardizer": Standardizer(mean=[0.0], scale=[1.0]),
            "head": GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[1.0], reward_bias=0.0),
            "calibration": PlattCalibration(a=1.0, b=0.0),
            "provider": "openai-compatible",
            "model": "m",
            "k_min": 1,
            "k_max": 7,
        }
        | facts
    )


@pytest.mark.parametrize("as_path", [False, True])
def test_a_head_scores_asks_for_its_k_and_votes_with_probabilities(
    as_path: bool, fault_server: FaultServer, tmp_path: Path
) -> None:
    save(head(), tmp_path / "head.safetensors")
    with ask(fault_server, head=tmp_path / "head.safetensors" if as_path else head()) as reranker:
        selection = reranker.best_of("q", n=4)

    assert fault_server.requests[0].json["top_logprobs"] == 7
    assert selection.scorer == "head openai-compatible/m"
    for candidate in selection.candidates:
        mean = float(np.mean(candidate.completion.logprobs))
        assert candidate.score == pytest.approx(mean, rel=1e-5)
        assert candidate.probability == pytest.approx(1 / (1 + math.exp(-mean)), rel=1e-5)
        assert candidate.weight == pytest.approx(candidate.probability / (1 - candidate.probability))


@pytest.mark.parametrize("facts", [{"model": "other"}, {"provider": "openai"}, {"k_min": 6, "k_max": 7}])
def test_a_head_for_something_else_is_refused_when_the_reranker_is_made(facts: dict[str, Any]) -> None:
    with pytest.raises(ArtifactMismatchError):
        SwiftReranker("openai-compatible", "m", base_url="http://127.0.0.1:9/v1", head=head(**facts), top_logprobs=5)


def test_a_file_that_is_not_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError):
        SwiftReranker("openai", head=tmp_path / "head")


def test_a_head_and_a_scorer_together_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="head= and scorer="):
        SwiftReranker("openai-compatible", "m", base_url="http://127.0.0.1:9/v1", head=head(), scorer="entropy")


def test_no_head_is_packaged_so_auto_and_none_score_alike(fault_server: FaultServer) -> None:
    body = chat(["a b c", "d e"]).body
    assert ask(fault_server, head="auto").rank(body).score == ask(fault_server, head=None).rank(body).score


# --- rank and parse_response --------------------------------------------------------------------------------------


def test_rank_takes_bytes_text_dict_and_completions(fault_server: FaultServer) -> None:
    value = chat_body(["The answer is 4", "The answer is 5", "The answer is 4"])
    data = json.dumps(value)
    selections = [
        rank(data.encode()), rank(data), rank(value), rank(parse_response(data)), ask(fault_server).rank(value)
    ]  # fmt: skip
    assert {selection.text for selection in selections} == {"The answer is 4"}
    assert len({selection.score for selection in selections}) == 1
    assert selections[0].usage.prompt_tokens == 7
    assert selections[0].model == "test-model"
    assert fault_server.requests == []


def test_rank_takes_an_sdk_object() -> None:
    import openai.types.chat

    value = openai.types.chat.ChatCompletion.model_validate(chat_body(["The answer is 4", "The answer is 5"]))
    assert rank(value).score == rank(chat_body(["The answer is 4", "The answer is 5"])).score


@pytest.mark.parametrize("provider", ["openai", "vllm", "openrouter/meta-llama/x", "openai:gpt-4o"])
def test_rank_needs_no_model_and_no_key(provider: str) -> None:
    assert rank(chat_body(["a", "b"]), provider=provider).candidates


@pytest.mark.parametrize("reply", [b"", b"nonsense", b"[]", b'{"choices": []}', [], "x"])
def test_rank_of_anything_but_a_reply_is_one_clear_error(reply: Any) -> None:
    with pytest.raises((ResponseDecodeError, ConfigurationError)):
        rank(reply)


def test_rank_refuses_an_unknown_scorer_reader_or_provider() -> None:
    for wrong in ({"scorer": "x"}, {"answer": "x"}, {"select": "x"}, {"provider": "x"}):
        with pytest.raises(ConfigurationError):
            rank(chat_body(["a"]), **wrong)  # type: ignore[arg-type]


def test_permuting_completions_permutes_the_scores_and_changes_nothing_else() -> None:
    completions = parse_response(chat_body(["The answer is 4", "The answer is 5", "no", "The answer is 5"], k=4))

    def rows(selection: Selection) -> list[object]:
        return [
            (candidate.text, candidate.score, candidate.answer, candidate.weight) for candidate in selection.candidates
        ]

    straight = rank(completions)
    for order in itertools.permutations(completions):
        permuted = rank(list(order))
        assert rows(permuted) == rows(straight)
        assert (permuted.winner, permuted.method) == (straight.winner, straight.method)


def test_a_pool_of_several_replies_is_numbered_in_the_order_given() -> None:
    first, second = parse_response(chat_body(["a", "b"])), parse_response(chat_body(["c", "d"]))
    selection = rank([*first, *second])
    assert [candidate.text for candidate in selection.candidates] == ["a", "b", "c", "d"]
    assert [candidate.completion.index for candidate in selection.candidates] == [0, 1, 2, 3]


@pytest.mark.parametrize("top_logprobs", [None, 2, 8])
def test_parse_response_gives_the_asked_number_of_columns(top_logprobs: int | None) -> None:
    (completion,) = parse_response(chat_body(["one two"], k=5), top_logprobs=top_logprobs)
    assert completion.top_logprobs.shape == (2, top_logprobs or 5)


def test_odd_but_legal_completions_give_finite_numbers_or_no_score() -> None:
    empty = Completion(text="", index=0)
    one = Completion(
        text="4",
        index=1,
        tokens=("4",),
        logprobs=np.array([-0.5], np.float32),
        top_logprobs=np.array([[-0.5, -np.inf]], np.float32),
        censored=np.array([False]),
    )
    selection = rank([empty, one, replace(one, index=2)])
    assert [candidate.score for candidate in selection.candidates] == [None, -0.5, -0.5]
    assert selection.winner == 1
    assert rank([empty]).signal == "text"


SAME = """
import hashlib, json, sys
from swift_client import rank
from swift_client.scorers import SCORERS
body = open(sys.argv[1], "rb").read()
numbers = {name: [c.score for c in rank(body, scorer=name).candidates] for name in SCORERS}
print(hashlib.sha256(json.dumps(numbers).encode()).hexdigest())
"""


def test_scores_are_identical_across_processes_and_hash_seeds(tmp_path: Path) -> None:
    (tmp_path / "reply.json").write_bytes(chat(["The answer is 4", "five or so", "six"], k=6).body)
    digests = {
        subprocess.run(
            [sys.executable, "-c", SAME, str(tmp_path / "reply.json")],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


# --- a provider of one's own --------------------------------------------------------------------------------------


def test_a_custom_object_with_native_n_or_one_at_a_time_is_sampled_scored_and_topped_up() -> None:
    calls: list[tuple[int, dict[str, Any]]] = []

    class Mine:
        name = "mine"

        async def complete(self, messages: list[dict[str, Any]], n: int, **options: Any) -> dict[str, Any]:
            calls.append((n, options))
            return chat_body(["The answer is 4"], k=options["top_logprobs"])

    with SwiftReranker(Mine()) as reranker:
        selection = reranker.best_of("q", n=3, temperature=0.5, deadline=30)
    assert len(selection.candidates) == 3
    assert [n for n, _ in calls] == [3, 1, 1]
    assert calls[0][1]["temperature"] == 0.5
    assert (selection.signal, selection.provider) == ("logprobs:k=20", "mine")


def test_a_custom_object_may_return_completions_and_have_no_logprobs() -> None:
    class Texts:
        def complete(self, messages: list[dict[str, Any]], n: int, **options: Any) -> list[Completion]:
            return [Completion(text=f"The answer is {index % 2}", index=index) for index in range(n)]

    with SwiftReranker(Texts()) as reranker:
        selection = reranker.best_of("q", n=3)
    assert (selection.answer, selection.signal) == ("0", "text")
    with SwiftReranker(Texts(), require_logprobs=True) as reranker, pytest.raises(LogprobsUnavailableError):
        reranker.best_of("q", n=3)


async def test_the_callers_own_openai_client_is_used_and_left_open(fault_server: FaultServer) -> None:
    import openai

    async with openai.AsyncOpenAI(api_key="own-key", base_url=fault_server.url) as client:
        async with AsyncSwiftReranker("openai", client=client) as reranker:
            await reranker.best_of("q", n=2)
        async with AsyncSwiftReranker("openai", client=client) as reranker:
            await reranker.best_of("q", n=2)
    assert [request.headers["authorization"] for request in fault_server.requests] == ["Bearer own-key"] * 2


def test_completions_that_were_cut_do_not_keep_the_whole_ones_from_voting() -> None:
    cut_completions = [
        Completion(text="First we note that the number of", index=i, finish_reason="length") for i in range(4)
    ]
    finished = [Completion(text=f"The answer is {n}.", index=4 + i) for i, n in enumerate((7, 8, 8))]

    selection = rank([*cut_completions, *finished])

    assert (selection.method, selection.answer) == ("vote", "8")
    assert [candidate.weight for candidate in selection.candidates] == [0, 0, 0, 0, 1, 1, 1]
