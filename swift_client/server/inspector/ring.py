"""The last selections of this process in memory, bounded in number and bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from swift_client.display import selection_dict
from swift_client.server.inspector.entry import Entry, Phase, shorten_completions, shorten_prompt
from swift_client.server.inspector.facts import parse_facts
from swift_client.server.observability.record import RequestRecord
from swift_client.types import Event

_MAX_ENTRIES, _MAX_BYTES = 500, 64 * 2**20


@dataclass
class _PhaseTimes:
    start: float
    end: float
    calls: int = 0


class SelectionRing:
    """An observer that keeps the selections of requests, the newest instead of the oldest.

    Args:
        max_entries: number of selections.
        max_bytes: estimated bytes of all of them; a selection that is longer than that is not kept.
    """

    def __init__(self, *, max_entries: int = _MAX_ENTRIES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._n_bytes = 0
        self._phases: WeakKeyDictionary[RequestRecord, dict[str, _PhaseTimes]] = WeakKeyDictionary()

    def begin(self, record: RequestRecord) -> None:
        """Take no note: a request has no selection yet."""

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Take note of the time of a call upstream."""
        now = record.seconds_so_far()
        times = self._phases.setdefault(record, {}).setdefault(event.phase, _PhaseTimes(now, now))
        times.end = now
        times.calls += event.kind == "request"

    def end(self, record: RequestRecord) -> None:
        """Keep the selection of a request that has one, also a rejected one."""
        phases, selection = self._phases.pop(record, {}), record.selection
        if selection is None:
            return
        entry = Entry(
            id=selection.id,
            time=record.started_at,
            model=record.model,
            prompt=shorten_prompt(record.messages),
            facts=parse_facts(selection_dict(selection)),
            text=selection.text[:1000],
            completions=shorten_completions(candidate.completion for candidate in selection.candidates),
            key=record.key,
            seconds=record.seconds,
            phases=tuple(Phase(name, times.start, times.end, times.calls) for name, times in phases.items()),
        )
        self._add(entry)

    def entries(self) -> list[Entry]:
        """Return all entries, the newest first."""
        return list(reversed(self._entries.values()))

    def find(self, selection_id: str) -> Entry | None:
        """Return the entry of a selection; None if it is not kept."""
        return self._entries.get(selection_id)

    def _add(self, entry: Entry) -> None:
        if entry.size > self._max_bytes:
            return
        self._entries[entry.id] = entry
        self._n_bytes += entry.size
        while len(self._entries) > self._max_entries or self._n_bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._n_bytes -= oldest.size
