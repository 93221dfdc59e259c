"""Tests of ``drift=``: what a reranker does while its model no longer answers as in its head's reference."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from swift_client import Cascade, Event, Selection, SwiftReranker
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ArtifactError, ConfigurationError, RejectedError
from swift_client.models import HeadArtifact, load, save
from swift_client.monitoring import STATISTICS, DriftGuard, build_profile, question_statistics
from swift_client.monitoring.profile import with_acceptances
from swift_client.selection.select import SelectionConfig, score_completions
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training import recipe_of, train
from swift_client.types import Completion, Usage
from tests.graded import graded_groups
from tests.servers import FaultServer, chat_body, json_response, sse
from tests.test_cascade import SURE, acceptance
from tests.test_cascade import head as plain_head

N = 4
CHANGED = 1.5
QUESTION = ({"role": "user", "content": "What is 2 + 2?"},)


def draw(rng: np.random.Generator, index: int, hesitation: float) -> Completion:
    """Return an answer of 24 tokens, drawn from lists whose best token leads by about 4 nats less ``hesitation``."""
    logits = rng.normal(size=(24, 14))
    logits[:, 0] += 4.0 - hesitation + 0.5 * rng.normal()
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen = (logprobs + rng.gumbel(size=logprobs.shape)).argmax(axis=1)
    return Completion(
        text=f"{'x' * int(rng.integers(20, 60))} The answer is 4",
        index=index,
        tokens=("x",) * 24,
        logprobs=logprobs[np.arange(24), chosen].astype(np.float32),
        top_logprobs=-np.sort(-logprobs, axis=1)[:, :8].astype(np.float32),
        censored=np.zeros(24, np.bool_),
    )


class Model:
    """A model of its own whose answers hesitate more or less, as a server with another temperature would make them."""

    name = "lab"

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.hesitation = 0.0
        self.model, self.fingerprint = "m-1", "fp-a"

    def question(self) -> list[Completion]:
        return [draw(self.rng, index, self.hesitation) for index in range(N)]

    def complete(self, messages: object, n: int, **options: Any) -> Reply:
        completions = tuple(self.question()[:n])
        usage = Usage(completion_tokens=9)
        return Reply(completions=completions, usage=usage, model=self.model, system_fingerprint=self.fingerprint)


def head_of(model: Model, **facts: Any) -> HeadArtifact:
    """Return a head whose score is the mean logprob, with a profile of 200 questions of the model."""
    base = replace(plain_head(acceptance(SURE)), provider="lab", model="m", **facts)
    rows = []
    for _ in range(200):
        scored = score_completions(model.question(), SelectionConfig(scorer=base, force_head=True))
        rows.append(question_statistics(scored.completions, scores=scored.scores.values, answers=scored.answers.groups))
    return replace(base, drift_profile=build_profile({N: rows}, fingerprints=("m-1", "fp-a")))


def ask(reranker: SwiftReranker, count: int, n: int = N, **options: Any) -> list[Selection]:
    return [reranker.best_of(f"question {number}", n=n, **options) for number in range(count)]


def drifted(drift: Any = "note", **options: Any) -> tuple[SwiftReranker, list[Selection]]:
    """Return a reranker after 32 questions as before and 64 of a changed model, with these 64 selections."""
    model = Model(1)
    reranker = SwiftReranker(model, "m", head=head_of(model), drift=drift, **options)
    before = ask(reranker, 32)
    assert not [note for selection in before for note in selection.notes if "reference" in note]
    assert all(selection.accepted for selection in before)
    model.hesitation = CHANGED
    return reranker, ask(reranker, 64)


def test_a_changed_model_is_noted_logged_and_sent_as_an_event(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    with caplog.at_level(logging.WARNING, logger="swift_client"):
        _, selections = drifted(on_event=events.append)
    changes = [event for event in events if event.kind == "drift"]
    assert {"entropy", "mean_logprob", "score"} <= {event.statistic for event in changes}
    assert [event.message for event in changes] == [record.getMessage() for record in caplog.records]
    assert all(event.provider == "lab" and event.model == "m" and event.n == N for event in changes)
    first = next(i for i, selection in enumerate(selections) if any("reference" in note for note in selection.notes))
    assert first < 48
    assert set(selections[first].notes) >= {changes[0].message}
    assert selections[-1].notes[-1].startswith("lab/m no longer answers as in the reference (")
    assert all(selection.accepted for selection in selections)


def test_withhold_accepts_no_answer_while_the_model_is_changed() -> None:
    reranker, selections = drifted("withhold")
    assert selections[0].accepted is True
    assert selections[-1].accepted is None
    assert selections[-1].scorer == "head lab/m"
    note = selections[-1].notes[-1]
    assert note.startswith("It is unknown whether the answer is accepted: lab/m no longer answers as in the reference")
    with pytest.raises(RejectedError, match="cannot be judged"):
        reranker.best_of("one more", n=N, on_reject="abstain")


def test_set_aside_chooses_as_without_a_head() -> None:
    _, selections = drifted("set_aside")
    assert selections[0].scorer == "head lab/m"
    last = selections[-1]
    assert (last.scorer, last.accepted, last.probability) == ("mean_logprob", None, None)
    (note,) = (note for note in last.notes if "no longer answers as in the reference (" in note)
    assert note.endswith("so the mean_logprob scorer is used instead.")


def test_the_head_is_used_again_once_the_model_answers_as_before() -> None:
    model = Model(2)
    reranker = SwiftReranker(model, "m", head=head_of(model), drift="set_aside")
    model.hesitation = CHANGED
    ask(reranker, 48)
    model.hesitation = 0.0
    assert ask(reranker, 160)[-1].scorer == "head lab/m"


@pytest.mark.parametrize("drift", ["note", None])
def test_nothing_is_compared_without_a_profile_or_with_none(drift: Any) -> None:
    model = Model(3)
    head = head_of(model)
    assert SwiftReranker(model, "m", head=head, drift=None).pipeline.config.drift is None
    without = SwiftReranker(model, "m", head=replace(head, drift_profile=None), drift=drift)
    assert without.pipeline.config.drift is None


@pytest.mark.parametrize("drift", ["withhold", "set_aside", DriftGuard("note")])
def test_an_action_without_a_reference_is_refused(drift: Any) -> None:
    with pytest.raises(ConfigurationError, match="no reference"):
        SwiftReranker(Model(4), "m", head=None, drift=drift)


@pytest.mark.parametrize("drift", ["warn", True, 3])
def test_an_unknown_action_is_refused(drift: Any) -> None:
    with pytest.raises(ConfigurationError, match="not an action on drift"):
        SwiftReranker(Model(4), "m", drift=drift)


def test_a_guard_of_ones_own_compares_without_a_head() -> None:
    model = Model(5)
    rows = [question_statistics(model.question()) for _ in range(100)]
    guard = DriftGuard(profile=build_profile({N: rows}))
    reranker = SwiftReranker(model, "m", head=None, drift=guard)
    model.hesitation = CHANGED
    ask(reranker, 64)
    (status,) = guard.status()
    assert (status.provider, status.model, status.questions) == ("lab", "m", 64)
    assert "entropy" in status.drifted
    assert {"accepted", "agreement", "score"}.isdisjoint(status.evidence)


def test_replies_of_the_store_are_not_compared_a_second_time(tmp_path: Path) -> None:
    model = Model(6)
    guard = DriftGuard()
    reranker = SwiftReranker(model, "m", head=head_of(model), drift=guard, store=tmp_path / "kept.db")
    ask(reranker, 5)
    ask(reranker, 5)
    assert guard.status()[0].questions == 5


def test_completions_drawn_after_a_rejection_are_not_compared_a_second_time() -> None:
    model = Model(7)
    rules = acceptance(50.0, stopping="cannot_change"), acceptance(50.0)
    guard = DriftGuard()
    reranker = SwiftReranker(model, "m", head=head_of(model, acceptances=rules), drift=guard)
    ask(reranker, 3, stopping="cannot_change", on_reject="escalate")
    # The profile has only questions of four completions, and a stopping rule promises one.
    assert (guard.status()[0].questions, guard.status()[0].skipped) == (0, 3)


def test_a_cascade_asks_the_next_member_while_answers_are_withheld() -> None:
    model, strong = Model(8), Model(9)
    cheap = SwiftReranker(model, "m", head=head_of(model), drift="withhold")
    cascade = Cascade([cheap, SwiftReranker(strong, "strong", head=None)])
    assert len(cascade.best_of("q", n=N).path) == 1
    model.hesitation = CHANGED
    ask(cheap, 64)
    assert len(cascade.best_of("q", n=N).path) == 2


def test_a_new_fingerprint_is_an_event_and_changes_nothing() -> None:
    model = Model(10)
    events: list[Event] = []
    reranker = SwiftReranker(model, "m", head=head_of(model), drift="withhold", on_event=events.append)
    ask(reranker, 2)
    model.fingerprint = "fp-b"
    selections = ask(reranker, 2)
    (event,) = (event for event in events if event.kind == "drift")
    assert event.statistic is None
    assert event.message == "lab/m names itself 'fp-b', which was not seen before."
    assert [event.message in selection.notes for selection in selections] == [True, False]
    assert all(selection.accepted for selection in selections)


def test_an_event_handler_that_fails_costs_no_answer() -> None:
    def fail(event: Event) -> None:
        if event.kind == "drift":
            raise SystemExit

    _, selections = drifted(on_event=fail)
    assert len(selections) == 64


@pytest.mark.parametrize("is_stream", [False, True])
def test_chat_replies_bring_their_model_and_system_fingerprint(is_stream: bool) -> None:
    body = {**chat_body(["4"], k=2), "model": "gpt-x-2026", "system_fingerprint": "fp_44"}
    names: list[str] = []

    class Recorder(DriftGuard):
        def observe(self, *args: Any, **options: Any) -> Any:
            names.extend(options["fingerprints"])
            return super().observe(*args, **options)

    rows = np.random.default_rng(0).normal(size=(40, len(STATISTICS)))
    with FaultServer() as server:
        if is_stream:
            choice = {"index": 0, "delta": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
            chunk = {**body, "object": "chat.completion.chunk", "choices": [choice]}
            server.script(sse([chunk]))
        else:
            server.script(json_response(body))
        drift = Recorder(profile=build_profile({1: rows}))
        with SwiftReranker("openai-compatible", "m", base_url=server.url, head=None, drift=drift) as reranker:
            reranker.best_of("q", n=1, deadline=9.0 if is_stream else None)
    assert names == ["gpt-x-2026", "fp_44"]


# --- heads


def test_training_stores_a_profile_in_the_head_that_its_own_questions_fit(tmp_path: Path) -> None:
    with SampleStore(tmp_path / "s.db", write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=8))
        for group in graded_groups(90, n=4, seed=1):
            store.add_questions([StoredQuestion(id=group.question_id, messages=QUESTION, answer="4")])
            store.add_samples(group.question_id, list(group.completions), usage=Usage())
    quick = replace(recipe_of("default"), epochs=2, identity=())
    result = train(tmp_path / "s.db", recipe=quick, out=tmp_path / "head.safetensors")
    artifact = load(tmp_path / "head.safetensors")
    profile, trained = artifact.drift_profile, result.artifact.drift_profile
    assert profile is not None
    assert trained is not None
    assert profile.sizes == (1, 4)
    assert np.array_equal(profile.edges, trained.edges)
    assert np.array_equal(profile.counts, trained.counts)
    by_statistic = dict(zip(profile.statistics, profile.counts[1].sum(axis=1), strict=True))
    assert by_statistic["entropy"] == by_statistic["agreement"] == 90
    assert 30 <= by_statistic["score"] < 60  # held-out questions only: two fifths
    assert by_statistic["accepted"] == 0

    guard = DriftGuard(profile=profile)
    config = SelectionConfig(scorer=artifact, force_head=True)
    for group in graded_groups(160, n=4, seed=2):
        scored = score_completions(group.completions, config)
        guard.observe(
            scored.completions,
            provider="p",
            model="m",
            scores=scored.scores.values,
            answers=scored.answers.groups,
        )
    (status,) = guard.status()
    assert status.questions == 160
    assert status.drifted == ()
    assert {"score", "agreement", "tokens"} <= status.evidence.keys()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"statistics": ["entropy"]}, "do not fit"),
        ({"sizes": ["4"]}, "is not a head"),
        ({"sizes": [4, 4]}, "sizes"),
        ({"sizes": [4.5]}, "sizes"),
        ({"statistics": [7] * 16}, "not text"),
        ({"fingerprints": ["x" * 9999]}, "fingerprints"),
    ],
)
def test_a_hostile_profile_is_refused(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save(head_of(Model(11)), path)
    load(path)
    with safetensors.safe_open(path, "np") as file:
        facts = json.loads(file.metadata()["swift_client"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts["drift"] |= change
    safetensors.numpy.save_file(tensors, path, {"swift_client": json.dumps(facts)})
    with pytest.raises(ArtifactError, match=problem):
        load(path)


def test_a_profile_without_its_tensors_or_tensors_without_a_profile_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save(head_of(Model(12)), path)
    with safetensors.safe_open(path, "np") as file:
        facts = json.loads(file.metadata()["swift_client"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: values for name, values in tensors.items() if not name.startswith("drift.")}
    safetensors.numpy.save_file(kept, path, {"swift_client": json.dumps(facts)})
    with pytest.raises(ArtifactError, match="has the parts"):
        load(path)
    del facts["drift"]
    safetensors.numpy.save_file(tensors, path, {"swift_client": json.dumps(facts)})
    with pytest.raises(ArtifactError, match="has the parts"):
        load(path)


def test_the_share_of_accepted_answers_is_that_of_the_heads_calibration() -> None:
    model = Model(9)
    found = replace(acceptance(SURE), questions=100, accepted=20)
    head = replace(head_of(model), acceptances=(found,))
    guard = DriftGuard()
    selections = ask(SwiftReranker(model, "m", head=head, drift=guard), 32)
    assert all(selection.accepted for selection in selections)
    (status,) = guard.status()
    assert status.drifted == ("accepted",)  # 32 of 32, after 20 of 100


@pytest.mark.parametrize("source", ["grades", "feedback"])
def test_shares_that_may_be_of_other_settings_or_not_all_choices_are_left_out(source: Any) -> None:
    found = replace(acceptance(SURE), questions=100, accepted=20, source=source)
    others = () if source == "feedback" else (replace(found, n=5),)
    profile = head_of(Model(9)).drift_profile
    assert profile
    column = list(STATISTICS).index("accepted")
    assert with_acceptances(profile, (found,)).counts[0, column].sum() == (100 if source == "grades" else 0)
    assert not with_acceptances(profile, (found, *others)).counts[0, column].any() or not others
    assert with_acceptances(profile, (found,)).quantile("accepted", 0.5, n=N) == (0.0 if source == "grades" else None)
