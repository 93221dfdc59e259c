"""Entries as HTML. Every value is escaped; the pages hold no style or script of their own, which their CSP forbids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from swift_client.display import FINISH_REASON_LABELS, escape_unsafe
from swift_client.errors import MissingExtraError
from swift_client.report.format import MISSING, PERCENT, format_count, format_decimal, format_percent, pluralize
from swift_client.report.logprob_heatmap import UnlikelyToken, logprob_tokens, unlikely_tokens
from swift_client.report.token_heatmap import COLOUR_LEVELS, ShownTokens
from swift_client.server.inspector.entry import Entry, ShownCompletion
from swift_client.server.inspector.facts import CandidateFacts, SelectionFacts
from swift_client.server.inspector.listing import FILTERS, ListPage, ListQuery
from swift_client.server.inspector.tally import TallyRow, count_votes

if TYPE_CHECKING:
    from jinja2 import Environment

# Candidates whose texts are shown; tokens of the chosen one and of each other one; unlikely tokens in words.
_MAX_TEXTS, _MAX_BEST_TOKENS, _MAX_TOKENS, _MAX_UNLIKELY = 48, 600, 200, 6
_MAX_ROWS, _MAX_NOTES = 256, 50


class CandidateView(NamedTuple):
    """A candidate as a page shows it."""

    facts: CandidateFacts
    completion: ShownCompletion | None
    is_chosen: bool
    ending: str
    tokens: ShownTokens | None  # None without logprobs
    unlikely: list[UnlikelyToken]


class Pages:
    """The pages of one service.

    Args:
        root: path of the inspector, such as "/llm/ui".

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """

    def __init__(self, root: str) -> None:
        self._root, self._environment = root, _create_environment()

    def login(self, form_token: str, *, problem: str = "") -> str:
        """Return the form that asks for a key."""
        return self._render("login.html.j2", form_token=form_token, problem=problem)

    def message(self, title: str, text: str) -> str:
        """Return a page with one message."""
        return self._render("message.html.j2", title=title, text=text)

    def selections(self, page: ListPage, query: ListQuery, problems: Sequence[str], **viewer: Any) -> str:
        """Return a page of the list."""
        values = {"q": query.words, "model": query.model, "show": query.show}
        links = {
            name: f"{self._root}/?{urlencode({**values, 'page': number}, errors='replace')}"
            for name, number in (("previous", page.page - 1), ("next", page.page + 1))
            if 1 <= number <= page.n_pages
        }
        filters = {name: label for name, (label, _) in FILTERS.items()}
        rows = [(entry, _agreement(entry.facts)) for entry in page.entries]
        return self._render(
            "list.html.j2", page=page, rows=rows, query=query, filters=filters, links=links,
            problems=list(dict.fromkeys(problems)), **viewer,
        )  # fmt: skip

    def selection(self, entry: Entry, **viewer: Any) -> str:
        """Return the page of one selection."""
        facts = entry.facts
        candidates = _view_candidates(entry)
        end = max([entry.seconds or 0.0, facts.elapsed, *(phase.end for phase in entry.phases)])
        return self._render(
            "selection.html.j2", entry=entry, facts=facts, tally=count_votes(facts), agreement=_agreement(facts),
            rows=candidates[:_MAX_ROWS], texts=candidates[:_MAX_TEXTS], n_candidates=len(facts.candidates),
            notes=facts.notes[:_MAX_NOTES], n_notes=len(facts.notes), end=end, levels=range(1, COLOUR_LEVELS + 1),
            **viewer,
        )  # fmt: skip

    def _render(self, template: str, **values: Any) -> str:
        document = self._environment.get_template(template).render(root=self._root, missing=MISSING, **values)
        # Jinja2 has escaped markup; control characters and reversed text remain.
        return escape_unsafe(document)


def _create_environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError.needs("server", "The inspector") from error
    environment = Environment(
        loader=PackageLoader("swift_client.server.inspector"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "clip": _clip,
        "count": format_count,
        "decimal": format_decimal,
        "moment": _format_moment,
        "money": _format_money,
        "percent": lambda share: f"{format_percent(share)}{PERCENT}" if _is_finite(share) else MISSING,
        "plural": pluralize,
        "width": lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%" if _is_finite(share) else "0%",
    }
    return environment


def _view_candidates(entry: Entry) -> list[CandidateView]:
    """Return the candidates, the chosen one first, then by falling score."""
    facts = entry.facts
    completions = [*entry.completions, *[None] * len(facts.candidates)]
    scores = [candidate.score if _is_finite(candidate.score) else None for candidate in facts.candidates]
    order = sorted(
        range(len(facts.candidates)), key=lambda i: (i != facts.winner, scores[i] is None, -(scores[i] or 0.0), i)
    )
    views = []
    for place, position in enumerate(order):
        candidate, completion = facts.candidates[position], completions[position]
        has_tokens = completion is not None and completion.tokens and place < _MAX_TEXTS
        tokens, unlikely = None, []
        if has_tokens and completion is not None:
            limit = _MAX_BEST_TOKENS if place == 0 else _MAX_TOKENS
            parts = completion.tokens, completion.logprobs.tolist()
            tokens = logprob_tokens(*parts, completion.censored.tolist(), limit=limit)
            unlikely = unlikely_tokens(*parts, limit=_MAX_UNLIKELY)
        ending = FINISH_REASON_LABELS.get(candidate.finish_reason, "")
        views.append(CandidateView(candidate, completion, place == 0, ending, tokens, unlikely))
    return views


def _agreement(facts: SelectionFacts) -> TallyRow | None:
    """Return the votes for the chosen answer; None if there was no vote."""
    return next((row for row in count_votes(facts) if row.is_chosen), None)


def _clip(text: str, length: int) -> str:
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[:length]}…"


def _format_money(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"


def _format_moment(seconds: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _is_finite(value: Any) -> Any:
    return isinstance(value, (int, float)) and math.isfinite(value)
