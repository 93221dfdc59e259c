"""Tests of many questions at once: order, ids, errors as values, one budget, flat memory, and clean ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Budget, Cascade, Completion, Selection, SwiftReranker
from swift_client.errors import BadRequestError, BudgetExceededError, ConfigurationError, SwiftClientError
from swift_client.types import Message
from tests.servers import FaultServer, Received, Response, after, chat, error, slow
from tests.test_cascade import SURE, UNSURE, acceptance, head


def prompt_of(request: Received) -> str:
    text: str = request.json["messages"][-1]["content"]
    return text


def answer_by_prompt(request: Received) -> Response:
    """Answer with texts that depend on the prompt, the seed and the place alone."""
    seed, prompt = request.json.get("seed", 0), prompt_of(request)
    if prompt == "bad":
        return error(400, "refused")
    return chat(
        [f"The answer is {(len(prompt) * 7 + seed + index) % 3}" for index in range(request.json.get("n") or 1)]
    )


@pytest.fixture
def server(fault_server: FaultServer) -> FaultServer:
    fault_server.serve(answer_by_prompt)
    return fault_server


def reranker(server: FaultServer, **settings: Any) -> SwiftReranker:
    return SwiftReranker("openai-compatible", "m", base_url=server.url, max_retries=0, **settings)


def async_reranker(server: FaultServer, **settings: Any) -> AsyncSwiftReranker:
    return AsyncSwiftReranker("openai-compatible", "m", base_url=server.url, max_retries=0, **settings)


def facts(selection: Selection) -> tuple[object, ...]:
    """Return everything that a choice depends on, but not its random id and its time."""
    texts = tuple((candidate.text, candidate.score, candidate.weight) for candidate in selection.candidates)
    return selection.text, selection.answer, selection.winner, texts, selection.usage


PROMPTS = ["question " + "x" * length for length in range(9)]


def test_selections_are_those_of_a_plain_loop_in_order(server: FaultServer) -> None:
    with reranker(server, max_concurrency=5) as client:
        loop = [client.best_of(prompt, 4, seed=3, temperature=0.5) for prompt in PROMPTS]
        many = list(client.best_of_many(PROMPTS, 4, seed=3, temperature=0.5))

    assert [facts(selection) for selection in many] == [facts(selection) for selection in loop]
    assert len({selection.id for selection in many}) == len(PROMPTS)
    bodies = [request.json for request in server.requests]
    half = len(PROMPTS)
    assert sorted(map(repr, bodies[:half])) == sorted(map(repr, bodies[half:]))


def test_both_clients_yield_the_same_from_lists_generators_and_async_generators(server: FaultServer) -> None:
    async def prompts() -> AsyncIterator[str]:
        for prompt in PROMPTS:
            await asyncio.sleep(0)
            yield prompt

    async def ask(source: Any) -> list[Selection]:
        async with async_reranker(server) as client:
            return [selection async for selection in client.best_of_many(source, 3)]

    with reranker(server) as client:
        expected = [facts(selection) for selection in client.best_of_many(iter(PROMPTS), 3)]
    for source in (PROMPTS, iter(PROMPTS), prompts()):
        assert [facts(selection) for selection in asyncio.run(ask(source))] == expected


def test_unordered_results_carry_the_id_or_the_index_and_come_as_they_are_ready(server: FaultServer) -> None:
    release = threading.Event()

    def serve(request: Received) -> Response:
        if prompt_of(request) == "slow":
            release.wait(5)
        return answer_by_prompt(request)

    server.serve(serve)
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "pair"}]
    items: list[Any] = [("first", "slow"), "quick", ("third", "quick too"), tuple(messages)]
    keys = []
    with reranker(server) as client:
        for key, selection in client.best_of_many(items, 2, in_order=False):
            keys.append(key)
            assert selection.candidates
            if len(keys) == 3:
                release.set()

    assert keys[-1] == "first"
    assert set(keys) == {"first", 1, "third", 3}
    assert [len(request.json["messages"]) for request in server.requests if prompt_of(request) == "pair"] == [2]


def test_errors_are_values_on_request_and_else_the_first_one_ends_everything(server: FaultServer) -> None:
    prompts = ["one", "bad", "", "four"]
    with reranker(server) as client:
        outcomes = list(client.best_of_many(prompts, 2, return_exceptions=True))
        pairs = dict(client.best_of_many(prompts, 2, return_exceptions=True, in_order=False))
        results = client.best_of_many(prompts, 2)
        next(results)
        with pytest.raises(BadRequestError, match="refused"):
            next(results)

    kinds = [Selection, BadRequestError, ConfigurationError, Selection]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert [type(pairs[index]) for index in range(4)] == kinds
    assert all(outcome.__traceback__ is None for outcome in outcomes if isinstance(outcome, SwiftClientError))


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ("one text", {}, "not str"),
        ({"a": "b"}, {}, "not dict"),
        (5, {}, "not int"),
        (["a"], {"concurrency": 0}, "concurrency"),
        (["a"], {"temprature": 1}, "temperature"),
        (["a"], {"max_concurrency": 4}, "max_concurrency"),
        (["a"], {"return_exeptions": True}, "return_exceptions"),
        (["a"], {"n": 0}, "n"),
        (["a"], {"budget": 3}, "budget"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(
    server: FaultServer, prompts: Any, options: dict[str, Any], words: str
) -> None:
    with reranker(server) as client, pytest.raises(ConfigurationError, match=words):
        client.best_of_many(prompts, **options)
    with pytest.raises(ConfigurationError, match=words):
        async_reranker(server).best_of_many(prompts, **options)
    assert not server.requests


def test_the_sync_client_refuses_an_async_iterable(server: FaultServer) -> None:
    async def prompts() -> AsyncIterator[str]:
        yield "one"

    with reranker(server) as client, pytest.raises(ConfigurationError, match="not async_generator"):
        client.best_of_many(prompts())  # type: ignore[call-overload]


def test_an_endless_generator_is_read_only_as_far_ahead_as_needed(server: FaultServer) -> None:
    n_read = 0

    def endless() -> Iterator[str]:
        nonlocal n_read
        for number in itertools.count():
            n_read += 1
            yield f"question {number}"

    async def ask(in_order: bool) -> list[int]:
        nonlocal n_read
        n_read, ahead = 0, []
        async with async_reranker(server) as client:
            results = client.best_of_many(endless(), 1, in_order=in_order, concurrency=3)
            async with contextlib.aclosing(results):
                async for _ in results:
                    ahead.append(n_read - len(ahead))
                    if len(ahead) == 15:
                        return ahead
        return []

    assert max(asyncio.run(ask(True))) <= 12
    assert max(asyncio.run(ask(False))) <= 6
    n_read = 0
    with reranker(server) as client:
        for count, _ in enumerate(client.best_of_many(endless(), 1, concurrency=3)):
            assert n_read - count <= 12
            if count == 15:
                break
    assert server.most_connections <= 3


def test_an_error_of_the_iterator_comes_after_the_results_of_what_runs(server: FaultServer) -> None:
    def prompts() -> Iterator[str]:
        yield from ("one", "two")
        raise LookupError("the file is broken")

    async def ask() -> None:
        async with async_reranker(server) as client:
            results = client.best_of_many(prompts(), 1)
            assert [await anext(results) for _ in range(2)]
            with pytest.raises(LookupError, match="broken"):
                await anext(results)

    asyncio.run(ask())
    with reranker(server) as client:
        results = client.best_of_many(prompts(), 1)
        assert [next(results) for _ in range(2)]
        with pytest.raises(LookupError, match="broken"):
            next(results)


def test_a_slow_iterator_does_not_hold_results_back(server: FaultServer) -> None:
    def prompts() -> Iterator[str]:
        for number in range(6):
            time.sleep(0.1)
            yield f"question {number}"

    with reranker(server) as client:
        start = time.perf_counter()
        times = [time.perf_counter() - start for _ in client.best_of_many(prompts(), 1, concurrency=16)]

    assert times[0] < times[-1] - 0.15


def answer_the_first_alone(server: FaultServer) -> None:
    """Let the server answer the first prompt, and the others so slowly that they take a minute."""

    def serve(request: Received) -> Response:
        response = answer_by_prompt(request)
        return response if prompt_of(request) == PROMPTS[0] else slow(response, chunk=1, pause=0.05)

    server.serve(serve)


async def wait_for_disconnects(server: FaultServer, count: int) -> None:
    """Wait until the server has seen so many clients go."""
    async with asyncio.timeout(5):
        while server.closed_early < count:  # noqa: ASYNC110  # the server runs in threads
            await asyncio.sleep(0.01)


async def wait_for_requests(server: FaultServer, count: int) -> None:
    """Wait until so many requests have arrived."""
    async with asyncio.timeout(5):
        while len(server.requests) < count:  # noqa: ASYNC110  # the server runs in threads
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["aclose", "cancel", "error"])
def test_an_early_end_cancels_what_runs_and_leaves_no_task(server: FaultServer, way: str) -> None:
    if way != "error":
        answer_the_first_alone(server)
    prompts = ["one", "bad", *PROMPTS] if way == "error" else PROMPTS

    async def consume(client: AsyncSwiftReranker, first: asyncio.Event) -> None:
        results = client.best_of_many(prompts, 1, concurrency=4)
        async with contextlib.aclosing(results):
            async for _ in results:
                first.set()
                if way == "aclose":
                    await wait_for_requests(server, 5)
                    return

    async def main() -> set[asyncio.Task[Any]]:
        async with async_reranker(server) as client:
            first = asyncio.Event()
            task = asyncio.create_task(consume(client, first))
            await first.wait()
            if way == "cancel":
                await wait_for_requests(server, 5)
                task.cancel()
            result = await asyncio.gather(task, return_exceptions=True)
            expected = {"aclose": type(None), "cancel": asyncio.CancelledError, "error": BadRequestError}[way]
            assert isinstance(result[0], expected), result
            if way != "error":
                await wait_for_disconnects(server, 4)
            return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    assert not asyncio.run(main())
    assert len(server.requests) <= 9


def test_closing_the_sync_iterator_cancels_what_runs(server: FaultServer) -> None:
    answer_the_first_alone(server)
    with reranker(server) as client:
        results = client.best_of_many(PROMPTS, 1, concurrency=4)
        next(results)
        asyncio.run(wait_for_requests(server, 5))
        start = time.monotonic()
        results.close()
        assert time.monotonic() - start < 2
        assert client._background_loop.run(count_tasks) == 1
        asyncio.run(wait_for_disconnects(server, 4))
        assert len(server.requests) == 5
        abandoned = client.best_of_many(PROMPTS, 1, concurrency=4)
    with pytest.raises(ConfigurationError, match="closed"):
        next(abandoned)


async def count_tasks() -> int:
    """Return the number of tasks of the running loop, this one included."""
    return len(asyncio.all_tasks())


def test_a_deadline_is_per_question(server: FaultServer) -> None:
    server.serve(lambda request: after(0.15, answer_by_prompt(request)))
    with reranker(server, max_concurrency=2) as client:
        outcomes = list(client.best_of_many(PROMPTS[:8], 1, deadline=0.5, return_exceptions=True))

    assert all(isinstance(outcome, Selection) for outcome in outcomes)


@dataclass(eq=False)
class Tiny:
    """A model in this process whose replies cost as many tokens as their prompt says."""

    name: str = "tiny"
    model: str = "tiny"
    delay: float = 0.0
    prompts: list[str] = field(default_factory=list)
    n_running: int = 0
    most_running: int = 0

    async def complete(self, messages: Sequence[Message], n: int, **options: object) -> list[Completion]:
        text = str(messages[-1]["content"])
        self.n_running += 1
        self.most_running = max(self.most_running, self.n_running)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.n_running -= 1
        return [Completion(text=f"The answer is {len(text) % 7}", index=index) for index in range(n)]


def test_memory_is_flat_over_thousands_of_questions() -> None:
    sizes = array("q", bytes(8 * 3_000))

    async def ask() -> None:
        numbers = itertools.count()
        async with AsyncSwiftReranker(Tiny(), answer=None, select="best", scorer="random") as client:
            prompts = (f"question {number}" for number in range(3_000))
            async for _ in client.best_of_many(prompts, 1):
                sizes[next(numbers)] = sys.getallocatedblocks()

    asyncio.run(ask())

    assert min(sizes) > 0
    # Ten per question; a Selection has dozens, and other threads of the tests allocate too.
    assert max(sizes[1_500:]) - max(sizes[300:1_500]) < 15_000


TOKENS = {"max_tokens": 10}


def budget_outcomes(client: SwiftReranker, budget: Budget, *, many: bool) -> tuple[list[object], int]:
    """Ask all prompts within one budget, at once or one by one; return the outcomes and the tokens spent."""
    tracker = budget.open()
    outcomes: list[object] = []
    if many:
        outcomes = [
            facts(outcome) if isinstance(outcome, Selection) else type(outcome)
            for outcome in client.best_of_many(PROMPTS, 4, budget=tracker, return_exceptions=True, **TOKENS)
        ]
    else:
        for prompt in PROMPTS:
            try:
                outcomes.append(facts(client.best_of(prompt, 4, budget=tracker, **TOKENS)))
            except BudgetExceededError as failure:
                outcomes.append(type(failure))
    assert tracker._reserved_cost.tokens == tracker._reserved_cost.calls == 0
    return outcomes, tracker.spent.tokens


@pytest.mark.parametrize(
    ("budget", "n_max"),
    [
        (Budget(tokens=300), None),
        (Budget(tokens=190), 1),
        (Budget(calls=7), None),
        (Budget(calls=7), 1),
        (Budget(tokens=60), None),
    ],
)
def test_one_budget_gives_each_question_as_much_as_in_a_plain_loop(
    server: FaultServer, budget: Budget, n_max: int | None
) -> None:
    if n_max:
        server.serve(lambda request: answer_by_prompt(Received(**{**vars(request), "body": one_choice(request)})))
    with reranker(server) as client:
        client.best_of("warm up", 2)  # learns how many completions one call brings
        loop = budget_outcomes(client, budget, many=False)
        many = budget_outcomes(client, budget, many=True)

    assert many == loop
    assert any(outcome is BudgetExceededError for outcome in loop[0])
    assert many[1] <= (budget.tokens or many[1])


def one_choice(request: Received) -> bytes:
    """Return the body of a request, asking for one choice."""
    return json.dumps({**request.json, "n": 1}).encode()


def test_questions_run_at_once_within_a_budget_that_covers_them(server: FaultServer) -> None:
    model = Tiny(delay=0.02)
    with SwiftReranker(model, max_concurrency=8) as client:
        selections = list(client.best_of_many(PROMPTS, 1, budget=Budget(tokens=100_000), max_tokens=10))

    assert len(selections) == len(PROMPTS)
    assert model.most_running == 8


def test_a_cascade_answers_many_questions_too(server: FaultServer) -> None:
    def client(threshold: float) -> SwiftReranker:
        return reranker(server, head=head(acceptance(threshold)))

    with Cascade([(client(UNSURE), 4), (client(SURE), 4)]) as cascade:
        loop = [cascade.best_of(prompt, 4, budget=Budget(tokens=1000), max_tokens=10) for prompt in PROMPTS[:4]]
        many = list(cascade.best_of_many(PROMPTS[:4], 4, budget=Budget(tokens=4000), max_tokens=10))

    assert [facts(selection) for selection in many] == [facts(selection) for selection in loop]
    assert [len(selection.path) for selection in many] == [2] * 4


def test_a_budget_in_seconds_ends_all_questions(server: FaultServer) -> None:
    with SwiftReranker(Tiny(delay=0.05), max_concurrency=2) as client:
        outcomes = list(client.best_of_many(PROMPTS, 1, budget=Budget(seconds=0.2), return_exceptions=True))

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[0] is Selection
    assert kinds[-1] is BudgetExceededError
    assert len(kinds) == len(PROMPTS)
