"""Similarities that cost time: functions of the user, computed between the scoring and the choice."""

from __future__ import annotations

import asyncio

from swift_client.adapters.user_threads import UserThreads
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.consensus import with_user_similarity, without_similarity


async def compare_texts(scored: ScoredCompletions, *, threads: UserThreads, timeout: float) -> ScoredCompletions:
    """Return the completions with the similarities by the user's function.

    Args:
        scored: completions of one question, of which a consensus is sought; ``similarity`` is a function.
        threads: the threads of the user's functions.
        timeout: seconds that the function may take, the wait for a free thread included; then the default similarity
            takes its place, a note says so, and the function is left to end in its thread.
    """
    try:
        async with asyncio.timeout(timeout):
            return await threads.call(with_user_similarity, scored)
    except TimeoutError:
        return without_similarity(scored, f"took longer than {timeout:.3g} s")
