"""``prune()``: erase from a samples file or from a Redis."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from swift_client.store.fork_guard import FORK_GUARD
from swift_client.store.pruning.criterion import Criterion
from swift_client.store.pruning.result import PruneResult


def prune(
    place: str | os.PathLike[str],
    *,
    older_than: str | timedelta | None = None,
    question: str | None = None,
    user: str | None = None,
    key: str | None = None,
    undated: bool = False,
    dry_run: bool = False,
) -> PruneResult:
    """Erase questions, replies and everything about them, so that no byte of them is left in the file.

    One of ``older_than``, ``question``, ``user`` and ``key`` says what goes. A question without replies left goes too,
    with its selections, feedback, verdicts and judgements; a selection goes with any of its completions. Shared limits
    and counts of keys stay. The file may be in use by ``best_of(store=...)`` and a service, but not by ``collect``. An
    erasure that was killed leaves the file whole; the same call finishes it.

    Args:
        place: a samples file, or the URL of a Redis.
        older_than: age of what goes, such as "30d", "12h" or "2w": replies stored before that, and selections and
            verdicts.
        question: id of a stored question, or of a selection of it (``Selection.id``).
        user: end user: ``user``, ``safety_identifier`` or ``metadata.user_id`` of the request.
        key: name of a service's key.
        undated: with ``older_than``, erase what has no stored time too: replies and verdicts that a version before
            format 6 wrote, and questions without replies.
        dry_run: only count; nothing is deleted.

    Raises:
        ConfigurationError: an argument is wrong, there is no such file, it is in use by ``collect`` or read for too
            long, or the disk is full; what was deleted until then is gone.
        MissingExtraError: a Redis needs the extra "redis".
    """
    criterion = Criterion.parse(older_than=older_than, question=question, user=user, key=key, undated=undated)
    if isinstance(place, str) and "://" in place:
        from swift_client.store.redis.erasure import erase_from_redis

        return erase_from_redis(place, criterion, dry_run=dry_run)
    from swift_client.store.pruning.file_erasure import FileErasure

    with FORK_GUARD.block_forks():  # a child must not inherit the file's locks
        return FileErasure(Path(place), criterion, dry_run=dry_run).run()
