"""What a samples file knows of batches under way: paid for, and not fetched yet."""

from __future__ import annotations

from swift_client.errors import ConfigurationError
from swift_client.store.sample_store import SampleStore

_BATCH_PREFIX = "batch "
"""Beginning of the names under which ``meta`` holds batches."""
_NO_LOGPROBS_NAME = "batches without logprobs"
"""Name under which it holds that batches brought none."""


class BatchStore(SampleStore):
    """A samples file whose batches are written down as well, each as a text under a name; one transaction each."""

    def batches(self) -> dict[str, str]:
        """Return what was written down of each batch that is not dropped yet, by name, in the order of the names."""
        with self._read_session() as run:
            rows = run(
                "SELECT name, value FROM meta WHERE substr(name, 1, ?) = ? ORDER BY name",
                (len(_BATCH_PREFIX), _BATCH_PREFIX),
            )
            return {name.removeprefix(_BATCH_PREFIX): value for name, value in rows}

    def save_batch(self, name: str, text: str) -> None:
        """Write a batch down, in the place of what was there; safe from kill -9 when this returns."""
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_BATCH_PREFIX + name, text))

    def drop_batch(self, name: str) -> None:
        """Forget a batch: all that it brought is in the file, or it was never made."""
        with self._transaction() as run:
            run("DELETE FROM meta WHERE name = ?", (_BATCH_PREFIX + name,))

    def forget_batches(self) -> None:
        """Forget all of them, and what earlier ones lacked."""
        with self._transaction() as run:
            run(
                "DELETE FROM meta WHERE substr(name, 1, ?) = ? OR name = ?",
                (len(_BATCH_PREFIX), _BATCH_PREFIX, _NO_LOGPROBS_NAME),
            )

    def mark_no_logprobs(self) -> None:
        """Write down that a batch brought replies and no logprobs."""
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_NO_LOGPROBS_NAME, "yes"))

    @property
    def lacks_logprobs(self) -> bool:
        """Whether that is written down."""
        with self._read_session() as run:
            return bool(list(run("SELECT 1 FROM meta WHERE name = ?", (_NO_LOGPROBS_NAME,))))

    def refuse_open_batches(self) -> None:
        """Raise ConfigurationError where a batch is under way: to ask directly would pay twice."""
        if open_ := len(self.batches()):
            raise ConfigurationError(
                f"{self.path} has {open_} batch(es) under way, whose requests are paid for.",
                hint="Run the same command with --batch, which fetches them; then this one.",
            )
