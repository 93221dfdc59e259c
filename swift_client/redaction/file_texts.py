"""The texts of one samples file: as they are, or as a policy keeps them, which the file records for later writers."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift_client.errors import ConfigurationError
from swift_client.redaction.hashes import KEY_VARIABLE, hash_id, secret_key

if TYPE_CHECKING:
    from swift_client.redaction.policy import FilePolicy, StoragePolicy
    from swift_client.types import Message

_NAME = "privacy"  # of the record's row in the table ``meta``
Run = Callable[..., Any]  # executes a statement


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Record of what a samples file keeps.

    Attributes:
        redact: Names of the presets that were applied to all of it, "custom" for functions of the user.
        keep: "all" or "arrays".
        salt: 16 random bytes; hashes in this file say nothing about those in another.
        key_check: Hash by which the secret of ``KEY_VARIABLE`` is known again; None if the hashes need none.
    """

    redact: frozenset[str]
    keep: str
    salt: bytes
    key_check: str | None

    @classmethod
    def create(cls, policy: StoragePolicy) -> FileRecord:
        """Return the record of a new file."""
        salt = secrets.token_bytes(16)
        key = secret_key(salt)
        check = _check(key) if key != salt else None
        return cls(redact=policy.names, keep=policy.keep, salt=salt, key_check=check)

    @classmethod
    def read(cls, run: Run) -> FileRecord | None:
        """Read the record of a file; None if it keeps everything. Raises ValueError, KeyError or TypeError."""
        row = run("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
        if row is None:
            return None
        facts = json.loads(row[0])
        names, keep, check = frozenset(facts["redact"]), facts["keep"], facts["key_check"]
        if not all(isinstance(name, str) for name in names) or keep not in ("all", "arrays"):
            raise ValueError("its record of what it keeps is not one")
        if not isinstance(check, str | None):
            raise ValueError("the check of its key is not text")
        return cls(redact=names, keep=keep, salt=bytes.fromhex(facts["salt"]), key_check=check)

    def write(self, run: Run) -> None:
        """Write the record of a new file."""
        facts = {"redact": sorted(self.redact), "keep": self.keep, "salt": self.salt.hex(), "key_check": self.key_check}
        run("INSERT INTO meta VALUES (?, ?)", (_NAME, json.dumps(facts)))

    def hash_key(self, path: Path) -> bytes:
        """Return the key of all hashes in the file.

        Raises:
            ConfigurationError: they need the secret of ``KEY_VARIABLE``, which is not set or another one.
        """
        if self.key_check is None:
            return self.salt
        key = secret_key(self.salt)
        if not hmac.compare_digest(_check(key), self.key_check):
            raise ConfigurationError(
                f"The hashes in {path} need the secret of {KEY_VARIABLE} with which the file was made.",
                hint=f"Set {KEY_VARIABLE} as it was then.",
            )
        return key


class FileTexts:
    """Texts and ids as one open samples file stores them."""

    def __init__(self, path: Path, policy: StoragePolicy | None) -> None:
        """Read nothing yet. Without a policy texts are stored as they are, unless the file keeps less."""
        self._path, self._policy = path, policy
        self._file_policy: FilePolicy | None = None

    @property
    def has_policy(self) -> bool:
        """True if ``claim()`` may mark the file."""
        return self._policy is not None

    def claim(self, run: Run) -> FilePolicy | None:
        """Return how texts are stored, None for as they are; within a transaction, which marks a new file.

        Raises:
            ConfigurationError: the policy would store what the file leaves out, or the file has texts that were stored
                without one, or the secret is missing.
        """
        if self._file_policy is not None:
            return self._file_policy
        record, policy = FileRecord.read(run), self._policy
        if record is None:
            if policy is None:
                return None
            if run("SELECT 1 FROM question LIMIT 1").fetchone():
                raise ConfigurationError(
                    f"{self._path} has texts that were stored without redact= and keep=.", hint="Give a new file."
                )
            record = FileRecord.create(policy)
            record.write(run)
            return policy.for_file(record.hash_key(self._path))  # not kept: the transaction may fail
        if policy is None or not record.redact <= policy.names or (record.keep, policy.keep) == ("arrays", "all"):
            left_out = "texts" if record.keep == "arrays" else ", ".join(sorted(record.redact))
            raise ConfigurationError(
                f"{self._path} leaves out {left_out}, and this would store more.",
                hint="Pass the redact= and keep= that the file was made with, or give another file.",
            )
        self._file_policy = policy.for_file(record.hash_key(self._path))
        return self._file_policy

    def stored_id(self, run: Run, id: str) -> str:
        """Return the id of a question or a verdict under which the file has it; errors as of ``claim()``."""
        if self._policy is not None and (policy := self.claim(run)) is not None:
            return policy.stored_id(id)
        record = FileRecord.read(run)
        return id if record is None else hash_id(record.hash_key(self._path), id)

    def stored_users(self, run: Run, digests: Iterable[bytes]) -> list[bytes]:
        """Return digests of users as the file has them: a mail address, say, can be guessed as a prompt can."""
        record = FileRecord.read(run)
        if record is None:
            return list(digests)
        key = record.hash_key(self._path)
        return [hmac.digest(key, digest, "sha256")[:16] for digest in digests]

    def messages(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return messages as they are stored."""
        return messages if self._policy is None else self._policy.messages(messages)

    def answer(self, run: Run, answer: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        """Return a reference answer, or several, as stored; None if no text is kept.

        Without a policy, the presets of the file apply.

        Raises:
            ConfigurationError: there is no policy, and the file was made with a function of the user.
        """
        if answer is None or (policy := self._policy or self._recorded_policy(run)) is None:
            return answer
        if policy.keep == "arrays":
            return None
        return policy.text(answer) if isinstance(answer, str) else tuple(map(policy.text, answer))

    def _recorded_policy(self, run: Run) -> StoragePolicy | None:
        """Return the policy of the file for texts that are no answers of a model; None if it keeps everything."""
        record = FileRecord.read(run)
        if record is None:
            return None
        from swift_client.redaction.policy import CUSTOM, create_policy

        if CUSTOM in record.redact and record.keep == "all":
            raise ConfigurationError(
                f"Answers cannot be added to {self._path}: the function of redact= that it was made with is not known.",
                hint="Give the answers with the questions when you collect them, with the same redact=.",
            )
        return create_policy(sorted(record.redact - {CUSTOM}), record.keep, attrgetter("text"))

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a request as they are stored."""
        return settings if self._policy is None else self._policy.settings(settings)


def _check(key: bytes) -> str:
    return hmac.digest(key, b"check", "sha256").hex()
