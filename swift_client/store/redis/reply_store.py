"""Replies and verdicts in Redis, which all hosts of a service reuse."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.redaction.hashes import secret_key
from swift_client.store.packing import pack, replace_surrogates
from swift_client.store.records import RequestKey, Sample, StoredVerdict, parse_sample, parse_verdict
from swift_client.store.redis.connection import RedisConnection, execute
from swift_client.store.writer_thread import WriterThread
from swift_client.types import MAX_TOKEN_COUNT, Completion, Usage

if TYPE_CHECKING:
    import redis

    from swift_client.redaction.policy import FilePolicy, StoragePolicy

REPLY_PREFIX, VERDICT_PREFIX = "swift:reply:", "swift:verdict:"  # of keys
_MAX_STORED = 100_000  # completions of one request
_MAX_MOVES = 100  # attempts to find a free index while other processes use some


class PackedReply(msgspec.Struct, array_like=True, frozen=True):
    """A completion of a request."""

    text: str
    finish_reason: str
    seed: int | None  # of the HTTP request that brought it
    write: bytes  # identity of the write, which may be repeated after a lost connection
    arrays: bytes
    time: float | None = None  # of the write, Unix seconds; None: an earlier version wrote it
    users: tuple[bytes, ...] = ()  # as of ``RequestKey.user_digests``


class PackedVerdict(msgspec.Struct, array_like=True, frozen=True):
    """A judge's verdict."""

    value: float
    confidence: float
    from_text: bool
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    time: float | None = None  # of the write, Unix seconds; None: an earlier version wrote it
    question: str | None = None  # id of the request that it is about


_ENCODER = msgspec.msgpack.Encoder()
_REPLY_DECODER = msgspec.msgpack.Decoder(PackedReply)
_VERDICT_DECODER = msgspec.msgpack.Decoder(PackedVerdict)


class RedisReplyStore:
    """Replies and verdicts in Redis, with the meaning that they have in a samples file (``ReplyStore``).

    A hash ``swift:reply:ID`` has the completions of a request by index, a string ``swift:verdict:KEY`` a verdict.
    Prompts, choices and feedback are not stored: training needs them for years, and Redis may forget anything.
    Nothing is opened before first use; a writer thread stores what is saved.

    Args:
        url: such as ``redis://host:6379/0?ttl=86400&prefix=tenant``, which begins all keys with ``tenant:``.
        policy: completions whose texts it changes are not stored, since they could not be used in place of new ones.

    Raises:
        ConfigurationError: the URL cannot be used, or the policy keeps no text.
        MissingExtraError: the extra "redis" is not installed.
    """

    selections = None  # no choices and no feedback

    def __init__(self, url: str, *, policy: StoragePolicy | None = None) -> None:
        if policy is not None and policy.keep == "arrays":
            raise ConfigurationError(
                'keep="arrays" needs a samples file: a Redis only stores replies that are used again.',
                hint="Give a path as store=, or leave store= out.",
            )
        self._connection = connection = RedisConnection(url)
        self._policy = policy
        self._file_policy: FilePolicy | None = None
        self._prefix, self._ttl = connection.address.prefix, connection.address.ttl
        self._writer = WriterThread(lambda: nullcontext(connection))

    @property
    def place(self) -> str:
        """The address for messages, without user and password."""
        return self._connection.place

    def lookup(self, request_key: RequestKey, n: int) -> list[Sample]:
        """Return up to ``n`` stored completions of the same request, in the order of their indices.

        Raises:
            ConfigurationError: Redis fails, a value is damaged, or the request is not plain JSON.
        """
        question_id = self._stored_id(request_key.question.id)
        values = self._connection.run(lambda client: self._read_values(client, self._reply_key(question_id), n))
        try:
            return [_parse_reply(question_id, number, value) for number, value in sorted(values.items())]
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._damaged(f"a completion of {question_id}", error) from error

    def lookup_verdicts(self, keys: Sequence[str]) -> dict[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key. Raises ConfigurationError as ``lookup()``."""
        if not keys:
            return {}
        names = [self._verdict_key(key) for key in keys]
        values: list[Any] = self._connection.run(lambda client: client.mget(names))
        try:
            return {
                key: parse_verdict(msgspec.structs.astuple(_VERDICT_DECODER.decode(value))[:6])
                for key, value in zip(keys, values, strict=True)
                if value is not None
            }
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._damaged("a verdict", error) from error

    def save(
        self, request_key: RequestKey, completions: Sequence[Completion], *, first_index: int, usage: Usage
    ) -> Future[None]:
        """Queue one reply for storage, its completions numbered from ``first_index``, and return at once.

        If another process has used an index, any free one is as good. But two completions for the same seed are the
        same completion, so the second is dropped. The future ends when Redis has them, or with a ConfigurationError.
        Redis does not store ``usage``.
        """
        reply = tuple(completions)
        return self._writer.submit(lambda connection: self._add_reply(connection, request_key, reply, first_index))

    def save_verdict(self, key: str, verdict: StoredVerdict, *, question_id: str | None = None) -> Future[None]:
        """Queue one verdict of a judge on a question, and return at once; one that is stored already is kept."""
        prompt, completion = (
            min(max(0, count), MAX_TOKEN_COUNT) for count in (verdict.prompt_tokens, verdict.completion_tokens)
        )
        numbers = (verdict.value, verdict.confidence, verdict.from_text, prompt, completion, verdict.cost)

        def write(connection: RedisConnection) -> None:
            stored_id = None if question_id is None else self._stored_id(question_id)
            value = _ENCODER.encode(PackedVerdict(*numbers, time.time(), stored_id))
            name = self._verdict_key(key)
            connection.run(lambda client: client.set(name, value, nx=True, ex=self._ttl))

        return self._writer.submit(write)

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        self._connection.close()

    def _read_values(self, client: redis.Redis, key: str, n: int) -> dict[int, bytes]:
        """Read up to ``n`` values of a hash by number, the lowest first."""
        with client.pipeline(transaction=False) as commands:
            commands.hlen(key)
            commands.hmget(key, [str(number) for number in range(n)])
            count, values = execute(commands)
        values_by_number = {number: value for number, value in enumerate(values) if value is not None}
        if len(values_by_number) < n and count > len(values_by_number):  # a failed call left a hole
            numbers = [number for number in self._numbers(client, key) if number >= n][: n - len(values_by_number)]
            values = client.hmget(key, [str(number) for number in numbers]) if numbers else []
            values_by_number |= {
                number: value for number, value in zip(numbers, values, strict=True) if value is not None
            }
        return values_by_number

    def _numbers(self, client: redis.Redis, key: str) -> list[int]:
        """Return the numbers of a hash in ascending order. Raises ConfigurationError for other fields."""
        if client.hlen(key) > _MAX_STORED:
            raise self._damaged(key, f"more than {_MAX_STORED:,} completions")
        fields = client.hkeys(key)
        if not all(name.isdigit() and len(name) < 10 for name in fields):
            raise self._damaged(key, "a field that is not an index")
        return sorted(map(int, fields))

    def _add_reply(
        self, connection: RedisConnection, request_key: RequestKey, reply: Sequence[Completion], first_index: int
    ) -> None:
        question_id, numbered = request_key.question.id, list(enumerate(reply, first_index))
        if (policy := self._claim()) is not None:
            question_id = policy.stored_id(question_id)
            stored = [(number, policy.completion(completion, question_id)) for number, completion in numbered]
            numbered = [pair for pair, original in zip(stored, reply, strict=True) if pair[1] is original]
        key = self._reply_key(question_id)
        seed = None if request_key.seed is None else request_key.seed + first_index
        write, seconds, users = secrets.token_bytes(8), time.time(), request_key.user_digests
        try:
            values = {
                number: _ENCODER.encode(
                    PackedReply(
                        replace_surrogates(completion.text),
                        completion.finish_reason,
                        seed,
                        write,
                        pack(completion),
                        seconds,
                        users,
                    )
                )
                for number, completion in numbered
            }
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"{self.place} cannot store this reply: {error}.", hint="Ask for fewer tokens, or give a smaller seed."
            ) from error
        if values:
            connection.run(lambda client: self._add_values(client, key, values))

    def _add_values(self, client: redis.Redis, key: str, values: Mapping[int, bytes]) -> None:
        """Store each value under its number, or another free one if a different completion has it."""
        values_left = self._set_new(client, key, values)
        same_seed = True  # at its own number; under a free one, the seed says nothing
        for _ in range(_MAX_MOVES):
            if not values_left:
                return
            stored_values: list[Any] = client.hmget(key, [str(number) for number in values_left])
            new_values = [
                value
                for value, other in zip(values_left.values(), stored_values, strict=True)
                if other is None or not _is_same(value, other, same_seed=same_seed)
            ]
            used_numbers, same_seed = set(self._numbers(client, key)), False
            free = (number for number in itertools.count() if number not in used_numbers)
            values_left = self._set_new(client, key, dict(zip(free, new_values, strict=False))) if new_values else {}
        raise self._damaged(key, "no index stays free")

    def _set_new(self, client: redis.Redis, key: str, values: Mapping[int, bytes]) -> dict[int, bytes]:
        """Store each value whose number is free, in one message; return the others."""
        with client.pipeline(transaction=False) as commands:
            for number, value in values.items():
                commands.hsetnx(key, str(number), value)
            if self._ttl is not None:
                commands.expire(key, self._ttl)
            replies = execute(commands)
        return {number: value for (number, value), is_new in zip(values.items(), replies, strict=False) if not is_new}

    def _claim(self) -> FilePolicy | None:
        """Return how texts are stored, None for as they are; ids are hashed with a salt of this Redis."""
        policy: StoragePolicy | None = self._policy
        if policy is None or self._file_policy is not None:
            return self._file_policy
        name, salt = f"{self._prefix}swift:salt", secrets.token_bytes(16)

        def read_salt(client: redis.Redis) -> Any:
            client.set(name, salt, nx=True)
            return client.get(name)

        self._file_policy = policy.for_file(secret_key(bytes(self._connection.run(read_salt))))
        return self._file_policy

    def _stored_id(self, id: str) -> str:
        policy = self._claim()
        return id if policy is None else policy.stored_id(id)

    def _reply_key(self, question_id: str) -> str:
        return f"{self._prefix}{REPLY_PREFIX}{question_id}"

    def _verdict_key(self, key: str) -> str:
        return f"{self._prefix}{VERDICT_PREFIX}{self._stored_id(key)}"

    def _damaged(self, subject: str, reason: object) -> ConfigurationError:
        return ConfigurationError(
            f"{self.place} has {subject} that is damaged: {reason}.",
            hint="Something else wrote it; delete the keys that begin with swift: to start anew.",
        )

    def __repr__(self) -> str:
        return f"RedisReplyStore({self.place!r})"


def _parse_reply(question_id: str, number: int, value: bytes) -> Sample:
    """Parse a stored completion. Raises ValueError or TypeError for anything else."""
    reply = _REPLY_DECODER.decode(value)
    row = (number, reply.text, reply.finish_reason, reply.arrays, None, reply.seed, None)
    return parse_sample(question_id, row, {})


def _is_same(value: bytes, stored: bytes, *, same_seed: bool) -> bool:
    """Return True if a write that was repeated stored this value itself or, with ``same_seed``, one of its seed."""
    try:
        new, old = _REPLY_DECODER.decode(value), _REPLY_DECODER.decode(stored)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return new.write == old.write or (same_seed and new.seed is not None and new.seed == old.seed)
