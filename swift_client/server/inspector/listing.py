"""The list of selections: merged from memory and files, searched, filtered and cut into pages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from swift_client.server.inspector.entry import Entry

PAGE_SIZE = 25

# The values of the filter "show": name in the address, label, and condition.
FILTERS: Mapping[str, tuple[str, Callable[[Entry], bool]]] = MappingProxyType(
    {
        "all": ("all", lambda entry: True),
        "rejected": ("not accepted", lambda entry: entry.facts.accepted is False),
        "notes": ("with notes", lambda entry: bool(entry.facts.notes)),
        "failures": ("with failed calls", lambda entry: bool(entry.facts.failures)),
        "right": ("marked right", lambda entry: entry.correct is True),
        "wrong": ("marked wrong", lambda entry: entry.correct is False),
    }
)


@dataclass(frozen=True, kw_only=True)
class ListQuery:
    """The search that an address asks for.

    Attributes:
        words: Text that an entry must contain, upper or lower case.
        model: Name of a model; empty for all.
        show: A key of ``FILTERS``.
        page: Number of the page, from 1.
    """

    words: str = ""
    model: str = ""
    show: str = "all"
    page: int = 1

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> ListQuery:
        """Read the parameters of an address; what is not valid counts as not given."""
        page, show = values.get("page", ""), values.get("show", "all")
        return cls(
            words=values.get("q", "")[:200].strip(),
            model=values.get("model", "")[:200],
            show=show if show in FILTERS else "all",
            page=max(1, int(page)) if page.isascii() and page.isdecimal() and len(page) < 6 else 1,
        )

    def accepts(self, entry: Entry) -> bool:
        """Return True if an entry belongs to the list."""
        if (self.model and entry.model != self.model) or not FILTERS[self.show][1](entry):
            return False
        words = self.words.casefold()
        facts = entry.facts
        texts = [*(part.text for part in entry.prompt), entry.text, facts.answer or "", entry.id, *facts.notes]
        return not words or any(words in text.casefold() for text in texts)


@dataclass(frozen=True, kw_only=True)
class ListPage:
    """One page of the list."""

    entries: Sequence[Entry]
    n_matches: int
    n_all: int
    page: int
    n_pages: int
    models: Sequence[str]


def merge(recent: Iterable[Entry], stored: Iterable[Entry]) -> list[Entry]:
    """Return all entries, the newest first; of two with one id the one in memory, with the feedback of the file."""
    by_id = {entry.id: entry for entry in stored}
    for entry in recent:
        by_id[entry.id] = with_feedback(entry, by_id.get(entry.id))
    return sorted(by_id.values(), key=lambda entry: -entry.time)


def with_feedback(entry: Entry, stored: Entry | None) -> Entry:
    """Return the entry in memory with the feedback of the one in a file."""
    return entry if stored is None else replace(entry, correct=stored.correct, is_recorded=True)


def find_page(entries: Sequence[Entry], query: ListQuery) -> ListPage:
    """Return the page that ``query`` asks for; the last one if there are fewer."""
    matches = [entry for entry in entries if query.accepts(entry)]
    n_pages = max(1, -(-len(matches) // PAGE_SIZE))
    page = min(query.page, n_pages)
    return ListPage(
        entries=matches[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
        n_matches=len(matches),
        n_all=len(entries),
        page=page,
        n_pages=n_pages,
        models=sorted({entry.model for entry in entries}),
    )
