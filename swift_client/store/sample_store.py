"""Questions and their completions in one file, appended reply by reply."""

from __future__ import annotations

import itertools
import json
import operator
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from swift_client.errors import ConfigurationError
from swift_client.store import records
from swift_client.store.packing import Parts, is_redacted, pack_all
from swift_client.store.question_ranges import (
    ERASURE_PREFIX,
    MAX_INTEGER,
    REQUEST_PREFIX,
    SELECT_QUESTIONS,
    QuestionRanges,
)
from swift_client.store.records import NO_USER, Meta, RequestKey, Sample, StoredQuestion, to_json
from swift_client.store.schema import JUDGEMENTS, ORIGINS
from swift_client.store.sqlite import (
    SHARED_LOCK_TIMEOUT,
    add_tables,
    connect,
    has_tables,
    not_a_samples_file,
    transaction,
    translate_errors,
    write_lock,
)
from swift_client.types import MAX_TOKEN_COUNT, Completion, Usage

if TYPE_CHECKING:
    from swift_client.redaction.policy import StoragePolicy

_SELECT_SAMPLES = (
    "SELECT number, text, finish_reason, arrays, label, seed, cost / samples FROM sample "
    "JOIN reply ON reply.id = sample.reply WHERE sample.question = ? ORDER BY number LIMIT ?"
)
_SELECT_SCORES = "SELECT number, verifier, score FROM verifier_score WHERE question = ?"
GradeFunction = Callable[[Sequence[Completion]], Sequence[float | None]]  # from completions to their labels


class SampleStore(QuestionRanges):
    """A samples file. Use it as a context manager, from the thread that opened it.

    A file has one writer, or several that all share it, and any number of readers meanwhile. Samples survive kill -9
    and a power cut once ``add_samples()`` returns.

    Args:
        path: the file.
        write: append to it, and create it if missing, readable by its owner only.
        shared: let others write between method calls.
        timeout: seconds for which one that shares the file, or a reader, waits for a transaction of another.
        policy: what is stored of texts; None stores them as they are.

    Raises:
        ConfigurationError: the file is missing, not a samples file, damaged, of a newer version, in use, or cannot be
            opened, the disk is full, or the policy is not that of the file; here or in a later call. Nothing is left
            half-written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        write: bool = False,
        shared: bool = False,
        timeout: float = SHARED_LOCK_TIMEOUT,
        policy: StoragePolicy | None = None,
    ) -> None:
        from swift_client.redaction.file_texts import FileTexts

        self.path = Path(path)
        self._texts = FileTexts(self.path, policy)
        self._lock = write_lock(self.path, shared=shared) if write else None
        try:
            self._connection = connect(self.path, write=write, shared=shared, timeout=timeout)
        except BaseException:
            self._release()
            raise

    def postpone_sync(self) -> None:
        """Let the caller sync the whole file at the end: for a draft, which is discarded if it is not complete."""
        with translate_errors(self.path):
            self._connection.execute("PRAGMA synchronous=OFF")

    @property
    def meta(self) -> Meta | None:
        """Settings that all samples share; None if ``begin()`` was never called."""
        with self._read_session() as run:
            row = run("SELECT value FROM meta WHERE name = 'source'").fetchone()
            return None if row is None else records.parse_meta(row[0])

    def begin(self, meta: Meta) -> None:
        """Store the settings of the samples to add, or replace them if there are no samples yet.

        Raises:
            ConfigurationError: the file has samples, or batches, with other settings.
        """
        with self._texts_session() as run:
            self._texts.claim(run)  # refuses before anything is paid for
        value, stored = to_json(self._texts.settings(records.meta_to_dict(meta))), self.meta
        if stored is None:
            with self._transaction() as run:
                run("INSERT INTO meta VALUES ('source', ?)", (value,))
            return
        new, old = json.loads(value), records.meta_to_dict(stored)
        changes = [f"{name} {old[name]!r} and not {new[name]!r}" for name in new if new[name] != old[name]]
        if changes and self._has_no_samples():
            with self._transaction() as run:
                run("UPDATE meta SET value = ? WHERE name = 'source'", (value,))
        elif changes:
            raise ConfigurationError(
                f"{self.path} contains samples with {'; '.join(changes)}.",
                hint="Continue with the same settings, or give another file.",
            )

    def _has_no_samples(self) -> bool:
        """Return True if an earlier run ended before its first reply, for example without a key."""
        with self._read_session() as run:
            samples = "SELECT 1 FROM sample"
            others = "SELECT 1 FROM meta WHERE name NOT IN ('source', 'privacy') AND name NOT LIKE ?"
            return run(f"{samples} UNION ALL {others} LIMIT 1", (f"{ERASURE_PREFIX}%",)).fetchone() is None

    def add_questions(self, questions: Iterable[StoredQuestion]) -> None:
        """Add new questions, and update the answers and families of stored ones.

        Raises:
            ConfigurationError: a stored id has another prompt; nothing is added.
        """
        with self._read_session() as run:  # not yet a transaction: redaction may be slow, and others wait for that
            rows = [
                (question, to_json(self._texts.messages(question.messages)), self._texts.answer(run, question.answer))
                for question in questions
            ]
        with self._transaction() as run:
            for question, messages, stored_answer in rows:
                answer = records.pack_answer(stored_answer)
                stored = run("SELECT messages FROM question WHERE id = ?", (question.id,)).fetchone()
                if stored is None:
                    self._texts.claim(run)
                    row = (question.id, messages, answer, question.family)
                    run("INSERT INTO question VALUES (?, ?, ?, ?)", row)
                elif stored[0] != messages:
                    also = ", and redact= as it was" if self._texts.has_policy else ""
                    raise ConfigurationError(
                        f"{self.path} contains question {question.id!r} with another prompt.",
                        hint=f"Give changed questions a new id{also}.",
                    )
                else:  # answers are often corrected after the samples were paid for
                    run(
                        "UPDATE question SET answer = coalesce(?, answer), family = coalesce(?, family) WHERE id = ?",
                        (answer, question.family, question.id),
                    )

    def add_samples(
        self,
        question_id: str,
        completions: Sequence[Completion],
        *,
        usage: Usage,
        numbers: Sequence[int] | None = None,
        cost: float | None = None,
        seed: int | None = None,
        mean_logprobs: Sequence[float | None] | None = None,
        grade: GradeFunction | None = None,
    ) -> tuple[int, ...]:
        """Append the completions of one request, in one transaction, and return their indices.

        Args:
            question_id: a stored question.
            completions: the completions; their own ``index`` is ignored.
            usage: usage of the request.
            numbers: free indices to store them under; by default those after the question's highest.
            cost: cost of the request.
            seed: seed of the request.
            mean_logprobs: mean logprob of each completion whose tokens have none of their own.
            grade: labels completions whose texts are not stored as they are, so that nobody can grade them later.

        Raises:
            ConfigurationError: an unknown question, an index in use, or no disk space; nothing is added.
        """
        packed = self._pack(completions, question_id, mean_logprobs, grade)
        with self._transaction() as run:
            add_tables(self._connection, ORIGINS)
            self._texts.claim(run)
            if run("SELECT 1 FROM question WHERE id = ?", (question_id,)).fetchone() is None:
                raise ConfigurationError(f"{self.path} has no question {question_id!r}.", hint="Add it first.")
            rows = run("SELECT coalesce(max(number) + 1, 0) FROM sample WHERE question = ?", (question_id,))
            (first,) = rows.fetchone()
            numbers = range(first, first + len(packed)) if numbers is None else numbers
            _insert(run, question_id, list(zip(numbers, packed, strict=True)), usage=usage, cost=cost, seed=seed)
        return tuple(numbers)

    def add_reply(
        self,
        request_key: RequestKey,
        completions: Sequence[Completion],
        *,
        first_index: int,
        usage: Usage,
        cost: float | None = None,
    ) -> None:
        """Append the completions of one request, numbered from ``first_index``, and its question if new.

        If another process has used an index, any free one is as good. But two completions for the same seed are the
        same completion, so the second is dropped. Raises ConfigurationError as ``add_samples()``.
        """
        question, settings = request_key.question, self._texts.settings(json.loads(request_key.settings_json))
        with self._texts_session() as run:
            question_id = self._texts.stored_id(run, question.id)
        packed, messages = self._pack(completions, question_id), to_json(self._texts.messages(question.messages))
        seed = None if request_key.seed is None else request_key.seed + first_index
        with self._transaction() as run:
            add_tables(self._connection, ORIGINS)
            self._texts.claim(run)
            users = self._texts.stored_users(run, request_key.user_digests)
            run("INSERT OR IGNORE INTO question VALUES (?, ?, NULL, NULL)", (question_id, messages))
            run("INSERT OR IGNORE INTO meta VALUES (?, ?)", (REQUEST_PREFIX + question_id, to_json(settings)))
            rows = run(
                "SELECT number, reply.seed FROM sample JOIN reply ON reply.id = reply WHERE sample.question = ?",
                (question_id,),
            )
            # Skip completions that are stored already; move others whose index another process has used.
            stored_seeds = dict(rows.fetchall())
            numbered, moved_parts = [], []
            for number, parts in enumerate(packed, first_index):
                if number not in stored_seeds:
                    numbered.append((number, parts))
                elif seed is None or stored_seeds[number] != seed:
                    moved_parts.append(parts)
            used = stored_seeds.keys() | dict(numbered).keys()
            numbered += zip((number for number in itertools.count() if number not in used), moved_parts, strict=False)
            _insert(run, question_id, numbered, usage=usage, cost=cost, seed=seed, users=users)

    def set_labels(self, labels: Mapping[tuple[str, int], float | None]) -> None:
        """Set labels by (question id, index), all or none of them: 1 right, 0 wrong, None unknown."""
        with self._transaction() as run:
            for (question_id, index), label in labels.items():
                if label not in (None, 0, 1):
                    raise ConfigurationError(
                        f"The label of {question_id!r}, {index} is {label!r}.", hint="Give 0, 1 or None."
                    )
                row = (None if label is None else float(label), question_id, index)
                if not run("UPDATE sample SET label = ? WHERE question = ? AND number = ?", row).rowcount:
                    raise ConfigurationError(f"{self.path} has no sample {question_id!r}, {index}.")

    def add_verifier_scores(self, question_id: str, scores: Mapping[int, float], *, verifier: str) -> None:
        """Store a verifier's judgements of samples, all or none of them; new ones replace older ones.

        Args:
            question_id: a stored question.
            scores: judgement of each sample by its index, 0..1; 1 is right.
            verifier: identity of the verifier.

        Raises:
            ConfigurationError: a judgement outside 0..1, no such sample, or no disk space; nothing is stored.
        """
        with self._transaction() as run:
            add_tables(self._connection, JUDGEMENTS)
            for index, score in scores.items():
                if not records.is_share(score):
                    raise ConfigurationError(
                        f"The judgement of {question_id!r}, {index} is {score!r}.", hint="Give a number from 0 to 1."
                    )
                if not run("SELECT 1 FROM sample WHERE question = ? AND number = ?", (question_id, index)).fetchone():
                    raise ConfigurationError(f"{self.path} has no sample {question_id!r}, {index}.")
                row = (question_id, index, verifier, float(score))
                run("INSERT OR REPLACE INTO verifier_score VALUES (?, ?, ?, ?)", row)

    def questions(self) -> list[StoredQuestion]:
        """Return the questions in the order in which they were added."""
        with self._read_session() as run:
            return list(map(records.parse_question, run(f"{SELECT_QUESTIONS} ORDER BY rowid")))

    def samples(self, question_id: str, *, limit: int = -1) -> list[Sample]:
        """Return up to ``limit`` samples of a question (all if negative), in the order of their indices."""
        with self._read_session() as run:
            score_rows = run(_SELECT_SCORES, (question_id,)) if has_tables(self._connection, JUDGEMENTS) else ()
            scores = records.parse_verifier_scores(question_id, score_rows)
            rows = run(_SELECT_SAMPLES, (question_id, limit))
            return [records.parse_sample(question_id, row, scores.get(row[0], {})) for row in rows]

    def samples_for_request(self, request_key: RequestKey, *, limit: int) -> list[Sample]:
        """Return up to ``limit`` samples of a request with their complete text, in the order of their indices."""
        question = request_key.question
        with self._read_session() as run:
            if (stored_id := self._texts.stored_id(run, question.id)) != question.id:
                rows = run("SELECT number, arrays FROM sample WHERE question = ?", (stored_id,))
                redacted = {number for number, arrays in rows if is_redacted(arrays)}
                return [sample for sample in self.samples(stored_id) if sample.index not in redacted][:limit]
            row = run(f"{SELECT_QUESTIONS} WHERE id = ?", (question.id,)).fetchone()
            if row is not None and records.parse_question(row).messages != tuple(
                json.loads(to_json(question.messages))
            ):
                raise ValueError(f"question {question.id} has the messages of another request")
        return self.samples(question.id, limit=limit)

    def questions_with_samples(
        self, only: Callable[[StoredQuestion], bool] | None = None
    ) -> Iterator[tuple[StoredQuestion, list[Sample]]]:
        """Yield each question that has samples, and for which ``only`` is true if given, with its samples.

        One question is in memory at a time.
        """
        for question in self.iterate_questions():
            if (only is None or only(question)) and (samples := self.samples(question.id)):
                yield question, samples

    def close(self) -> None:
        """Merge the ``-wal`` file and release the file; calling it twice is harmless."""
        try:
            self._connection.close()
        finally:
            self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pack(
        self,
        completions: Sequence[Completion],
        question_id: str,
        means: Sequence[float | None] | None = None,
        grade: GradeFunction | None = None,
    ) -> list[Parts]:
        with self._texts_session() as run:
            policy = self._texts.claim(run)
        stored = [policy.completion(completion, question_id) for completion in completions] if policy else completions
        is_changed = any(map(operator.is_not, stored, completions))
        try:
            return pack_all(completions, stored, means, grade(completions) if grade and is_changed else None)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.path} cannot store this reply: {error}.", hint="Ask for fewer tokens."
            ) from error

    def _texts_session(self) -> AbstractContextManager[Any]:
        """Return a block in which a policy may mark the file; without a policy nothing is written."""
        return self._transaction() if self._texts.has_policy else self._read_session()

    @contextmanager
    def _read_session(self) -> Iterator[Any]:
        try:
            with translate_errors(self.path):
                yield self._connection.execute
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise not_a_samples_file(self.path, f"it is damaged: {error}") from error

    def _transaction(self) -> AbstractContextManager[Callable[..., sqlite3.Cursor]]:
        """Return a block that is one transaction: all of it is stored, or nothing."""
        return transaction(self._connection, self.path)


def _insert(
    run: Callable[..., sqlite3.Cursor],
    question_id: str,
    numbered_parts: Sequence[tuple[int, Parts]],
    *,
    usage: Usage,
    cost: float | None,
    seed: int | None,
    users: Sequence[bytes] = (),
) -> None:
    """Insert one reply and its samples by number, with the time and the digests of its users."""
    if seed is not None and not -MAX_INTEGER <= seed <= MAX_INTEGER:
        raise ConfigurationError(f"A samples file cannot store the seed {seed}.", hint="Give one below 2**63.")
    # Whatever a provider claims, its reply is paid for and is stored.
    counts = (min(max(0, count), MAX_TOKEN_COUNT) for count in (usage.prompt_tokens, usage.completion_tokens))
    tokens = (*counts, usage.estimated)
    row = (question_id, seed, *tokens, len(numbered_parts), cost)
    reply = run("INSERT INTO reply VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
    seconds = time.time()
    for user in users or (NO_USER,):
        run("INSERT INTO reply_origin VALUES (?, ?, ?)", (reply, user, seconds))
    for number, parts in numbered_parts:
        run("INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)", (question_id, number, reply, *parts))
