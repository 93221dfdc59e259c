"""The folder of runs: who may write, the settings of all samples, and what killed runs have lost."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from swift_client.errors import ConfigurationError
from swift_client.ray.batch import RUN
from swift_client.ray.committed import Committed
from swift_client.ray.folder import Folder
from swift_client.ray.in_flight import IN_FLIGHT, Losses, journal_prefix, read_losses, read_total, write_total
from swift_client.ray.shards import SAMPLES
from swift_client.store import Meta
from swift_client.store.records import meta_to_dict, to_json
from swift_client.store.write_lock import WriteLock

SETTINGS = "settings.json"
_ORPHAN_SECONDS = 2.0  # seconds within which the workers of a killed driver end the shard that they are writing


@contextmanager
def lock_folder(folder: Folder) -> Iterator[None]:
    """Lock a local folder against other runs of this machine; elsewhere ``run.json`` alone decides who may write."""
    path = folder.local_path
    if path is None:
        yield
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = WriteLock(path / "run", shared=False, timeout=0)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"Another run writes to {folder}.", hint="Wait for it, or give another folder."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}.", hint="Give a folder that you may write to."
        ) from error
    try:
        yield
    finally:
        lock.release()


def begin_folder(folder: Folder, meta: Meta) -> None:
    """Store the settings of all samples. Raises ConfigurationError if the folder has samples with others."""
    new = json.loads(to_json(meta_to_dict(meta)))
    data = folder.read(SETTINGS)
    if data is not None:
        try:
            old = json.loads(data)
            changes = [f"{name} {old[name]!r} and not {new[name]!r}" for name in new if new[name] != old[name]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigurationError(
                f"{folder}/{SETTINGS} is damaged: {error}.", hint="Give another folder."
            ) from error
        if not changes:
            return
        if folder.list_files(SAMPLES, ".parquet"):
            raise ConfigurationError(
                f"{folder} contains samples with {'; '.join(changes)}.",
                hint="Continue with the same settings, or give another folder.",
            )
    folder.write(SETTINGS, json.dumps(new).encode())


def take_over(folder: Folder, run: str) -> tuple[Committed, Losses]:
    """Become the run that may write; return what earlier ones stored, and what was lost when they were killed."""
    folder.write(RUN, run.encode())
    journals = folder.list_files(IN_FLIGHT, ".json")
    if journals:  # the workers of a killed driver may be writing a shard at this moment
        time.sleep(_ORPHAN_SECONDS)
    committed = Committed.read(folder)
    losses = read_total(folder)
    for name in journals:
        losses += read_losses(folder, name, committed.indices)
    _store_losses(folder, losses, journals)
    return committed, losses


def end_run(folder: Folder, run: str, committed: Committed, losses: Losses) -> Losses:
    """Store the losses at the end of a run; return them with those of earlier runs that became known meanwhile.

    Args:
        folder: the folder.
        run: name of the run.
        committed: what the folder had when the run began.
        losses: those of the run and of all before it.
    """
    journals = folder.list_files(IN_FLIGHT, ".json")
    for name in journals:
        if not name.startswith(journal_prefix(run)):  # a worker of a killed driver wrote it after take_over()
            losses += read_losses(folder, name, committed.indices)
    _store_losses(folder, losses, journals)
    return losses


def _store_losses(folder: Folder, losses: Losses, journals: Sequence[str]) -> None:
    """Store the losses so far, and remove the journals that they were counted from."""
    if journals:
        write_total(folder, losses)
        for name in journals:
            folder.delete(name)
