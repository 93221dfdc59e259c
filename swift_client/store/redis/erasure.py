"""Erasure of replies and verdicts from a Redis. All of them are looked at: nothing there lists what a user asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from swift_client.store.pruning.criterion import Criterion
from swift_client.store.pruning.result import PruneResult
from swift_client.store.redis.connection import RedisConnection
from swift_client.store.redis.reply_store import (
    REPLY_PREFIX,
    VERDICT_PREFIX,
    PackedReply,
    PackedVerdict,
)

if TYPE_CHECKING:
    import redis

_COUNT = 500  # keys, or completions of a key, per message
_REPLY_DECODER = msgspec.msgpack.Decoder(PackedReply)
_VERDICT_DECODER = msgspec.msgpack.Decoder(PackedVerdict)


def erase_from_redis(url: str, criterion: Criterion, *, dry_run: bool) -> PruneResult:
    """Erase from a Redis; arguments and errors as of ``prune()``."""
    connection = RedisConnection(url)
    try:
        prefix = connection.address.prefix
        return connection.run(
            lambda client: _Erasure(client, connection.place, prefix, criterion, dry_run=dry_run).run()
        )
    finally:
        connection.close()


class _Erasure:
    def __init__(self, client: redis.Redis, place: str, prefix: str, criterion: Criterion, *, dry_run: bool) -> None:
        self._client, self._criterion, self._prefix = client, criterion, prefix
        self._result = PruneResult(place=place, dry_run=dry_run)
        self._touched: set[str] = set()  # questions that lost a completion

    def run(self) -> PruneResult:
        """Erase completions, then the verdicts on their questions."""
        for key in self._keys(REPLY_PREFIX):
            self._erase_replies(key)
        keys: list[bytes] = []
        for key in self._keys(VERDICT_PREFIX):
            keys.append(key)
            if len(keys) == _COUNT:
                self._erase_verdicts(keys)
                keys = []
        self._erase_verdicts(keys)
        return self._result

    def _keys(self, prefix: str) -> Iterator[bytes]:
        if prefix == REPLY_PREFIX and self._criterion.question is not None:
            return iter([f"{self._prefix}{prefix}{self._criterion.question}".encode()])
        return self._client.scan_iter(match=f"{self._prefix}{prefix}*", count=_COUNT)

    def _erase_replies(self, key: bytes) -> None:
        """Erase the completions of a request that are to go."""
        total, gone, writes = 0, [], set()
        for number, value in self._client.hscan_iter(key, count=_COUNT):
            total += 1
            reply = _decode(_REPLY_DECODER, value)
            if self._is_to_go(reply):
                gone.append(number)
                writes.add(value if reply is None else reply.write)
        if not gone:
            return
        self._touched.add(key.decode("utf-8", "replace").removeprefix(self._prefix + REPLY_PREFIX))
        self._result.completions += len(gone)
        self._result.replies += len(writes)
        self._result.questions += len(gone) == total
        for start in range(0, len(gone), _COUNT):
            if not self._result.dry_run:
                self._client.hdel(key, *gone[start : start + _COUNT])

    def _is_to_go(self, reply: PackedReply | None) -> bool:
        """Return True if a completion is to go; one that is damaged has no time and no user."""
        criterion = self._criterion
        if criterion.question is not None:
            return True
        if criterion.user is not None:
            return reply is not None and criterion.user in reply.users
        return self._is_old(None if reply is None else reply.time)

    def _is_old(self, seconds: float | None) -> bool:
        if self._criterion.before is None:
            return False
        if seconds is None:
            self._result.undated += not self._criterion.undated
            return self._criterion.undated
        return seconds < self._criterion.before

    def _erase_verdicts(self, keys: list[bytes]) -> None:
        """Erase the verdicts that are too old, or about a question that lost a completion."""
        values: list[Any] = self._client.mget(keys) if keys else []
        gone = []
        for key, value in zip(keys, values, strict=True):
            if value is None:  # expired meanwhile
                continue
            verdict = _decode(_VERDICT_DECODER, value)
            if (verdict is not None and verdict.question in self._touched) or self._is_old(verdict and verdict.time):
                gone.append(key)
        self._result.verdicts += len(gone)
        if gone and not self._result.dry_run:
            self._client.delete(*gone)


def _decode(decoder: msgspec.msgpack.Decoder[Any], value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        return None
