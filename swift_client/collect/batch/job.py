"""A batch as the samples file remembers it: which completions it was asked for, and how far it has come."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.store import BatchStore


class BatchRequest(NamedTuple):
    """One request of a batch: ``wanted`` completions of a question, numbered from ``first``."""

    question_id: str
    first_index: int
    n: int

    @property
    def custom_id(self) -> str:
        """Its name in the batch: the same for the same question and number, and safe whatever the question's id is."""
        return (
            f"{hashlib.sha256(self.question_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}-{self.first_index}"
        )


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A batch that was asked for, and may have been made and so cost money, until all of it is fetched.

    It is written down before the call that makes the batch, so that a process killed at any moment finds it again; what
    came before that call, an uploaded file, costs nothing.
    """

    token: str
    """Stands in the batch's metadata."""
    wishes: tuple[BatchRequest, ...]
    file_id: str
    """The uploaded input file; no two batches share one."""
    asked_at: float
    """Unix time of the last call that asked for the batch."""
    seed: int | None = None
    top_logprobs: int | None = None
    """Columns of every ``top_logprobs``; None where no logprobs are asked for."""
    batch_id: str | None = None
    """None until the provider's answer has been read."""

    @classmethod
    def create(
        cls, wishes: Iterable[BatchRequest], file_id: str, *, seed: int | None, top_logprobs: int | None
    ) -> BatchJob:
        """Return a job that is about to be asked for."""
        return cls(
            token=secrets.token_hex(16),
            wishes=tuple(wishes),
            file_id=file_id,
            asked_at=time.time(),
            seed=seed,
            top_logprobs=top_logprobs,
        )

    def with_new_time(self) -> BatchJob:
        """Return the job as it is asked for once more."""
        return replace(self, asked_at=time.time())

    def save(self, store: BatchStore) -> BatchJob:
        """Write it down and return it."""
        store.save_batch(self.token, msgspec.json.encode(self).decode())
        return self


def open_jobs(store: BatchStore) -> list[BatchJob]:
    """Return the jobs that the file remembers, the oldest first. Raises ConfigurationError for what is no job."""
    try:
        jobs = [msgspec.json.decode(text, type=BatchJob) for text in store.batches().values()]
    except ValueError as error:
        raise ConfigurationError(
            f"{store.path} is damaged: what it says of a batch under way cannot be read ({error}).",
            hint="The provider still has the batch: download its output, and read it with --replies into a new file.",
        ) from error
    return sorted(jobs, key=lambda job: job.asked_at)


def split_into_files(
    requests: Iterable[BatchRequest],
    format_line: Callable[[BatchRequest], bytes],
    folder: Path,
    *,
    max_lines: int,
    max_bytes: int,
) -> Generator[tuple[list[BatchRequest], BinaryIO]]:
    """Write the lines of ``wishes`` into as few input files as hold them; each lives until the next is asked for.

    Raises:
        ConfigurationError: a line alone is too long, or there is no room.
    """
    rest = iter(requests)
    wish = next(rest, None)
    while wish is not None:
        with open_temporary_file(folder) as file:
            here: list[BatchRequest] = []
            while wish is not None and len(here) < max_lines:
                data = format_line(wish)
                if len(data) > max_bytes:
                    raise ConfigurationError(
                        f"Question {wish.question_id!r} makes a request of {len(data):,} bytes; a batch takes "
                        f"{max_bytes:,}.",
                        hint="Shorten its prompt, or leave it out.",
                    )
                if file.tell() + len(data) > max_bytes:
                    break
                file.write(data)
                here.append(wish)
                wish = next(rest, None)
            file.seek(0)
            yield here, file


def open_temporary_file(folder: Path) -> BinaryIO:
    """Open a file in ``folder``, where there should be room, that is gone when it is closed or the process killed."""
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise ConfigurationError(
            f"No file can be made in {folder}: {error.strerror or error}.", hint="Check the folder, and its room."
        ) from error
