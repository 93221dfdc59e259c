"""Open batch jobs in a samples file."""

from __future__ import annotations

from pathlib import Path

from swift_client.errors import ConfigurationError
from swift_client.store.question_ranges import BATCH_PREFIX
from swift_client.store.verdict_store import VerdictStore

# Name in ``meta`` of the fact that batches returned no logprobs.
_NO_LOGPROBS_NAME = "batches without logprobs"


class BatchStore(VerdictStore):
    """A samples file that also records batches, each as a text under a name, in one transaction each."""

    @property
    def scratch_folder(self) -> Path | None:
        """Folder for temporary files with complete texts; None if those may not touch a disk."""
        return None if self._texts.has_policy else self.path.parent

    def batches(self) -> dict[str, str]:
        """Return the text of each open batch by name, in the order of the names."""
        with self._read_session() as run:
            rows = run(
                "SELECT name, value FROM meta WHERE substr(name, 1, ?) = ? ORDER BY name",
                (len(BATCH_PREFIX), BATCH_PREFIX),
            )
            return {name.removeprefix(BATCH_PREFIX): value for name, value in rows}

    def save_batch(self, name: str, text: str) -> None:
        """Record a batch, or replace its text. It survives kill -9 once this returns."""
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BATCH_PREFIX + name, text))

    def drop_batch(self, name: str) -> None:
        """Delete the record of a batch whose results are all in the file, or that was never created."""
        with self._transaction() as run:
            run("DELETE FROM meta WHERE name = ?", (BATCH_PREFIX + name,))

    def forget_batches(self) -> None:
        """Delete the records of all batches, and of earlier batches without logprobs."""
        with self._transaction() as run:
            run(
                "DELETE FROM meta WHERE substr(name, 1, ?) = ? OR name = ?",
                (len(BATCH_PREFIX), BATCH_PREFIX, _NO_LOGPROBS_NAME),
            )

    def mark_no_logprobs(self) -> None:
        """Record that a batch returned replies without logprobs."""
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_NO_LOGPROBS_NAME, "yes"))

    @property
    def lacks_logprobs(self) -> bool:
        """True if a batch returned replies without logprobs."""
        with self._read_session() as run:
            return bool(list(run("SELECT 1 FROM meta WHERE name = ?", (_NO_LOGPROBS_NAME,))))

    def refuse_open_batches(self) -> None:
        """Raise ConfigurationError if a batch is open, since direct requests would pay twice."""
        if open_ := len(self.batches()):
            raise ConfigurationError(
                f"{self.path} has {open_} open batch(es), whose requests are already paid for.",
                hint="First run the same command with --batch to fetch their results.",
            )
