"""The file of a canary: the first run and the latest one, as numbers without any answer's text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import platformdirs
from numpy.typing import NDArray

from swift_client.diagnostics.canary.questions import ANSWERS, QUESTIONS, questions_digest
from swift_client.errors import ConfigurationError
from swift_client.store.atomic_write import atomic_write

_FORMAT = 1
_MAX_BYTES = 16_000_000


class CanaryRun(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one run. Q questions, each answered up to N times; a failed answer is not in the lists.

    Attributes:
        time: Unix time in seconds.
        identities: Names of model and system that the replies gave, sorted.
        names: (S,) statistics of one answer, as ``swift_client.monitoring`` names them.
        statistics: Q lists of at most N rows of S values; None where an answer does not have the statistic.
        first_tokens: Q lists of at most N lists: the falling probabilities of the alternatives of the first token.
    """

    time: float
    identities: tuple[str, ...]
    names: tuple[str, ...]
    statistics: tuple[tuple[tuple[float | None, ...], ...], ...]
    first_tokens: tuple[tuple[tuple[float, ...], ...], ...]

    def values(self, names: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return Q arrays (number of answers, number of ``names``) float64, NaN for what is missing."""
        columns = [self.names.index(name) for name in names]
        return [
            np.array([[row[column] for column in columns] for row in rows], np.float64).reshape(len(rows), len(columns))
            for rows in self.statistics
        ]


class CanaryFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file.

    Attributes:
        format: Version of the format, 1.
        provider: Name of the provider.
        model: Name of the model that was requested.
        questions: Digest of the questions and settings.
        count: Number of runs so far.
        first: The first run.
        last: The latest run.
    """

    format: int
    provider: str
    model: str
    questions: str
    count: int
    first: CanaryRun
    last: CanaryRun


def default_path(provider: str, model: str, base_url: str | None) -> Path:
    """Return the file of a model in the user's folder of states; another address has another file.

    On Linux the folder is ``$XDG_STATE_HOME/swift-client/canary`` or ``~/.local/state/swift-client/canary``.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{provider}-{model}").strip("-.")[:80]
    digest = hashlib.sha256("\0".join((provider, model, base_url or "")).encode()).hexdigest()[:8]
    return platformdirs.user_state_path("swift-client", appauthor=False) / "canary" / f"{readable}-{digest}.json"


def read_canary(path: Path, *, provider: str, model: str) -> CanaryFile | None:
    """Return the earlier runs; None if there is no file yet, or its questions were others.

    Raises:
        ConfigurationError: the file cannot be read, is damaged or of a newer version, or is of another model.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unusable(path, "it is too large")
        content = msgspec.json.decode(path.read_bytes(), type=CanaryFile)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", hint="Give another file.") from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _unusable(path, str(error)) from error
    if content.format != _FORMAT:
        raise _unusable(path, f"its format {content.format} is of a newer version")
    if (content.provider, content.model) != (provider, model):
        raise ConfigurationError(
            f"{path} has the canary of {content.provider}/{content.model}, not of {provider}/{model}.",
            hint="Give each model a file of its own.",
        )
    if content.questions != questions_digest():
        return None
    for run in (content.first, content.last):
        _check(run, path)
    return content


def write_canary(path: Path, content: CanaryFile) -> None:
    """Write the file, readable by its owner only. Raises ConfigurationError if that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(path) as draft:
            draft.write_bytes(msgspec.json.encode(content))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error}.", hint="Give another file.") from error


def extend(earlier: CanaryFile | None, run: CanaryRun, *, provider: str, model: str) -> CanaryFile:
    """Return the content of the file after one more run."""
    return CanaryFile(
        format=_FORMAT,
        provider=provider,
        model=model,
        questions=questions_digest(),
        count=1 if earlier is None else earlier.count + 1,
        first=run if earlier is None else earlier.first,
        last=run,
    )


def _check(run: CanaryRun, path: Path) -> None:
    """Raise ConfigurationError for a run of another shape, or with numbers that no answer has."""
    has_shape = len(run.statistics) == len(run.first_tokens) == len(QUESTIONS)
    rows = [row for question in run.statistics for row in question]
    lists = [shares for question in run.first_tokens for shares in question]
    counts = [len(question) for part in (run.statistics, run.first_tokens) for question in part]
    if not has_shape or max(counts) > ANSWERS or any(len(row) != len(run.names) for row in rows):
        raise _unusable(path, "a run has another number of questions, answers or statistics")
    if any(not 0 <= share <= 1.001 for shares in lists for share in shares):
        raise _unusable(path, "a probability is not from 0 to 1")


def _unusable(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is not a file of canary runs: {reason}.", hint="Remove it to begin again, or give another file."
    )
