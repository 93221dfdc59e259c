"""Tests of replayed stopping rules, against a plain loop that chooses as ``best_of`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scorio.aggregate.confidence import token_confidence
from scorio.aggregate.online import deepconf_online_stop, deepconf_stop_threshold

from swift_client import answers, training
from swift_client.adapters import Reply
from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.errors import ArtifactMismatchError, ConfigurationError
from swift_client.evaluation.simulation import aborts
from swift_client.evaluation.simulation.aborts import Traces
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.features import DEFAULT_RESPONSE_TERMS
from swift_client.models import HeadArtifact, save
from swift_client.report.charts.stopping import place_numbers, savings_svg
from swift_client.sampling import AbortMonitor, parse_abort
from swift_client.scoring.streaming import StreamingScore
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.selection.voting import draw_orders
from swift_client.stopping import STOPPING_RULES, StoppingRule, Verdicts, Votes
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training.fit import fit
from swift_client.training.recipes import RECIPES
from swift_client.types import Completion, Usage

from .graded import graded_groups

N, ORDERS, SEED = 6, 4, 3


@cache
def head(*, agreement: bool = False) -> HeadArtifact:
    terms = (*DEFAULT_RESPONSE_TERMS, "agreement") if agreement else DEFAULT_RESPONSE_TERMS
    recipe = replace(RECIPES["default"], terms=terms, identity=(), epochs=8)
    artifact = fit(graded_groups(40), provider="p", model="m", recipe=recipe).artifact
    return replace(artifact, training={})


@cache
def messy() -> tuple[Group, ...]:
    """Questions whose completions are sometimes cut, without an answer or without tokens."""
    rng = np.random.default_rng(5)
    nothing = np.zeros(0, np.float32)

    def spoil(completion: Completion) -> Completion:
        match int(rng.integers(9)):
            case 0:
                return replace(completion, finish_reason="length")
            case 1:
                return replace(completion, text="Let me think about something else, which has no answer at all.")
            case 2:
                empty_logprobs = {"logprobs": nothing, "top_logprobs": np.zeros((0, 8), np.float32)}
                return replace(completion, tokens=(), censored=np.zeros(0, np.bool_), **empty_logprobs)
        return completion  # fmt: skip

    groups = graded_groups(12, n=N, seed=9)
    return tuple(replace(group, completions=tuple(map(spoil, group.completions))) for group in groups)


def ordered(group: Group, draw: Sequence[int]) -> list[Completion]:
    return [replace(group.completions[index], index=place) for place, index in enumerate(draw)]


Step = tuple[Votes, float, int]
"""What a rule sees, the label of what would be chosen, and the tokens spent."""


@cache
def steps(scored_by: str) -> list[list[Step]]:
    """Return the votes of each question and order after 1, 2, ... completions."""
    artifact = HEADS[scored_by]()
    replays = []
    for group in messy():
        for draw in draw_orders(N, N, max_subsets=ORDERS, seed=SEED):
            completions = ordered(group, draw.tolist())
            replay: list[Step] = []
            for n_seen in range(1, N + 1):
                selection = select_best(completions[:n_seen], SelectionConfig(scorer=artifact or "mean_logprob"))
                readings = answers.read(
                    [completion.text if completion.complete else "" for completion in completions[:n_seen]], "auto"
                )
                finished_candidates = [
                    candidate if candidate.completion.complete else None for candidate in selection.candidates
                ]
                ballots = Votes.from_lists(
                    readings.groups,
                    n=N,
                    probabilities=[candidate and candidate.probability for candidate in finished_candidates]
                    if artifact
                    else None,
                    scores=[candidate and candidate.score for candidate in finished_candidates],
                    vote_weights=[candidate.weight for candidate in selection.candidates],
                    beta=artifact.beta if artifact else 1.0,
                    costs=artifact.stopping_costs if artifact else (),
                )
                label = float(group.labels[draw[selection.winner]])
                replay.append((ballots, label, sum(len(completion.tokens) for completion in completions[:n_seen])))
            replays.append(replay)
    return replays


def by_hand(rule: StoppingRule, scored_by: str, looks: Sequence[int]) -> tuple[float, float, float]:
    """Return accuracy, completions drawn and share of tokens of the vote, one replay after the other."""
    stops = [
        next(replay[n_seen - 1] for n_seen in looks if rule(replay[n_seen - 1][0]).stop) for replay in steps(scored_by)
    ]
    return (
        float(np.mean([label for _, label, _ in stops])),
        float(np.mean([ballots.n_seen for ballots, _, _ in stops])),
        sum(tokens for *_, tokens in stops) / sum(replay[-1][2] for replay in steps(scored_by)),
    )


HEADS = {
    "no head": lambda: None,
    "head": head,
    "agreeing head": lambda: head(agreement=True),
    "head with its own β and costs": lambda: replace(
        head(), beta=2.0, stopping_costs=((0.0, 0.0), (1.0, 0.02), (3.0, 0.3))
    ),
}


@pytest.mark.parametrize(
    ("name", "scored_by"),
    [
        (name, by)
        for name, row in STOPPING_RULES.items()
        for by in HEADS
        if by != "no head" or "probabilities" not in row.needs
    ],
)
def test_a_replay_equals_a_loop_that_asks_the_rule_and_chooses_at_the_end(name: str, scored_by: str) -> None:
    rule = STOPPING_RULES[name]
    result = simulate(
        messy(),
        HEADS[scored_by](),
        rules=[rule],
        n=N,
        orders=ORDERS,
        seed=SEED,
        split="all",
        answer="auto",
        resamples=10,
    )
    row = result.row(name, "vote")
    numbers = (row.accuracy.value, row.completions.value, row.token_share.value)
    assert numbers == pytest.approx(by_hand(rule, scored_by, range(1, N + 1)), abs=1e-12)


def test_waves_ask_only_after_each_wave() -> None:
    row = simulate(messy(), rules="beta", n=N, orders=ORDERS, seed=SEED, waves=(1, 3), resamples=10, answer="auto").row(
        "beta", "vote"
    )
    numbers = (row.accuracy.value, row.completions.value, row.token_share.value)
    assert numbers == pytest.approx(by_hand(STOPPING_RULES["beta"], "no head", (1, 4, 6)), abs=1e-12)


def test_a_rule_of_your_own_is_replayed_too() -> None:
    def third(ballots: Votes) -> Verdicts:
        return Verdicts(np.full(len(ballots.answers), ballots.n_seen >= 3), np.full(len(ballots.answers), np.nan))

    rule = StoppingRule(name="third", function=third, doc="after three", source="me")
    simulation = simulate(messy(), rules=[rule, "fixed:3"], n=N, orders=ORDERS, resamples=10)
    assert simulation.row("third").completions.value == 3
    assert simulation.row("third").accuracy == simulation.row("fixed:3").accuracy


def test_the_posterior_choice_is_the_most_probable_answer() -> None:
    """0.6 and 0.6 against 0.9: a count (β = 0) says the two, the odds 1.5 · 1.5 < 9 say the one."""
    table = {"a": 0.6, "b": 0.6, "c": 0.9}
    lone = {"c": "5"}
    completions = tuple(
        Completion(
            text=f"The answer is {lone.get(name, '4')}",
            index=index,
            tokens=(name,),
            logprobs=np.full(1, np.log(table[name]), np.float32),
            top_logprobs=np.full((1, 1), np.log(table[name]), np.float32),
            censored=np.zeros(1, np.bool_),
        )
        for index, name in enumerate("abc")
    )
    group = Group(question_id="q", completions=completions, labels=np.array([0.0, 0.0, 1.0]))
    artifact = replace(by_probability(), beta=0.0)
    simulation = simulate([group], artifact, rules=["posterior:threshold=0.999"], n=3, split="all", resamples=2)
    assert (simulation.row("posterior:threshold=0.999", "posterior").accuracy.value) == 1.0
    assert (simulation.row("posterior:threshold=0.999", "vote").accuracy.value) == 0.0


def by_probability() -> HeadArtifact:
    """Return a head whose probability is that of the only token: sigmoid(log p - log(1 - p)) by isotonic points."""
    from swift_client.models import GatedLinearHead, IsotonicCalibration, Standardizer

    points = np.log([0.5, 0.6, 0.9, 0.95])
    return HeadArtifact(
        features=("logprob",),
        width=1,
        standardizer=Standardizer(mean=[0.0], scale=[1.0]),
        head=GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[1.0], reward_bias=0.0),
        calibration=IsotonicCalibration(x=points, y=np.exp(points)),
        provider="p",
        model="m",
        k_min=0,
        k_max=1,
        training={},
        licence="none",
    )


class TestDeepConf:
    @staticmethod
    def replay(keep: float, warm: int) -> tuple[list[int], list[float], list[float]]:
        """Replay DeepConf in a plain loop, with scorio's thresholds and stopping points."""
        draws, tokens, right = [], [], []
        for group in messy():
            answer_texts = [completion.text if completion.complete else "" for completion in group.completions]
            groups = answers.read(answer_texts, answers.READERS["auto"]).groups
            for draw in draw_orders(N, N, max_subsets=ORDERS, seed=SEED).tolist():
                traces = [group.completions[number] for number in draw]
                lists = [trace.top_logprobs.astype(np.float64) for trace in traces]
                lows = [lowest(trace_lists) for trace_lists in lists]
                bar = deepconf_stop_threshold(lows[:warm], keep=keep)
                trace_groups = [groups[number] for number in draw]
                spent: list[int] = []
                voters: list[tuple[int, int]] = []
                for place, trace_lists in enumerate(lists):
                    length = len(trace_lists)
                    end = length - 1
                    if place >= warm and length >= aborts.WINDOW:
                        stop = deepconf_online_stop(trace_lists, bar, window=aborts.WINDOW)
                        end = length - 1 if stop is None else stop
                    spent.append(end + 1 if length else 0)
                    group_of = trace_groups[place]
                    if end == length - 1 and group_of is not None:
                        voters.append((place, group_of))
                    weights: dict[int, float] = {}
                    for index, answer in voters:
                        weights[answer] = weights.get(answer, 0.0) + max(lows[index], 1e-9)
                    share = max(weights.values(), default=0.0) / (sum(weights.values()) or 1.0)
                    if place + 1 >= warm and (share >= aborts.CONSENSUS_SHARE or place + 1 == N):
                        break
                leader = max(weights, key=weights.__getitem__)
                best = max((number for number, answer in voters if answer == leader), key=lambda number: lows[number])
                draws.append(place + 1)
                tokens.append(sum(spent))
                right.append(group.labels[draw[best]])
        return draws, tokens, right

    @pytest.mark.parametrize("name", aborts.KEEP_SHARES)
    def test_it_breaks_off_and_votes_as_a_loop_over_scorios_rules(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(aborts, "WINDOW", 4)
        draws, tokens, right = self.replay(aborts.KEEP_SHARES[name], warm=1)
        full = sum(len(completion.tokens) for group in messy() for completion in group.completions) * ORDERS
        marked = answers.READERS["auto"]  # never gives up the vote, as "auto" itself may
        row = simulate(messy(), rules=[name], n=N, orders=ORDERS, seed=SEED, answer=marked, resamples=10).row(name)
        assert row.completions.value == pytest.approx(np.mean(draws))
        assert row.token_share.value == pytest.approx(sum(tokens) / full)
        assert row.accuracy.value == pytest.approx(np.mean(right))

    def test_a_trace_is_charged_up_to_the_token_that_falls_under_the_bar(self) -> None:
        trace = Traces(running_minima=(np.array([5.0, 4.0, 4.0, 2.0]),), tokens=np.array([7]))
        assert trace.tokens_spent(0, np.array([1.0, 2.0, 3.0, 4.5, 6.0])).tolist() == [7, 7, 7, 5, 4]


@pytest.mark.parametrize("scored_by", HEADS)
@pytest.mark.parametrize("spec", ["deepconf:warmup=2:window=3", "deepconf:warmup=1:window=2:keep=0.3", "head:warmup=2"])
def test_streams_are_closed_as_best_of_closes_them(spec: str, scored_by: str) -> None:
    rule, artifact = parse_abort(spec + (":window=3" if spec.startswith("head") else "")), HEADS[scored_by]()
    assert rule is not None
    name = "abort_" + spec + (":window=3" if rule.by == "head" else "")
    if artifact is None and rule.by == "head":
        with pytest.raises(ConfigurationError, match="needs a calibrated head"):
            simulate(messy(), rules=[name], n=N)
        return
    spent, right, closed = 0, [], 0
    for group in messy():
        for draw in draw_orders(N, N, max_subsets=ORDERS, seed=SEED):
            aborting = AbortMonitor(rule, (lambda: StreamingScore(artifact)) if artifact else None)
            streams = [streamed(completion, aborting) for completion in ordered(group, draw.tolist())]
            selection = select_best(streams, SelectionConfig(scorer=artifact or "mean_logprob"))
            spent += sum(len(completion.tokens) for completion in streams)
            right.append(group.labels[draw[selection.winner]])
            closed += len(aborting.closed_lengths)
    assert closed > 10
    full = sum(len(completion.tokens) for group in messy() for completion in group.completions) * ORDERS
    options = {"n": N, "orders": ORDERS, "seed": SEED, "split": "all", "answer": "auto", "resamples": 10}
    row = simulate(messy(), artifact, rules=[name], **options).row(name)  # type: ignore[arg-type]
    assert row.completions.value == N
    assert row.token_share.value == pytest.approx(spent / full)
    assert row.accuracy.value == pytest.approx(np.mean(right))


def streamed(full_completion: Completion, aborting: AbortMonitor) -> Completion:
    """Stream a completion token by token under a rule; what falls at its last token has ended."""
    trace = aborting.begin()

    def part(start: int, stop: int) -> Completion:
        rows = {
            name: getattr(full_completion, name)[start:stop]
            for name in ("tokens", "logprobs", "top_logprobs", "censored")
        }
        return replace(full_completion, **rows)

    for index in range(len(full_completion.tokens)):
        if trace.below_threshold(part(index, index + 1)) and index + 1 < len(full_completion.tokens):
            return aborting.truncate_reply(Reply(completions=(part(0, index + 1),), usage=Usage())).completions[0]
    aborting.record_finished(trace, Reply(completions=(full_completion,), usage=Usage()))
    return full_completion


def lowest(lists: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    if not len(lists):
        return 0.0
    confidence = token_confidence(lists)
    window = min(aborts.WINDOW, len(confidence))
    return min(float(confidence[index : index + window].mean()) for index in range(len(confidence) - window + 1))


def test_all_n_by_majority_is_what_every_rule_is_compared_with() -> None:
    simulation = simulate(messy(), head(), n=N, orders=ORDERS, split="all", resamples=50)
    row = simulation.row(f"fixed:{N}", "majority")
    assert (row.minus_majority.value, row.minus_majority.low, row.minus_majority.high) == (0, 0, 0)
    assert (row.token_share.value, row.completions.value) == (1, N)
    assert row.accuracy == simulation.majority
    voted = simulation.row(f"fixed:{N}", "vote")
    assert (voted.minus_vote.value, voted.minus_vote.low, voted.minus_vote.high) == (0, 0, 0)
    for other in simulation.rows:
        assert other.minus_vote.value == pytest.approx(other.accuracy.value - voted.accuracy.value)


def test_a_sweep_adds_the_other_values_of_a_rule() -> None:
    simulation = simulate(messy(), rules="beta", n=N, orders=2, sweep=True, resamples=2)
    assert {row.name for row in simulation.rows if row.swept} == {
        f"beta:threshold={value:g}" for value in (0.8, 0.9, 0.93, 0.98, 0.99)
    }


def test_questions_with_too_few_completions_or_no_label_are_left_out_and_reported() -> None:
    few, none, *rest = messy()
    few = replace(few, completions=few.completions[:3], labels=few.labels[:3])
    none = replace(none, labels=np.full(N, np.nan))
    simulation = simulate([few, none, *rest], rules="beta", n=N, orders=2, resamples=2)
    assert simulation.questions == len(rest)
    assert {note.split(" questions")[0] for note in simulation.notes if "left out" in note and "questions" in note} == {
        "1"
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": "guess"}, "no stopping rule 'guess'"),
        ({"rules": "posterior"}, "needs a calibrated head"),
        ({"rules": "fixed:7"}, "is not a fixed number from 1 to 6"),
        ({"n": 0}, "must all be 1 or more"),
        ({"n": 60}, "has 60 completions"),
        ({"waves": ()}, "must be numbers from 1"),
        ({"split": "half"}, "no split 'half'"),
    ],
)
def test_what_cannot_be_replayed_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        simulate(messy(), **{"n": N, **arguments})  # type: ignore[arg-type]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=8))
        groups = graded_groups(6, n=4, seed=2)
        store.add_questions(
            StoredQuestion(id=group.question_id, messages=({"role": "user", "content": "?"},), answer="4")
            for group in groups
        )
        for group in groups:
            usage = Usage(prompt_tokens=9, completion_tokens=40, calls=1)
            store.add_samples(group.question_id, group.completions, usage=usage)
    return path


def test_a_head_for_another_model_is_refused(samples: Path) -> None:
    with pytest.raises(ArtifactMismatchError):
        simulate(samples, replace(head(), model="other"), n=4)


def test_the_command_prints_one_document_and_draws_one_picture(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, svg = tmp_path / "head.safetensors", tmp_path / "curve.svg"
    save(head(), path)
    arguments = ["simulate", str(samples), "--head", str(path), "--split", "all", "--n", "4", "--orders", "3"]
    assert run([*arguments, "--svg", str(svg), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prompt_tokens"] == 9
    assert {row["name"] for row in document["rows"]} >= {"auto", "beta", "posterior", "deepconf_low", "fixed:4"}
    assert document == json.loads(json.dumps(training.simulate(samples, path, split="all", n=4, orders=3).to_dict()))
    assert ElementTree.fromstring(svg.read_text()).tag.endswith("svg")  # noqa: S314
    assert run(arguments) == 0
    assert "cannot_change" in capsys.readouterr().out


def test_the_picture_has_a_number_for_every_rule_and_a_dot_for_every_value() -> None:
    simulation = simulate(messy(), rules=["fixed:1", "fixed:6", "beta"], n=N, orders=2, sweep=True, resamples=2)
    picture = savings_svg(simulation)
    assert picture.count("<circle") == 2 + 1 + 5
    assert "1  fixed:1" in picture
    assert "beta</text>" in picture


def eighths(low: int, high: int) -> st.SearchStrategy[float]:
    """Draw coordinates whose distances are exact in binary."""
    return st.integers(8 * low, 8 * high).map(lambda eighth: eighth / 8)


@given(st.lists(st.tuples(eighths(60, 480), eighths(40, 250)), min_size=1, max_size=20))
def test_numbers_stand_beside_their_dots_and_do_not_overlap_where_there_is_room(
    dots: list[tuple[float, float]],
) -> None:
    places = place_numbers(dots)

    for (x, y), (dot_x, dot_y) in zip(places, dots, strict=True):
        assert 9 <= max(abs(x - dot_x), abs(y - dot_y)) <= 12
    # Dots that are far from all others have a number that touches nothing.
    for index, (x, y) in enumerate(dots):
        neighbours = [dot for other, dot in enumerate(dots) if other != index]
        if all(abs(x - other_x) > 40 or abs(y - other_y) > 40 for other_x, other_y in neighbours):
            assert places[index] == (x, y - 11)


def test_numbers_of_rules_that_are_close_to_each_other_are_apart() -> None:
    """Places of the 16 rules of docs/images/savings.svg, of which numbers above the dots overlapped."""
    dots = [(330.0, 70.7), (328.0, 85.4), (354.0, 77.2), (356.0, 68.8), (296.0, 78.0), (245.0, 72.9)]
    places = place_numbers(dots)

    for index, (x, y) in enumerate(places):
        assert all(abs(x - other_x) >= 12 or abs(y - other_y) >= 10 for other_x, other_y in places[:index])
        assert all(abs(x - dot_x) >= 8 or abs(y - dot_y) >= 8 for dot_x, dot_y in dots)


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", "missing.db", "--svg", str(tmp_path / "no" / "x.svg")]) == 3
    assert "cannot be written" in " ".join(capsys.readouterr().err.split())
