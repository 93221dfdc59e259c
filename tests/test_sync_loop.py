"""Sync calls: in scripts, inside running loops, in threads, after fork, at exit, at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swift_client import AsyncSwiftReranker, Event, SwiftReranker
from swift_client.errors import ConfigurationError
from swift_client.sampling.sync_loop import BackgroundLoop
from tests.servers import FaultServer, chat, hang

ROOT = Path(__file__).parents[1]


@pytest.fixture
def portal() -> Iterator[BackgroundLoop]:
    portal = BackgroundLoop()
    yield portal
    portal.close()


def script(code: str, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that turns every warning into an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
    )


def swift_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "swift-client"]


# --- the portal alone --------------------------------------------------------------------------------------------


def test_no_thread_starts_before_the_first_call_and_none_is_left_after_close() -> None:
    before = len(swift_threads())
    portal = BackgroundLoop()
    assert len(swift_threads()) == before
    assert portal.run(lambda: asyncio.sleep(0, "done")) == "done"
    assert len(swift_threads()) == before + 1
    portal.close()
    portal.close()
    assert len(swift_threads()) == before
    with pytest.raises(ConfigurationError, match="closed"):
        portal.run(lambda: asyncio.sleep(0))


def test_a_dropped_portal_ends_its_thread() -> None:
    before = len(swift_threads())
    BackgroundLoop().run(lambda: asyncio.sleep(0))
    gc.collect()
    assert len(swift_threads()) == before


def test_errors_come_back_as_they_are(portal: BackgroundLoop) -> None:
    async def fail() -> None:
        raise ConfigurationError("as it is")

    with pytest.raises(ConfigurationError, match="as it is"):
        portal.run(fail)


def test_context_variables_travel_into_the_work(portal: BackgroundLoop) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("mine")

    async def read_variable() -> str:
        return variable.get()

    assert portal.run(read_variable) == "mine"


def test_a_call_from_its_own_loop_is_refused_instead_of_waiting_for_itself(portal: BackgroundLoop) -> None:
    async def nested() -> None:
        portal.run(lambda: asyncio.sleep(0))

    with pytest.raises(ConfigurationError, match="wait for itself"):
        portal.run(nested)


def test_closing_ends_the_work_of_other_threads_with_an_error(portal: BackgroundLoop) -> None:
    end_times: list[str] = []
    errors: list[BaseException] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            end_times.append("cleaned up")

    def call() -> None:
        try:
            portal.run(work)
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    portal.close()
    thread.join(5)
    assert end_times == ["cleaned up"]
    assert "while it worked" in str(errors[0])


def test_close_and_calls_may_race_and_no_caller_waits_for_ever() -> None:
    for _ in range(30):
        portal = BackgroundLoop()

        def call(portal: BackgroundLoop = portal) -> None:
            for _ in range(20):
                try:
                    portal.run(lambda: asyncio.sleep(0.001))
                except ConfigurationError:
                    return

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        portal.close()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


# --- the sync face -----------------------------------------------------------------------------------------------


@pytest.fixture
def reranker(fault_server: FaultServer) -> Iterator[SwiftReranker]:
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, max_retries=0) as reranker:
        yield reranker


def test_it_works_in_a_plain_script(reranker: SwiftReranker) -> None:
    assert reranker.best_of("q", n=2).text == "The answer is 4"


async def test_it_works_inside_a_running_loop(reranker: SwiftReranker) -> None:
    assert reranker.best_of("q", n=2).text == "The answer is 4"


def test_it_works_under_asyncio_run_twice(reranker: SwiftReranker) -> None:
    async def handler() -> str:
        return reranker.best_of("q", n=2).text

    assert asyncio.run(handler()) == asyncio.run(handler()) == "The answer is 4"


async def test_it_works_from_a_thread_of_a_running_loop(reranker: SwiftReranker) -> None:
    answers = await asyncio.gather(*(asyncio.to_thread(reranker.best_of, "q", 2) for _ in range(8)))
    assert [answer.text for answer in answers] == ["The answer is 4"] * 8


def test_many_threads_share_one_instance_and_its_limit(fault_server: FaultServer) -> None:
    results: list[int] = []
    with SwiftReranker("ollama", "m", base_url=fault_server.url, max_concurrency=4) as reranker:
        threads = [
            threading.Thread(target=lambda: results.append(len(reranker.best_of("q", n=3).candidates)))
            for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert results == [3] * 24
    assert fault_server.most_connections <= 4
    assert len(fault_server.requests) == 72


def test_a_sync_call_from_its_own_callback_is_refused_and_costs_nothing(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    def nested(_: Event) -> None:
        reranker.best_of("q", n=1)

    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, on_event=nested) as reranker:
        assert len(reranker.best_of("q", n=2).candidates) == 2
    assert "wait for itself" in caplog.text


def test_after_close_a_call_says_so_and_rank_still_works(reranker: SwiftReranker) -> None:
    body = chat(["The answer is 4"] * 2).body
    reranker.close()
    with pytest.raises(ConfigurationError, match="closed"):
        reranker.best_of("q", n=1)
    assert reranker.rank(body).text == "The answer is 4"


def test_an_async_instance_serves_several_loops_one_after_another_and_at_once(fault_server: FaultServer) -> None:
    reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url)

    async def work() -> str:
        return (await reranker.best_of("q", n=2)).text

    assert asyncio.run(work()) == asyncio.run(work()) == "The answer is 4"
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(work()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["The answer is 4"] * 6


def test_asyncio_run_closes_the_connections_of_an_instance_that_nobody_closed(fault_server: FaultServer) -> None:
    reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url)
    asyncio.run(reranker.best_of("q", n=1))
    limit = time.monotonic() + 5
    while fault_server._open and time.monotonic() < limit:
        time.sleep(0.01)
    assert fault_server._open == 0


# --- whole processes ---------------------------------------------------------------------------------------------

SYNC = """
    import sys
    from swift_client import SwiftReranker
    reranker = SwiftReranker("openai-compatible", "m", base_url=sys.argv[1])
    print(reranker.best_of("q", n=2).text)
"""


@pytest.mark.parametrize("ending", ["", "\n    del reranker", "\n    reranker.close()", "\n    raise SystemExit(0)"])
def test_a_script_that_just_ends_leaves_no_warning_behind(ending: str, fault_server: FaultServer) -> None:
    result = script(f"import sys; sys.argv = ['x', {fault_server.url!r}]\n" + textwrap.dedent(SYNC + ending))
    assert (result.stdout, result.stderr, result.returncode) == ("The answer is 4\n", "", 0)


def test_an_async_script_without_aclose_leaves_no_warning_behind(fault_server: FaultServer) -> None:
    result = script(f"""
        import asyncio
        from swift_client import AsyncSwiftReranker
        reranker = AsyncSwiftReranker("openai-compatible", "m", base_url={fault_server.url!r})
        async def main():
            print((await reranker.best_of("q", n=2)).text)
        asyncio.run(main())
        asyncio.run(main())
    """)
    assert (result.stdout, result.stderr, result.returncode) == ("The answer is 4\n" * 2, "", 0)


def test_an_exit_with_work_under_way_in_a_daemon_thread_is_quiet(fault_server: FaultServer) -> None:
    fault_server.serve(lambda _: hang())
    result = script(f"""
        import threading, time
        from swift_client import SwiftReranker
        reranker = SwiftReranker("openai-compatible", "m", base_url={fault_server.url!r})
        def work():
            try:
                reranker.best_of("q", n=2)
            except BaseException:
                pass
        threading.Thread(target=work, daemon=True).start()
        time.sleep(3)
    """)
    assert (result.stderr, result.returncode) == ("", 0)


def test_ctrl_c_cancels_the_work_closes_its_connection_and_the_instance_lives_on(fault_server: FaultServer) -> None:
    fault_server.script(hang())
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(f"""
            from swift_client import SwiftReranker
            reranker = SwiftReranker("openai-compatible", "m", base_url={fault_server.url!r})
            try:
                reranker.best_of("q", n=2)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print(reranker.best_of("q", n=2).text, flush=True)
        """)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    limit = time.monotonic() + 30
    while not fault_server.requests and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (out, err, child.returncode) == ("interrupted\nThe answer is 4\n", "", 0)


FORK_FLAGS = (
    # 3.12 warns at every fork of a process with threads: that is the caller's decision.
    "-Wignore::DeprecationWarning",
    # The child ends with copies of the parent's sockets, which are not its to close.
    "-Wignore::ResourceWarning",
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_works_with_an_instance_that_its_parent_has_used(fault_server: FaultServer) -> None:
    # gunicorn --preload: the app, with its reranker, is made and used in the parent, then forked.
    result = script(
        f"""
        import os, sys
        from swift_client import SwiftReranker
        reranker = SwiftReranker("ollama", "m", base_url={fault_server.url!r}, max_concurrency=2)
        print(f"parent {{len(reranker.best_of('q', n=3).candidates)}}\\n", end="", flush=True)
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                # One write a line: with PYTHONUNBUFFERED, print writes each of its arguments by itself.
                print(f"child {{len(reranker.best_of('q', n=3).candidates)}}\\n", end="", flush=True)
                sys.exit(0)  # as a worker ends: handlers at exit run in the child as well
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        print("parent", len(reranker.best_of("q", n=3).candidates), codes)
        """,
        *FORK_FLAGS,
    )
    assert sorted(result.stdout.splitlines()) == ["child 3"] * 3 + ["parent 3", "parent 3 [0, 0, 0]"]
    assert (result.stderr, result.returncode) == ("", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_calls_are_under_way_does_not_freeze_the_child(fault_server: FaultServer) -> None:
    fault_server.script(*[hang()] * 2)
    result = script(
        f"""
        import os, sys, threading, time
        from swift_client import SwiftReranker
        reranker = SwiftReranker("ollama", "m", base_url={fault_server.url!r}, max_concurrency=2, timeout=4)
        def work():
            try:
                reranker.best_of("q", n=2)
            except Exception:
                pass
        threading.Thread(target=work).start()
        time.sleep(2.5)
        child = os.fork()
        if child == 0:  # both slots are taken in the parent; here they are free
            print(len(reranker.best_of("q", n=3).candidates), flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        """,
        *FORK_FLAGS,
    )
    assert result.stdout.split() == ["3", "0"]


def _in_child(url: str, queue: multiprocessing.Queue[str]) -> None:
    with SwiftReranker("openai-compatible", "m", base_url=url) as reranker:
        queue.put(reranker.best_of("q", n=2).text)


def test_it_works_in_a_spawned_process(fault_server: FaultServer) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(fault_server.url, queue))
    child.start()
    assert queue.get(timeout=60) == "The answer is 4"
    child.join(20)
    assert child.exitcode == 0
    queue.close()
    queue.join_thread()
