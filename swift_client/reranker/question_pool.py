"""Many questions at once on one event loop, with bounded memory: at most ``window`` are read and not yet taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from swift_client.errors import SwiftClientError
from swift_client.types import Message, Selection

Prompt = str | Sequence[Message]
Key = str | int
Question = Prompt | tuple[Key, Prompt]
Outcome = Selection | SwiftClientError

# Questions that may be read and not yet taken, per question that may run. In order, one slow answer holds up those
# behind it: with answer times that vary by a factor of two, 4 keep 97 % of the throughput, 2 keep 78 %.
_WINDOW_IN_ORDER, _WINDOW = 4, 2


class QuestionPool:
    """Questions that are answered at the same time.

    Args:
        answer: answers one prompt.
        concurrency: questions that run at once.
        in_order: whether outcomes are taken in the order of the questions, not as they come.
    """

    def __init__(
        self, answer: Callable[[Prompt], Coroutine[Any, Any, Selection]], *, concurrency: int, in_order: bool
    ) -> None:
        self.window = concurrency * (_WINDOW_IN_ORDER if in_order else _WINDOW)
        self.n_open = 0  # questions that were put and not taken
        self._answer, self._in_order = answer, in_order
        self._n_put = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[Selection]] = set()
        self._results: deque[tuple[Key, asyncio.Task[Selection]] | None] = deque()  # to be taken, None at the end
        self._has_room, self._has_results = asyncio.Event(), asyncio.Event()

    def put(self, question: Question) -> bool:
        """Start a question, or let it wait for its turn; return True if an outcome can be taken at once."""
        key, prompt = _split_question(question, self._n_put)
        self._n_put += 1
        self.n_open += 1
        task = asyncio.create_task(self._run(prompt))
        self._tasks.add(task)
        if self._in_order:
            self._add_result((key, task))
        else:
            task.add_done_callback(lambda task: self._add_result((key, task)))
        result = self._results[0] if self._results else None
        return result is not None and result[1].done()

    async def wait_for_room(self) -> None:
        """Wait until another question may be put."""
        while self.n_open >= self.window:
            self._has_room.clear()
            await self._has_room.wait()

    async def end(self) -> None:
        """Wait until all questions have ended; after their outcomes, ``take()`` returns None."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._add_result(None)

    async def take(self) -> tuple[Key, Outcome] | None:
        """Wait for the next outcome. An error that is not ours is raised."""
        while not self._results:
            self._has_results.clear()
            await self._has_results.wait()
        if (result := self._results.popleft()) is None:
            return None
        key, task = result
        await asyncio.wait([task])
        self._tasks.discard(task)
        self.n_open -= 1
        self._has_room.set()
        try:
            return key, task.result()
        except SwiftClientError as error:
            # The frames hold the question's completions, and errors may be collected by the thousand.
            return key, error.with_traceback(None)

    async def aclose(self) -> None:
        """Cancel what runs, and wait until its connections are closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _add_result(self, result: tuple[Key, asyncio.Task[Selection]] | None) -> None:
        self._results.append(result)
        self._has_results.set()

    async def _run(self, prompt: Prompt) -> Selection:
        async with self._slots:
            return await self._answer(prompt)


async def feed_pool(questions: Iterable[Question] | AsyncIterable[Question], pool: QuestionPool) -> None:
    """Put questions into a pool, and end it. An error of the iterator is raised once what runs has ended."""
    read = _reader(questions)
    failure: Exception | None = None
    while True:
        await pool.wait_for_room()
        try:
            question = await read()
        except StopAsyncIteration:
            break
        except Exception as error:
            failure = error
            break
        pool.put(question)
    await pool.end()
    if failure:
        raise failure


def _reader(questions: Iterable[Question] | AsyncIterable[Question]) -> Callable[[], Awaitable[Question]]:
    """Return a function that reads the next question, and raises StopAsyncIteration at the end."""
    if isinstance(questions, AsyncIterable):
        return aiter(questions).__anext__
    iterator = iter(questions)

    async def read() -> Question:
        for question in iterator:
            return question
        raise StopAsyncIteration

    return read


def _split_question(question: Question, index: int) -> tuple[Key, Prompt]:
    """Return the id and the prompt of a question; a pair of two messages is a prompt."""
    if isinstance(question, tuple) and len(question) == 2 and not isinstance(question[0], Mapping):
        key, prompt = question
        return key, prompt
    return index, question
