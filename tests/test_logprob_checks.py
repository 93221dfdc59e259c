"""Logprobs that cannot be real are dropped before scoring, and real ones are not changed."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Completion, rank
from swift_client.errors import LogprobsUnavailableError
from swift_client.features import FEATURES, RESPONSE_TERMS, response_terms, token_features
from swift_client.logprobs.checks import CHECKS, drop_invalid_logprobs
from swift_client.logprobs.goodness_of_fit import run_fit_test
from swift_client.logprobs.temperature import (
    SHIFT_INVARIANT_FEATURES,
    SHIFT_INVARIANT_TERMS,
    UNKNOWN_SAMPLING,
    SamplingInfo,
    undo_temperature,
)
from swift_client.models import GatedLinearHead, HeadArtifact, Standardizer
from swift_client.selection.select import SelectionConfig, select_best
from tests.servers import FaultServer, Received, Response, chat, chat_body, json_response


def completion(
    tokens: list[str], chosen_logprobs: list[float], top: list[list[float]] | None = None, **more: Any
) -> Completion:
    lists = np.array(top, np.float32) if top else np.zeros((len(tokens), 0), np.float32)
    return Completion(
        **{"text": "".join(tokens), **more},
        tokens=tuple(tokens),
        logprobs=np.array(chosen_logprobs, np.float32),
        top_logprobs=lists,
        censored=np.zeros(len(tokens), np.bool_),
    )


TRUE = completion(["4", "2"], [-0.1, -0.7], [[-0.1, -2.5], [-0.7, -0.8]])

CAUGHT = {
    "above zero": completion(["4", "2"], [3.5, -0.7]),
    "more than one": completion(["4", "2"], [-0.1, -0.7], [[-0.1, -0.2], [-0.7, -0.8]]),
    "all zero": completion(["4", "2"], [0.0, 0.0]),
    "repeated list": completion(["4", "2", "", ""], [-0.105] * 4, [[-0.51, -1.2]] * 4),
    "thinking": completion(["<think>", "let me see, it is", " 42 or", "</think>", "42"], [-0.5] * 5, text="42"),
}


def test_every_row_has_an_example_here() -> None:
    assert CAUGHT.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_invalid_logprobs_are_dropped_and_named_once(name: str) -> None:
    completions, notes = drop_invalid_logprobs([TRUE, CAUGHT[name], CAUGHT[name]], UNKNOWN_SAMPLING)
    assert completions[0] is TRUE
    assert [(completion.text, len(completion.tokens)) for completion in completions[1:]] == [("42", 0), ("42", 0)]
    assert notes == (f"Logprobs of 2 of 3 completions {CHECKS[name].sentence}; they are left out.",)


@pytest.mark.parametrize("name", CHECKS)
def test_a_choice_without_valid_logprobs_rests_on_the_texts(name: str) -> None:
    selection = select_best([replace(CAUGHT[name], text=text) for text in ("42", "42", "41")], SelectionConfig())
    assert (selection.signal, selection.answer) == ("text", "42")
    assert any("left out" in note for note in selection.notes)


@pytest.mark.parametrize(
    "true",
    [
        TRUE,
        completion(["A"], [0.0], [[0.0]]),  # gpt-5.x: a sure token may come with one alternative
        completion(["A"], [0.0], [[0.0, -15.6]]),
        completion(["A", "B", "C", "D"], [0.0] * 4, [[0.0, -9.0]] * 4),
        completion(["A"] * 4, [-0.51] * 4, [[-0.51, -1.2]] * 4),  # one list, and the tokens are in it
        completion(["A"] * 4, [-3.0] * 4, [[-0.51, -1.2]] * 4),  # below the list
        completion(["A"] * 3, [-0.105] * 3, [[-0.51, -1.2]] * 3),  # too few to tell
        completion(["A"] * 4, [-0.105] * 4, [[-0.51, -1.2]] * 3 + [[-0.7, -1.2]]),
        completion(["token_id:17", "token_id:4"], [-0.1, -0.2], text="4"),
        completion(["\ufffd"] * 40, [-0.5] * 40, text="é" * 10),
        completion(["get", "(", "city", "=", "Rome", ")"] * 9, [-0.1] * 54, text="{}", finish_reason="tool_calls"),
        completion([" 4", "2", "\n"], [-0.1, -0.2, -0.3], text="42"),
        Completion(text="no numbers at all"),
    ],
)
def test_valid_logprobs_are_left_unchanged(true: Completion) -> None:
    completions, notes = drop_invalid_logprobs([true], UNKNOWN_SAMPLING)
    assert completions[0] is true
    assert notes == ()


def random_completion(rng: np.random.Generator, count: int, *, lists_of: float, drawn_at: float) -> Completion:
    """Draw from softmax(z / drawn_at) and state the five best of softmax(z / lists_of)."""
    logits = np.sort(rng.normal(0, 2, (count, 12)), axis=1)[:, ::-1]
    stated = logits / lists_of
    stated -= np.log(np.exp(stated).sum(axis=1, keepdims=True))
    chances = np.exp(logits / drawn_at)
    chances /= chances.sum(axis=1, keepdims=True)
    ranks = np.array([rng.choice(12, p=row) for row in chances])
    return completion(["x"] * count, stated[np.arange(count), ranks].tolist(), stated[:, :5].tolist())


PLAIN = SamplingInfo(temperature=1.0, unmodified=True)


def test_the_fit_is_the_distance_that_a_plain_loop_finds() -> None:
    one = random_completion(np.random.default_rng(5), 40, lists_of=1.0, drawn_at=1.0)
    score, mean, variance = [], [], 0.0
    for chosen_logprob, row in zip(one.logprobs.tolist(), one.top_logprobs.tolist(), strict=True):
        rest = 1 - sum(math.exp(logprob) for logprob in row)
        score.append(chosen_logprob if any(abs(chosen_logprob - logprob) < 1e-4 for logprob in row) else math.log(rest))
        categories = [*row, math.log(rest)]
        mean.append(sum(math.exp(logprob) * logprob for logprob in categories))
        variance += sum(math.exp(logprob) * logprob**2 for logprob in categories) - mean[-1] ** 2
    fit = run_fit_test(one.logprobs, one.top_logprobs, one.censored)
    assert fit.token_count == 40
    assert fit.score == pytest.approx(sum(score) / 40, abs=1e-5)
    assert fit.expected == pytest.approx(sum(mean) / 40, abs=1e-5)
    assert fit.std == pytest.approx(math.sqrt(variance) / 40, abs=1e-5)


def test_true_lists_are_within_a_few_deviations_of_the_expected_fit() -> None:
    rng = np.random.default_rng(1)
    deviations = [run_fit_test(one.logprobs, one.top_logprobs, one.censored).z
             for one in (random_completion(rng, 300, lists_of=1.0, drawn_at=1.0) for _ in range(60))]  # fmt: skip
    assert abs(float(np.mean(deviations))) < 0.5
    assert 0.7 < float(np.std(deviations)) < 1.3


@pytest.mark.parametrize("drawn_at", [0.25, 0.7, 1.0])
def test_colder_samples_than_stated_are_accepted(drawn_at: float) -> None:
    rng = np.random.default_rng(2)
    completions = [random_completion(rng, 200, lists_of=1.0, drawn_at=drawn_at) for _ in range(8)]
    assert drop_invalid_logprobs(completions, PLAIN) == (completions, ())


def test_lists_that_their_own_samples_do_not_fit_are_put_aside_for_all() -> None:
    rng = np.random.default_rng(3)
    completions = [random_completion(rng, 200, lists_of=0.3, drawn_at=2.0) for _ in range(8)]
    clean_completions, notes = drop_invalid_logprobs(completions, PLAIN)
    assert not any(completion.tokens for completion in clean_completions)
    assert len(notes) == 1
    assert "do not fit the sampled tokens" in notes[0]
    assert drop_invalid_logprobs(completions, UNKNOWN_SAMPLING) == (
        completions,
        (),
    )  # a pool of somebody's: nobody knows how it was drawn


def test_a_few_tokens_prove_nothing() -> None:
    one = random_completion(np.random.default_rng(4), 3, lists_of=0.3, drawn_at=2.0)
    assert drop_invalid_logprobs([one], PLAIN)[1] == ()


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({}, SamplingInfo(temperature=1.0, unmodified=True)),
        ({"temperature": 0.5, "max_tokens": 9}, SamplingInfo(temperature=0.5, unmodified=True)),
        ({"temperature": 1.5}, SamplingInfo(temperature=1.5)),
        ({"temperature": 1, "response_format": {"type": "json_object"}}, SamplingInfo(temperature=1.0)),
        ({"frequency_penalty": 1.0}, SamplingInfo(temperature=1.0)),
        ({"top_p": 0.9}, SamplingInfo(temperature=1.0, unmodified=True, truncated=True)),
        ({"top_p": 1.0, "top_k": 0}, SamplingInfo(temperature=1.0, unmodified=True)),
        ({"temperature": "warm"}, SamplingInfo()),
    ],
)
def test_only_plain_sampling_is_held_against_its_lists(fields: dict[str, Any], origin: SamplingInfo) -> None:
    assert SamplingInfo.from_request(fields, after_temperature=False) == origin


# --- temperature ---------------------------------------------------------------------------------------------------


def stated(logits: Any, temperature: float, token_ids: list[int], k: int) -> Completion:
    values = np.array(logits) / temperature
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    top = -np.sort(-values, axis=1)[:, :k]
    return completion(["a", "7"], values[[0, 1], token_ids].tolist(), top.tolist())


LOGITS = [[3.0, 2.5, 1.0, 0.0, -2.0], [2.0, 1.0, 0.5, -1.0, -3.0]]


def test_undoing_temperature_gives_the_distribution_over_the_listed_tokens() -> None:
    tempered = stated(LOGITS, 0.5, [1, 0], k=3)
    back = undo_temperature(tempered, 0.5)
    for row, logits in zip(back.top_logprobs, LOGITS, strict=True):
        total = sum(math.exp(logit) for logit in logits[:3])
        assert row.tolist() == pytest.approx([logit - math.log(total) for logit in logits[:3]], abs=1e-5)
    assert back.logprobs.tolist() == pytest.approx([back.top_logprobs[0, 1], back.top_logprobs[1, 0]], abs=1e-6)


def test_the_named_features_and_no_other_are_the_same_on_undone_lists() -> None:
    raw, back = stated(LOGITS, 1.0, [1, 2], k=4), undo_temperature(stated(LOGITS, 0.4, [1, 2], k=4), 0.4)
    assert FEATURES.keys() >= SHIFT_INVARIANT_FEATURES
    assert RESPONSE_TERMS.keys() >= SHIFT_INVARIANT_TERMS
    for table, compute, exact in (
        (FEATURES, token_features, SHIFT_INVARIANT_FEATURES),
        (RESPONSE_TERMS, response_terms, SHIFT_INVARIANT_TERMS),
    ):
        same = {
            name for name in table
            if np.allclose(compute([raw], [name]).values, compute([back], [name]).values, atol=2e-5)
        }  # fmt: skip
        assert exact <= same
        assert not {"logprob", "entropy", "confidence", "tail_mass", "sum_logprob", "max_entropy"} & same


def head(features: tuple[str, ...]) -> HeadArtifact:
    width = len(features)
    return HeadArtifact(
        head=GatedLinearHead(gate_weight=[0.0] * width, gate_bias=0.0, reward_weight=[1.0] * width, reward_bias=0.0),
        standardizer=Standardizer(mean=[0.0] * width, scale=[1.0] * width),
        features=features,
        width=20,
        provider="sglang",
        model="m",
        k_min=2,
        k_max=20,
    )


COLD = SamplingInfo(temperature=0.5, after_temperature=True, unmodified=True)


def test_a_head_that_reads_logprobs_themselves_is_refused_after_temperature() -> None:
    completions = [replace(stated(LOGITS, 0.5, [1, index], k=3), index=index) for index in range(2)]
    selection = select_best(completions, SelectionConfig(scorer=head(("logprob", "margin")), sampling_info=COLD))
    assert selection.scorer == "mean_logprob"
    assert any("temperature=1" in note for note in selection.notes)
    selection_at_one = select_best(
        completions, SelectionConfig(scorer=head(("logprob", "margin")), sampling_info=replace(COLD, temperature=1.0))
    )
    assert selection_at_one.scorer != "mean_logprob"


def test_a_head_that_reads_gaps_alone_scores_as_it_would_at_temperature_one() -> None:
    rules = SelectionConfig(scorer=head(("margin", "gap_to_top")))
    raw = select_best([stated(LOGITS, 1.0, [1, 0], k=3)], rules)
    cold = select_best([stated(LOGITS, 0.5, [1, 0], k=3)], replace(rules, sampling_info=COLD))
    assert cold.scorer == raw.scorer != "mean_logprob"
    assert cold.score == pytest.approx(raw.score, abs=1e-5)
    assert any("this is corrected" in note for note in cold.notes)
    truncated_selection = select_best(
        [stated(LOGITS, 0.5, [1, 0], k=3)], replace(rules, sampling_info=replace(COLD, truncated=True))
    )
    assert truncated_selection.scorer == "mean_logprob"


def test_plain_scorers_compare_within_the_question_and_say_so() -> None:
    selection = select_best([stated(LOGITS, 0.5, [1, 0], k=3)], SelectionConfig(sampling_info=COLD))
    assert selection.score == pytest.approx(float(stated(LOGITS, 0.5, [1, 0], k=3).logprobs.mean()))
    assert any("within this question only" in note for note in selection.notes)
    exact = select_best(
        [stated(LOGITS, 0.5, [1, 0], k=3)], SelectionConfig(scorer="self_certainty", sampling_info=COLD)
    )
    raw = select_best([stated(LOGITS, 1.0, [1, 0], k=3)], SelectionConfig(scorer="self_certainty"))
    assert exact.score == pytest.approx(raw.score, abs=1e-5)


async def test_sglang_at_another_temperature_says_so_and_a_raw_server_does_not(fault_server: FaultServer) -> None:
    notes = {}
    for name in ("sglang", "vllm"):
        async with AsyncSwiftReranker(name, "m", base_url=fault_server.url) as reranker:
            notes[name] = (await reranker.best_of("q", n=2, temperature=0.6)).notes
    assert any("after temperature 0.6" in note for note in notes["sglang"])
    assert not any("temperature" in note for note in notes["vllm"])


@pytest.mark.parametrize("name", ["sglang", "tgi", "xai"])
async def test_where_logprobs_follow_temperature_one_is_asked_for_unless_another_is(
    fault_server: FaultServer, name: str
) -> None:
    async with AsyncSwiftReranker(name, "m", base_url=fault_server.url, api_key="k") as reranker:
        notes = [(await reranker.best_of("q", n=1, **options)).notes for options in ({}, {"temperature": 0.6})]
        unknown = await reranker.best_of("q", n=1, extra_body={"temperature": None})
    assert [request.json["temperature"] for request in fault_server.requests] == [1.0, 0.6, None]
    assert [any("after temperature" in note for note in note_list) for note_list in notes] == [False, True]
    assert any("after an unknown temperature" in note for note in unknown.notes)


def test_a_temperature_that_nobody_knows_is_not_undone() -> None:
    completions = [stated(LOGITS, 0.5, [1, 0], k=3)]
    unknown = replace(COLD, temperature=None)
    assert (
        select_best(completions, SelectionConfig(scorer=head(("margin",)), sampling_info=unknown)).scorer
        == "mean_logprob"
    )
    assert (
        select_best(completions, SelectionConfig(scorer=head(("margin",)), sampling_info=UNKNOWN_SAMPLING)).scorer
        != "mean_logprob"
    )


# --- a must ---------------------------------------------------------------------------------------------------------


def zeros(request: Received) -> Response:
    body = chat_body(["the answer is 4"] * request.json.get("n", 1), k=2)
    for choice in body["choices"]:
        for token in choice["logprobs"]["content"]:
            token["logprob"], token["top_logprobs"] = 0.0, []
    return json_response(body)


def thinking(request: Received) -> Response:
    body = chat_body(["let me think about that for a long while: it must be 4"] * request.json.get("n", 1))
    for choice in body["choices"]:
        choice["message"]["content"] = "four!"
    return json_response(body)


@pytest.mark.parametrize(("serve", "why"), [(zeros, "placeholders"), (thinking, "thinking")])
async def test_invalid_logprobs_are_refused_before_n_are_paid_for_if_logprobs_are_required(
    fault_server: FaultServer, serve: Any, why: str
) -> None:
    fault_server.serve(serve)
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, require_logprobs=True
    ) as reranker:
        with pytest.raises(LogprobsUnavailableError, match=why):
            await reranker.best_of("q", n=16)
    assert sum(request.json.get("n", 1) for request in fault_server.requests) == 1
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = await reranker.best_of("q", n=4)
    assert (selection.signal, len(selection.candidates)) == ("text", 4)


# --- the warning ---------------------------------------------------------------------------------------------------


def reply_without_logprobs(request: Received) -> Response:
    choices = [
        {"index": index, "message": {"content": "4"}, "finish_reason": "stop"} for index in range(request.json["n"])
    ]
    return json_response({"choices": choices})


async def test_a_reranker_warns_once_that_texts_decide_and_names_the_remedy(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.serve(reply_without_logprobs)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selections = [await reranker.best_of("q", n=2) for _ in range(3)]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert 'reasoning_effort="none"' in warnings[0].getMessage()
    assert [selection.signal for selection in selections] == ["text"] * 3
    assert all("without logprobs" in " ".join(selection.notes) for selection in selections)


@pytest.mark.parametrize("settings", [{"require_logprobs": False}, {"scorer": "shortest"}])
async def test_a_user_who_asked_for_texts_is_not_warned(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    fault_server.serve(reply_without_logprobs)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, **settings) as reranker:
        await reranker.best_of("q", n=2)
    assert caplog.records == []


async def test_with_logprobs_there_is_nothing_to_warn_of(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.script(chat(["4", "4"], k=3))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        assert (await reranker.best_of("q", n=2)).signal == "logprobs:k=3"
    assert caplog.records == []


def test_a_warning_is_for_asking_and_not_for_ranking(caplog: pytest.LogCaptureFixture) -> None:
    assert rank([Completion(text="4"), Completion(text="4")]).signal == "text"
    assert caplog.records == []


def test_recorded_replies_are_all_valid() -> None:
    folder = Path(__file__).parents[2] / "shared" / "recordings"
    if not folder.exists():
        pytest.skip("the recordings are not here")
    from swift_client import parse_response
    from swift_client.errors import SwiftClientError

    believed = 0
    for path in sorted(folder.rglob("*.json")):
        try:
            completions = parse_response(path.read_bytes())
        except (SwiftClientError, ValueError):
            continue
        _, notes = drop_invalid_logprobs(completions, UNKNOWN_SAMPLING)
        assert notes == (), path
        believed += sum(bool(completion.tokens) for completion in completions)
    assert believed > 5
