"""Tests of best_of(stopping=...) over real HTTP: requests, the end, cancellation, and the Selection."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swift_client import AsyncSwiftReranker, Completion, SwiftReranker
from swift_client.errors import NoCompletionError
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.stopping import STOPPING_RULES, stopping_rule
from swift_client.stopping.monitor import WAVE_SIZES, arrival_counts, build_votes
from swift_client.types import Selection
from tests.servers import FaultServer, Received, Response, after, chat, error, hang

Make = Callable[..., AsyncSwiftReranker]
FOUR, FIVE = "The answer is 4", "The answer is 5"


@pytest.fixture
async def reranker(fault_server: FaultServer) -> AsyncIterator[Make]:
    """Make rerankers of the fault server, and close them."""
    instances = []

    def make(provider: str = "openai-compatible", **options: Any) -> AsyncSwiftReranker:
        instances.append(AsyncSwiftReranker(provider, "m", base_url=fault_server.url, **{"max_retries": 0, **options}))
        return instances[-1]

    yield make
    for client in instances:
        await client.aclose()


def requested_counts(server: FaultServer) -> list[int]:
    return [request.json.get("n") or 1 for request in server.requests]


async def test_a_unanimous_vote_ends_after_the_wave_that_settles_it(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("q", n=16, stopping="beta")

    assert requested_counts(fault_server) == [1, 1, 1, 1]  # beta stops a unanimous vote at 4 (Adaptive-Consistency)
    assert len(selection.candidates) == 4
    stopped = selection.stopped
    assert stopped is not None
    assert (stopped.rule, stopped.after, stopped.planned) == ("beta", 4, 16)
    assert stopped.posterior == pytest.approx(0.96875)  # 1 - I_{1/2}(5, 1)
    assert "stops after 4 of 16" in stopped.reason
    assert stopped.saved_tokens == selection.usage.completion_tokens / 4 * 12
    assert selection.usage.completion_tokens == 4 * 4
    assert not selection.usage.estimated
    assert not selection.notes
    assert not selection.failures
    assert selection.to_dict()["stopped"]["after"] == 4


async def test_without_a_rule_all_are_asked_for_at_once_and_nothing_is_said_of_stopping(
    fault_server: FaultServer, reranker: Make
) -> None:
    selection = await reranker().best_of("q", n=16)

    assert requested_counts(fault_server) == [16]
    assert selection.stopped is None


async def test_answers_that_differ_are_drawn_to_the_end_in_growing_waves(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.answers = tuple(f"The answer is {number}" for number in range(16))
    selection = await reranker().best_of("q", n=16, stopping="auto")

    assert requested_counts(fault_server) == [1, 1, 1, 1, 2, 2, 4, 4]
    assert sum(requested_counts(fault_server)) == len(selection.candidates) == 16
    assert selection.stopped is not None
    assert selection.stopped.after == 16
    assert selection.stopped.saved_tokens == 0
    assert selection.stopped.reason == "All 16 completions were sampled."


async def test_calls_under_way_are_cancelled_when_there_is_enough_and_their_cost_is_called_an_estimate(
    fault_server: FaultServer, reranker: Make
) -> None:
    numbers = itertools.count()

    def serve(request: Received) -> Response:
        return chat([FOUR]) if next(numbers) < 9 else hang()

    fault_server.serve(serve)
    start = time.perf_counter()
    selection = await reranker("ollama", timeout=30.0).best_of("q", n=16, stopping="beta:threshold=0.999")

    # Calls of one completion: 1, 1, 1, 1, 2, 2, then 4 of which one comes. 9 : 0 is 1 - 1/1024, so three are cut.
    assert time.perf_counter() - start < 10
    assert len(fault_server.requests) == 12
    assert selection.stopped is not None
    assert selection.stopped.after == 9
    assert selection.failures == ()
    assert selection.usage.calls == 12
    assert selection.usage.estimated
    assert selection.usage.completion_tokens == 12 * 4  # 9 that came, 3 as the mean of those
    assert selection.usage.prompt_tokens == 12 * 7
    assert selection.stopped.saved_tokens == 4 * 4
    assert any("3 calls were cancelled" in note for note in selection.notes)
    assert not [task for task in asyncio.all_tasks() if "place" in repr(task)]


async def test_a_call_that_fails_costs_the_rule_only_its_own_completions(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(error(500, "down"))
    selection = await reranker("ollama").best_of("q", n=16, stopping="beta")

    assert len(selection.candidates) >= 4  # after five calls, or six where two came at once
    assert selection.stopped is not None
    assert selection.stopped.posterior is not None
    assert selection.stopped.posterior >= 0.96875
    assert [failure.lost for failure in selection.failures] == [1]


async def test_where_every_call_fails_the_error_is_the_same_as_without_a_rule(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda request: error(500, "down"))
    with pytest.raises(NoCompletionError, match="None of 8 completions arrived"):
        await reranker().best_of("q", n=8, stopping="auto")


async def test_a_short_reply_is_made_up_for_before_the_next_wave(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.n_max = 1
    fault_server.answers = (FOUR, FIVE)
    selection = await reranker().best_of("q", n=10, stopping="beta:threshold=0.99")

    assert len(selection.candidates) == 10
    assert requested_counts(fault_server) == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]


async def test_min_completions_are_drawn_whatever_the_rule_says(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("q", n=16, min_completions=7, stopping="beta")

    assert len(selection.candidates) == 8  # after waves of 1, 1, 1, 1, 2, 2


async def test_seeds_are_those_of_a_draw_without_a_rule(fault_server: FaultServer, reranker: Make) -> None:
    await reranker("ollama").best_of("q", n=4, seed=10, stopping="esc")

    assert sorted(request.json["seed"] for request in fault_server.requests) == [10, 11, 12, 13]


async def test_a_late_completion_that_arrived_while_the_rule_was_asked_is_kept(
    fault_server: FaultServer, reranker: Make
) -> None:
    slow = itertools.count()

    def serve(request: Received) -> Response:
        return after(0.05 * next(slow), chat([FOUR]))

    fault_server.serve(serve)
    pool_sizes: list[int] = []

    def scorer(completions: Sequence[Completion]) -> list[float]:
        pool_sizes.append(len(completions))
        time.sleep(0.3)
        return [0.0] * len(completions)

    selection = await reranker("ollama", scorer=scorer).best_of("q", n=16, stopping="beta")
    assert selection.stopped is not None
    # Nothing that came is lost: the last choice is among all of them.
    assert len(selection.candidates) == selection.stopped.after == pool_sizes[-1]


def test_the_sync_face_takes_the_same_argument(fault_server: FaultServer) -> None:
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = reranker.best_of("q", n=16, stopping=stopping_rule("esc:size=3"))

    assert len(selection.candidates) == 3
    assert selection.stopped is not None
    assert selection.stopped.rule == "esc:size=3"
    assert selection.stopped.posterior is None


WORDS = ("This", "Art", "Law", "Love", "Work", "Time", "Luck", "Play")


async def test_a_vote_that_is_given_up_says_nothing_to_rules_that_count(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.answers = tuple(
        f"Well, it depends on what you mean by that. {word} is one way to see it." for word in WORDS
    )
    selection = await reranker().best_of("q", n=8, stopping="beta")

    assert len(selection.candidates) == 8
    assert selection.stopped is not None
    assert selection.stopped.posterior is None


@given(st.lists(st.sampled_from([FOUR, FIVE, "So I do not know.", ""]), min_size=1, max_size=12), st.booleans())
@example(["So I do not know."] * 3, False)
def test_rules_see_the_votes_of_the_choice(texts: list[str], cut: bool) -> None:
    completions = [
        Completion(text=text, index=index, finish_reason="length" if cut and index % 3 == 0 else "stop")
        for index, text in enumerate(texts)
    ]
    selection = select_best(completions, SelectionConfig(answer="number"))
    votes = build_votes(selection, n=16, scorer="mean_logprob")

    # In a consensus of texts, a weight is of a text and says nothing about answers.
    voted = [selection.method == "vote" and candidate.weight > 0 for candidate in selection.candidates]
    assert (votes.answers[0] >= 0).tolist() == voted
    for one, other in itertools.combinations(range(len(texts)), 2):
        if voted[one] and voted[other]:
            same = selection.candidates[one].answer == selection.candidates[other].answer
            assert (votes.answers[0, one] == votes.answers[0, other]) == same


@pytest.mark.parametrize("name", [name for name in STOPPING_RULES if name != "esc"])
def test_every_rule_serves_the_packaged_model(name: str, pocket_selection: Callable[[str], Selection]) -> None:
    selection = pocket_selection(name)

    stopped = selection.stopped
    assert stopped is not None
    assert stopped.after == len(selection.candidates) <= stopped.planned == 8
    assert stopped.after in set(itertools.accumulate((*WAVE_SIZES, 4)))
    assert stopped.reason
    if stopped.after < 8:
        assert stopped.saved_tokens > 0


@pytest.fixture(scope="module")
def pocket_selection() -> Any:
    """Ask the packaged model one question under a rule."""
    pytest.importorskip("xllamacpp")
    with SwiftReranker("pocket") as reranker:
        yield lambda rule: reranker.best_of("What is 3 + 4?", n=8, temperature=0.8, seed=1, stopping=rule)


@pytest.mark.parametrize(
    ("n", "waves", "counts"),
    [(1, (2, 3), [1]), (5, (2, 3), [2, 5]), (9, (2, 3), [2, 5, 8, 9]), (16, WAVE_SIZES, [1, 2, 3, 4, 6, 8, 12, 16])],
)
def test_a_rule_is_asked_after_each_wave_and_after_all(n: int, waves: tuple[int, ...], counts: list[int]) -> None:
    assert arrival_counts(n, waves) == counts
