from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from swift_client.adapters import PROVIDERS, Transport, load_codec
from swift_client.diagnostics.doctor import Diagnosis, examine, infer_logprob_space, measure_sample_fit, wilson_interval
from swift_client.errors import AuthenticationError
from swift_client.types import Completion
from tests.servers import FaultServer, Received, Response, error, json_response

LOGITS = np.array([3.0, 2.5, 1.0, 0.2, -1.0, -4.0])


def digits(request: Received, *, after_temperature: bool, n_max: int | None = None, logprobs: bool = True) -> Response:
    """Answer with one digit and the real log softmax of LOGITS, before or after temperature."""
    body = request.json
    scaled = LOGITS / (body["temperature"] if after_temperature else 1.0)
    scaled_logprobs = scaled - math.log(np.exp(scaled).sum())
    top = [
        {"token": str(digit), "logprob": float(value), "bytes": [48 + digit]}
        for digit, value in enumerate(scaled_logprobs[: body.get("top_logprobs", 0)])
    ]
    content = {"content": [{**top[0], "top_logprobs": top}]} if logprobs and body.get("logprobs") else None
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "0"},
            "logprobs": content,
            "finish_reason": "length",
        }
        for index in range(min(body.get("n", 1), n_max or 99))
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": len(choices), "total_tokens": 9 + len(choices)}
    return json_response({"model": "m-2026", "choices": choices, "usage": usage})


async def diagnose(
    server: FaultServer, serve: Callable[[Received], Response] | None = None, *, samples: int = 0, model: str = "m"
) -> Diagnosis:
    if serve:
        server.serve(serve)
    row = replace(PROVIDERS["openai" if model.startswith("gpt") else "openai-compatible"], base_url=server.url)
    transport = Transport(row, api_key="k")
    try:
        return await examine(transport, load_codec(row), model, samples=samples)
    finally:
        await transport.aclose()


@pytest.mark.parametrize(("after", "space"), [(False, "raw"), (True, "after_temperature")])
async def test_temperature_is_inferred_from_the_gaps_with_two_calls_of_one_token(
    fault_server: FaultServer, after: bool, space: str
) -> None:
    diagnosis = await diagnose(fault_server, lambda request: digits(request, after_temperature=after))
    assert diagnosis.space == space
    assert (diagnosis.n_given, diagnosis.top_logprobs, diagnosis.real, diagnosis.model) == (2, 6, True, "m-2026")
    assert [request.json["max_tokens"] for request in fault_server.requests] == [1, 1]
    assert [request.json["temperature"] for request in fault_server.requests] == [1.0, 0.25]
    assert diagnosis.usage.calls == 2
    assert len(diagnosis.findings) == 4
    assert all(finding.endswith(".") for finding in diagnosis.findings)


async def test_a_server_that_silently_ignores_n_is_detected(fault_server: FaultServer) -> None:
    diagnosis = await diagnose(fault_server, lambda request: digits(request, after_temperature=False, n_max=1))
    assert (diagnosis.n_asked, diagnosis.n_given, diagnosis.n_max) == (2, 1, None)
    assert "without an error" in diagnosis.findings[0]


async def test_caps_that_a_400_names_are_obeyed_and_reported(fault_server: FaultServer) -> None:
    fault_server.script(
        error(400, "Field 'n': Value must be between 1 <= value <= 1, but got 2"),
        error(400, "top_logprobs must be between 0 and 5"),
    )
    diagnosis = await diagnose(fault_server, lambda request: digits(request, after_temperature=False))
    assert (diagnosis.n_max, diagnosis.n_given, diagnosis.top_logprobs) == (1, 1, 5)
    assert diagnosis.space == "raw"
    assert "refused above 1" in diagnosis.findings[0]
    assert diagnosis.usage.calls == 4


async def test_a_model_without_logprobs_or_max_tokens_is_still_diagnosed(fault_server: FaultServer) -> None:
    fault_server.script(
        error(403, "You are not allowed to request logprobs from this model"),
        error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens"),
    )
    diagnosis = await diagnose(fault_server, lambda request: digits(request, after_temperature=False))
    assert (diagnosis.real, diagnosis.top_logprobs, diagnosis.space) == (False, 0, "unknown")
    assert "none" in diagnosis.findings[1]
    assert "logprobs" not in fault_server.requests[-1].json
    assert fault_server.requests[-1].json["max_completion_tokens"] == 1


async def test_null_logprobs_with_200_are_reported_as_none(fault_server: FaultServer) -> None:
    diagnosis = await diagnose(fault_server, lambda request: digits(request, after_temperature=False, logprobs=False))
    assert not diagnosis.real


async def test_zero_for_every_token_is_a_placeholder(fault_server: FaultServer) -> None:
    def zeros(request: Received) -> Response:
        entry: dict[str, Any] = {"token": "0", "logprob": 0, "bytes": [48], "top_logprobs": []}
        choice = {"index": 0, "message": {"content": "0"}, "logprobs": {"content": [entry]}, "finish_reason": "stop"}
        return json_response({"choices": [choice]})

    diagnosis = await diagnose(fault_server, zeros)
    assert not diagnosis.real
    assert any("placeholder" in finding for finding in diagnosis.findings)


async def test_a_wrong_key_is_raised_as_it_is(fault_server: FaultServer) -> None:
    fault_server.script(error(401, "no"))
    with pytest.raises(AuthenticationError):
        await diagnose(fault_server)


def test_lists_that_tell_nothing_are_unknown() -> None:
    nothing, one, flat = np.zeros(0, np.float32), np.zeros(1, np.float32), np.full(5, -1.6, np.float32)
    logprobs = np.array([0.0, -1.0, -2.0], np.float32)
    assert infer_logprob_space(nothing, nothing) == "unknown"
    assert infer_logprob_space(one, one) == "unknown"
    assert infer_logprob_space(flat, flat) == "unknown"
    assert infer_logprob_space(logprobs, logprobs * 2) == "unknown"


# --- samples -------------------------------------------------------------------------------------------------------


def sampler(
    *, drawn_from: np.ndarray[Any, Any], k: int = 6, n_max: int | None = None
) -> Callable[[Received], Response]:
    """List LOGITS' distribution with tokens sampled from another one."""
    dice = np.random.default_rng(7)
    stated = LOGITS - math.log(np.exp(LOGITS).sum())
    chances = np.exp(drawn_from) / np.exp(drawn_from).sum()

    def serve(request: Received) -> Response:
        top = [{"token": str(token), "logprob": float(value)} for token, value in enumerate(stated)]
        scale = request.json["temperature"]
        p = chances ** (1 / scale)
        choices = []
        for index in range(min(request.json.get("n", 1), n_max or 99)):
            digit = int(dice.choice(6, p=p / p.sum()))
            content = [{**top[digit], "top_logprobs": top[: min(k, request.json["top_logprobs"])]}]
            message = {"role": "assistant", "content": str(digit)}
            choices.append(
                {"index": index, "message": message, "logprobs": {"content": content}, "finish_reason": "length"}
            )
        return json_response({"model": "m", "choices": choices})

    return serve


@pytest.mark.parametrize(
    ("drawn_from", "k", "words"),
    [
        (LOGITS, 6, "Fit: yes"),
        (LOGITS, 2, "Fit: yes"),
        (LOGITS[::-1], 6, "Fit: NO"),
        (np.zeros(6), 6, "Fit: NO"),
        (LOGITS * 30, 6, "Fit: colder than stated"),
    ],
)
async def test_samples_are_held_against_the_lists_beside_them(
    fault_server: FaultServer, drawn_from: np.ndarray[Any, Any], k: int, words: str
) -> None:
    diagnosis = await diagnose(fault_server, sampler(drawn_from=drawn_from, k=k), samples=40)
    assert diagnosis.fit is not None
    assert diagnosis.fit.samples == 40
    assert sum(finding.startswith(words) for finding in diagnosis.findings) == 1
    assert diagnosis.space == "raw"
    assert diagnosis.usage.calls == 3
    assert [request.json.get("n", 1) for request in fault_server.requests] == [2, 1, 38]


async def test_where_n_is_ignored_samples_come_one_by_one(fault_server: FaultServer) -> None:
    diagnosis = await diagnose(fault_server, sampler(drawn_from=LOGITS, n_max=1), samples=5)
    assert diagnosis.fit is not None
    assert diagnosis.fit.samples == 5
    assert [request.json.get("n", 1) for request in fault_server.requests[2:]] == [1] * 4


async def test_without_samples_or_lists_nothing_is_said_of_the_fit(fault_server: FaultServer) -> None:
    assert (await diagnose(fault_server, sampler(drawn_from=LOGITS))).fit is None
    diagnosis = await diagnose(
        fault_server, lambda request: digits(request, after_temperature=False, logprobs=False), samples=5
    )
    assert diagnosis.fit is None


async def test_true_lists_are_doubted_about_as_rarely_as_promised() -> None:
    dice = np.random.default_rng(3)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum()
    top = np.log(p).astype(np.float32)[None]
    doubted = 0
    for _ in range(60):
        completions = [
            Completion(
                text="x", tokens=("x",), logprobs=top[0, [token]], top_logprobs=top, censored=np.zeros(1, np.bool_)
            )
            for token in dice.choice(6, p=p, size=20)
        ]
        fit = measure_sample_fit(completions)
        assert fit is not None
        assert fit.expected == pytest.approx(float((p * np.log(p)).sum()), abs=1e-5)
        doubted += min(fit.chance_of_less, fit.chance_of_more) < 0.05
    assert 0 < doubted < 15


def test_wilsons_interval_is_the_textbooks() -> None:
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


async def test_a_model_that_thinks_by_default_is_asked_not_to(fault_server: FaultServer) -> None:
    diagnosis = await diagnose(fault_server, sampler(drawn_from=LOGITS), model="gpt-5.5")
    assert {request.json["reasoning_effort"] for request in fault_server.requests} == {"none"}
    assert {request.json["top_logprobs"] for request in fault_server.requests} == {5}
    assert diagnosis.top_logprobs == 5
