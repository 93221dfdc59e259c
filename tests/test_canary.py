"""``swift-client doctor --canary``: fixed questions, compared with the last time and the first time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from swift_client.cli.app import run
from swift_client.diagnostics.canary import compare
from swift_client.diagnostics.canary.history import CanaryRun
from swift_client.diagnostics.canary.questions import ANSWERS, MAX_TOKENS, QUESTIONS
from tests.servers import FaultServer, Received, Response, error, json_response

LOGITS = np.array([3.0, 2.4, 1.6, 0.9, 0.1, -1.0])
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


def test_the_p_value_is_that_of_all_exchanges() -> None:
    # Of the six ways to name two of four answers the earlier ones, two have a shift as large: p = 1/3 in either test.
    names = ("tokens",)
    earlier, later = (
        CanaryRun(
            time=0.0,
            identities=(),
            names=names,
            statistics=(tuple((value,) for value in values),),
            first_tokens=(((0.5, 0.3),) * 2,),
        )
        for values in ((1.0, 2.0), (10.0, 11.0))
    )
    first_token, tokens = compare.compare_runs(earlier, later)
    assert tokens.p_value == pytest.approx(2 / 3, abs=0.02)
    assert (tokens.before, tokens.after, tokens.moved) == (1.5, 10.5, False)
    assert (first_token.after, first_token.p_value, first_token.moved) == (0.0, 1.0, False)


def random_run(rng: np.random.Generator, *, shift: float = 0.0, first: float = 0.6) -> CanaryRun:
    levels = np.linspace(-2, 2, len(QUESTIONS))[:, None]
    values = levels + shift + rng.normal(size=(len(QUESTIONS), ANSWERS))
    return CanaryRun(
        time=0.0,
        identities=(),
        names=("mean_logprob",),
        statistics=tuple(tuple((float(value),) for value in row) for row in values),
        first_tokens=tuple(
            tuple((share, 0.9 - share) for share in rng.normal(first, 0.005, ANSWERS).tolist()) for _ in QUESTIONS
        ),
    )


def test_equal_models_have_uniform_p_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_PERMUTATIONS", 499)
    rng = np.random.default_rng(1)
    p_values = [
        movement.p_value
        for seed in range(200)
        for movement in compare.compare_runs(random_run(rng), random_run(rng), seed=seed)
        if movement.p_value is not None
    ]
    assert len(p_values) == 400
    # 40 of 400 are expected at .1; 62 or more come with a probability of 1 in 3,000.
    assert sum(p_value <= 0.1 for p_value in p_values) <= 61


def test_small_movements_of_the_first_token_are_rounding_and_large_ones_are_not() -> None:
    rng = np.random.default_rng(2)
    earlier = random_run(rng)
    small, large = (compare.compare_runs(earlier, random_run(rng, first=first))[0] for first in (0.62, 0.75))
    assert small.p_value == large.p_value  # both are beyond any exchange
    assert (small.moved, large.moved) == (False, True)
    assert large.after == pytest.approx(0.15, abs=0.01)
    assert compare.compare_runs(earlier, random_run(rng, shift=1.5))[1].moved


class Model:
    """Answers of six words, drawn at a temperature from the lists that come with them."""

    def __init__(self) -> None:
        self.rng, self.temperature, self.has_logprobs = np.random.default_rng(4), 1.0, True
        self.name, self.fingerprint = "m-2026-01", "fp_1"

    def __call__(self, request: Received) -> Response:
        scaled = LOGITS / self.temperature
        logprobs = scaled - math.log(np.exp(scaled).sum())
        drawn = self.rng.choice(len(WORDS), size=6, p=np.exp(logprobs))
        pairs = zip(WORDS, logprobs.tolist(), strict=True)
        top = [{"token": word, "logprob": value, "bytes": None} for word, value in pairs]
        content = [{**top[place], "top_logprobs": top} for place in drawn]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": " ".join(WORDS[place] for place in drawn)},
            "logprobs": {"content": content} if self.has_logprobs else None,
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26}
        names = {"model": self.name, "system_fingerprint": self.fingerprint}
        return json_response({**names, "choices": [choice], "usage": usage})


def arguments(server: FaultServer, path: Path) -> list[str]:
    return [
        *("doctor", "--canary", "--provider", "openai-compatible", "--model", "m", "--base-url", server.url),
        *("--canary-file", str(path)),
    ]


def test_a_model_that_changes_is_noticed_and_one_that_does_not_is_not(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = Model(), tmp_path / "new" / "canary.json"
    fault_server.serve(model)
    command = arguments(fault_server, path)
    assert run(command) == 0
    shown = capsys.readouterr()
    assert "first run" in shown.out
    assert f"at most {len(QUESTIONS) * ANSWERS * MAX_TOKENS:,} tokens of answers" in shown.err
    assert len(fault_server.requests) == len(QUESTIONS) * ANSWERS
    assert {request.json["max_tokens"] for request in fault_server.requests} == {MAX_TOKENS}

    assert run([*command, "--fail"]) == 0
    assert "have not changed" in capsys.readouterr().out

    model.temperature = 2.5
    assert run([*command, "--fail", "--json"]) == 7
    document = json.loads(capsys.readouterr().out)
    assert (document["count"], document["answers"], document["moved"]) == (3, 48, True)
    for earlier in ("since_last", "since_first"):
        moved = {movement["name"] for movement in document[earlier]["movements"] if movement["moved"]}
        assert {"first_token", "entropy"} <= moved

    # The new state is the last one now, and still differs from the first.
    assert run([*command, "--fail"]) == 7
    shown_text = capsys.readouterr().out
    assert "have not changed" in shown_text
    assert "Since the first run" in shown_text

    # Neither questions nor answers are in the file, which only its owner may read.
    content = path.read_text()
    assert not any(word in content for word in (*WORDS, "colour", "tomato"))
    assert path.stat().st_mode & 0o777 == 0o600


def test_logprobs_that_no_longer_come_are_a_change(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = Model(), tmp_path / "canary.json"
    fault_server.serve(model)
    assert run(arguments(fault_server, path)) == 0
    model.has_logprobs = False
    assert run([*arguments(fault_server, path), "--fail"]) == 7
    assert "no longer there" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "fingerprint"), [("m-2026-06", "fp_1"), ("m-2026-01", "fp_2")])
def test_a_new_name_in_the_replies_is_reported_and_alone_is_no_failure(
    name: str, fingerprint: str, fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = Model(), tmp_path / "canary.json"
    fault_server.serve(model)
    assert run([*arguments(fault_server, path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identities"] == ["fp_1", "m-2026-01"]
    model.name, model.fingerprint = name, fingerprint
    assert run([*arguments(fault_server, path), "--fail"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"fp_1, m-2026-01 → {fingerprint}, {name}" in shown


def test_failed_requests_leave_the_file_as_it_is(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "canary.json"
    fault_server.serve(Model())
    assert run(arguments(fault_server, path)) == 0
    before = path.read_bytes()
    fault_server.serve(lambda request: error(401, "no"))
    assert run(arguments(fault_server, path)) == 3
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["{", '{"format": 1}', "[]", '{"format": 2}', "\xff"])
def test_a_damaged_file_is_an_error_before_anything_is_sent(
    damage: str, fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "canary.json"
    path.write_text(damage, encoding="latin-1")
    assert run([*arguments(fault_server, path), "--json"]) == 3
    assert "canary runs" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not fault_server.requests


def test_numbers_that_no_answer_has_are_damage_too(
    fault_server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "canary.json"
    fault_server.serve(Model())
    assert run(arguments(fault_server, path)) == 0
    content = json.loads(path.read_text())
    for change in ("share", "questions"):
        other = json.loads(json.dumps(content))
        if change == "share":
            other["last"]["first_tokens"][0][0][0] = 7.0
        else:
            del other["first"]["statistics"][-1]
        path.write_text(json.dumps(other))
        assert run(arguments(fault_server, path)) == 3
    path.write_text(json.dumps({**content, "model": "another"}))
    assert run(arguments(fault_server, path)) == 3
    # Runs of other questions cannot be compared: the canary begins again.
    path.write_text(json.dumps({**content, "questions": "another"}))
    capsys.readouterr()
    assert run(arguments(fault_server, path)) == 0
    assert "first run" in capsys.readouterr().out


def test_the_default_file_is_in_the_users_state_folder(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    fault_server.serve(Model())
    assert run([*arguments(fault_server, tmp_path / "x")[:-2], "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert path.parent == tmp_path / "swift-client" / "canary"
    assert path.exists()


def test_options_of_the_canary_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--fail"]) == 2
    assert "--canary" in capsys.readouterr().err
