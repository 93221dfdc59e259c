"""Verdicts of judges in a samples file, so that the same verdict is not paid for twice."""

from __future__ import annotations

import time
from collections.abc import Sequence

from swift_client.store.records import StoredVerdict, parse_verdict
from swift_client.store.sample_store import SampleStore
from swift_client.store.schema import JUDGEMENTS, ORIGINS
from swift_client.store.sqlite import add_tables, has_tables
from swift_client.types import MAX_TOKEN_COUNT, Usage

_SELECT_VERDICT = (
    "SELECT value, confidence, from_text, prompt_tokens, completion_tokens, cost FROM verdict WHERE id = ?"
)


class VerdictStore(SampleStore):
    """A samples file that also has verdicts, each by a digest of everything that the judge was asked."""

    def verdicts(self, keys: Sequence[str]) -> dict[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key."""
        with self._read_session() as run:
            if not has_tables(self._connection, JUDGEMENTS):
                return {}
            rows = {key: run(_SELECT_VERDICT, (self._texts.stored_id(run, key),)).fetchone() for key in keys}
            return {key: parse_verdict(row) for key, row in rows.items() if row is not None}

    def add_verdict(self, key: str, verdict: StoredVerdict, *, question_id: str | None = None) -> None:
        """Store a verdict; one that another process has stored meanwhile is kept. It survives kill -9 afterwards.

        Args:
            key: digest of everything that the judge was asked.
            verdict: the verdict.
            question_id: the stored question that it is about, if known.
        """
        tokens = (min(max(0, count), MAX_TOKEN_COUNT) for count in (verdict.prompt_tokens, verdict.completion_tokens))
        facts = (verdict.value, verdict.confidence, verdict.from_text, *tokens, verdict.cost)
        with self._transaction() as run:
            add_tables(self._connection, ORIGINS)
            key = self._texts.stored_id(run, key)
            question_id = self._texts.stored_id(run, question_id) if question_id else ""
            if run("INSERT OR IGNORE INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *facts)).rowcount:
                run("INSERT OR REPLACE INTO verdict_origin VALUES (?, ?, ?)", (question_id, key, time.time()))

    def verdict_totals(self) -> tuple[Usage, float | None]:
        """Return tokens and calls of all verdicts, and their cost; None if that of any is unknown."""
        with self._read_session() as run:
            if not has_tables(self._connection, JUDGEMENTS):
                return Usage(), 0.0
            calls, prompt, completion, cost, unknown = run(
                "SELECT count(*), total(prompt_tokens), total(completion_tokens), total(cost), "
                "count(*) - count(cost) FROM verdict"
            ).fetchone()
        usage = Usage(prompt_tokens=int(prompt), completion_tokens=int(completion), calls=calls)
        return usage, None if unknown else float(cost)
