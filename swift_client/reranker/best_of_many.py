"""The two signatures of ``best_of_many``, sync and async, that clients and cascades share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar, overload

from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.reranker.best_of import AsyncBestOf, SyncBestOf
from swift_client.reranker.many_questions import ManyQuestions, require_prompts, unwrap
from swift_client.reranker.question_pool import Key, Question, feed_pool
from swift_client.types import Selection

T = TypeVar("T")


class AsyncBestOfMany(ManyQuestions, AsyncBestOf):
    """The signature of ``best_of_many`` on the caller's event loop."""

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[True] = True,
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[Selection[T], None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[True] = True,
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[Selection[T] | SwiftClientError, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[False],
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[tuple[Key, Selection[T]], None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[False],
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[tuple[Key, Selection[T] | SwiftClientError], None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[True] = True,
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[Selection[Any], None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[True] = True,
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[Selection[Any] | SwiftClientError, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[False],
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[tuple[Key, Selection[Any]], None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[False],
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[tuple[Key, Selection[Any] | SwiftClientError], None]: ...

    def best_of_many(
        self,
        prompts: Iterable[Question] | AsyncIterable[Question],
        n: int = 16,
        *,
        in_order: bool = True,
        return_exceptions: bool = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """Answer many questions at once; arguments, results and errors as ``SwiftReranker.best_of_many()``.

        ``prompts`` may be an async iterable too. A plain one is read on the event loop, so it must not block.
        ``aclose()`` of the iterator cancels the questions that run and closes their connections:
        ``async with contextlib.aclosing(reranker.best_of_many(prompts)) as selections``. So does cancelling the task
        that iterates.
        """
        require_prompts(prompts, Iterable, AsyncIterable)
        pool = self._create_pool(n, options, in_order=in_order, concurrency=concurrency)

        async def answer_all() -> AsyncGenerator[Any, None]:
            feeder = asyncio.create_task(feed_pool(prompts, pool))
            try:
                while (result := await pool.take()) is not None:
                    yield unwrap(result, in_order=in_order, return_exceptions=return_exceptions)
                await feeder
            finally:
                feeder.cancel()
                await asyncio.gather(pool.aclose(), feeder, return_exceptions=True)

        return answer_all()


class SyncBestOfMany(ManyQuestions, SyncBestOf):
    """The signature of ``best_of_many`` for sync code, which runs on a thread with an event loop of its own."""

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[True] = True,
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[Selection[T], None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[True] = True,
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[Selection[T] | SwiftClientError, None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[False],
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[tuple[Key, Selection[T]], None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: type[T],
        in_order: Literal[False],
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[tuple[Key, Selection[T] | SwiftClientError], None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[True] = True,
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[Selection[Any], None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[True] = True,
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[Selection[Any] | SwiftClientError, None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[False],
        return_exceptions: Literal[False] = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[tuple[Key, Selection[Any]], None, None]: ...

    @overload
    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        response_model: Mapping[str, Any] | None = None,
        in_order: Literal[False],
        return_exceptions: bool,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[tuple[Key, Selection[Any] | SwiftClientError], None, None]: ...

    def best_of_many(
        self,
        prompts: Iterable[Question],
        n: int = 16,
        *,
        in_order: bool = True,
        return_exceptions: bool = False,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[Any, None, None]:
        """Answer many questions at once, with one limit and one budget, in memory that does not grow with their number.

        Args:
            prompts: any iterable of prompts, or of pairs (id, prompt); it may be endless. It is read in the thread that
                iterates, and only as far ahead as ``concurrency`` needs: four times, two if not ``in_order``.
            n: completions to choose from, per question.
            in_order: whether results come in the order of the prompts; False: as they come, with id or index.
            return_exceptions: whether errors are returned in place of a Selection. False: the first one is raised, and
                the other questions are cancelled.
            concurrency: questions that are answered at once; default: a quarter more than the limit on concurrent
                requests, which go on while answers are scored.
            options: all other arguments of ``best_of()``, the same for each question. ``deadline`` is per question and
                counts from its start. ``budget`` is for all together: each question gets as much as if those before it
                had been asked one by one, and those after its end bring BudgetExceededError.

        Returns:
            An iterator of Selection, or of SwiftClientError in its place with ``return_exceptions``. If not
            ``in_order``, of pairs: the id, or for a prompt without one its index from 0, and the Selection or error.
            Its ``close()`` cancels the questions that run, as the end of its life does.

        Raises:
            ConfigurationError: an argument is wrong; nothing was sent.
            SwiftClientError: while iterating, the errors of ``best_of()``; without ``return_exceptions``. Errors of
                ``prompts`` itself are raised after the results of the questions before.
        """
        require_prompts(prompts, Iterable)
        pool = self._create_pool(n, options, in_order=in_order, concurrency=concurrency)

        async def put(question: Question) -> bool:
            return pool.put(question)

        def answer_all() -> Generator[Any, None, None]:
            loop, iterator = self._background_loop, iter(prompts)
            is_complete, failure = False, None
            try:
                while True:
                    # Two per result at least, so that more and more run; no more if a result waits already.
                    n_put, has_result = 0, False
                    while not is_complete and pool.n_open < pool.window and not (has_result and n_put >= 2):
                        try:
                            question = next(iterator)
                        except StopIteration:
                            is_complete = True
                        except Exception as error:  # raised after the results of what runs
                            is_complete, failure = True, error
                        else:
                            has_result = loop.run(partial(put, question))
                            n_put += 1
                    if not pool.n_open:
                        break
                    result = loop.run(pool.take)
                    if result is None:
                        break
                    yield unwrap(result, in_order=in_order, return_exceptions=return_exceptions)
                if failure:
                    raise failure
            finally:
                with suppress(ConfigurationError):  # the reranker was closed, and with it all that runs
                    loop.run(pool.aclose)

        return answer_all()
