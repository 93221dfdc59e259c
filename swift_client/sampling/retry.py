"""Retry policy: which failed calls are sent again, and after how many seconds.

The provider's own wait is honoured. Otherwise the wait is exponential with full jitter, from 0.5 s doubling to at most
8 s, as in the openai client (https://github.com/openai/openai-python, ``_base_client.py``). That client's own retries
are turned off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from swift_client.errors import SwiftClientError

# Seconds. If a server asks for more, the call fails, unless a deadline allows the wait.
LONGEST_WAIT = 120.0

_backoff = wait_random_exponential(multiplier=0.5, max=8.0)


def retry_policy(
    max_retries: int, deadline_at: float | None, on_retry: Callable[[SwiftClientError, int, float], None]
) -> AsyncRetrying:
    """Return the policy for one call: await it with the function to call; the last error is raised itself.

    Args:
        max_retries: attempts after the first.
        deadline_at: deadline in the loop's time, or None. A call fails if its next attempt would start later.
        on_retry: called before each wait with the error, the number of attempts so far, and the wait in seconds.
    """
    clock = asyncio.get_running_loop().time

    def should_give_up(state: RetryCallState) -> bool:
        if deadline_at is None:
            is_too_late = state.upcoming_sleep > LONGEST_WAIT
        else:
            is_too_late = clock() + state.upcoming_sleep >= deadline_at
        return state.attempt_number > max_retries or is_too_late

    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, SwiftClientError) and error.retryable),
        wait=wait_seconds,
        stop=should_give_up,
        before_sleep=lambda state: on_retry(_last_error(state), state.attempt_number, state.upcoming_sleep),
        sleep=asyncio.sleep,
        reraise=True,
    )


def wait_seconds(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: the server's own wait, else the jittered backoff."""
    retry_after: float | None = getattr(_last_error(state), "retry_after", None)
    return _backoff(state) if retry_after is None else retry_after


def _last_error(state: RetryCallState) -> SwiftClientError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, SwiftClientError):
        raise TypeError(f"only SwiftClientErrors are retried, not {error!r}")
    return error
