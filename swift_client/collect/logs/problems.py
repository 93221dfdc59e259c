"""Problems of a log, counted by kind, so that nothing is left out or changed without a note."""

from __future__ import annotations

from collections import Counter

MAX_KINDS = 8  # kinds of problems that the notes name
_MAX_KINDS_COUNTED = 100  # a hostile file may have a new kind on every line
_MAX_LINES_NAMED = 3
_OTHER = ("line", "other problems")


class Problems:
    """The problems of one file, and the lines on which each kind occurs first."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lines: dict[tuple[str, str], list[int]] = {}

    def add(self, noun: str, problem: str, line: int, *, count: int = 1) -> None:
        """Count a problem.

        Args:
            noun: noun for what has it: "line", "completion", "label", ...
            problem: the problem, and what is done about it, as "not JSON; left out".
            line: number of the line, from 1.
            count: how many on this line have it.
        """
        kind = (noun, problem)
        if kind not in self._counts and len(self._counts) >= _MAX_KINDS_COUNTED:
            kind = _OTHER
        self._counts[kind] += count
        lines = self._lines.setdefault(kind, [])
        if len(lines) < _MAX_LINES_NAMED and line not in lines:
            lines.append(line)

    def first(self) -> str | None:
        """Return the note on the problem that occurred first; None without problems."""
        return next((self._describe(kind) for kind in self._counts), None)

    def notes(self) -> tuple[str, ...]:
        """Return one sentence per kind of problem, the most frequent first."""
        kinds = [kind for kind, _ in self._counts.most_common()]
        rest = sum(self._counts[kind] for kind in kinds[MAX_KINDS:])
        others = (f"{rest:,} more problems of {len(kinds) - MAX_KINDS:,} other kinds.",) if rest else ()
        return (*map(self._describe, kinds[:MAX_KINDS]), *others)

    def _describe(self, kind: tuple[str, str]) -> str:
        (noun, problem), count, lines = kind, self._counts[kind], self._lines[kind]
        where = f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"
        more = ", ..." if count > len(lines) and len(lines) == _MAX_LINES_NAMED else ""
        return f"{count:,} {noun}{'s' * (count > 1)}: {problem} ({where}{more})."
