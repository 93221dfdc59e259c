"""A Selection as text, as a rich table and as HTML, with the untrusted text of completions escaped; and as JSON.

This module is a layer below types.py and reads a Selection only through its public names, so that
``Selection._repr_html_`` can call it (docs/decisions/0001). Only the table imports rich.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from swift_client.types import Candidate, Failure, Selection, Usage, Verification

# Short labels of finish reasons; "stop" and "unknown" have none.
FINISH_REASON_LABELS = {
    "length": "cut",
    "content_filter": "filtered",
    "refusal": "refused",
    "error": "broken",
    "tool_calls": "tool call",
}

# Cc: terminal control, Cf: bidi overrides and invisible characters, Cs: lone surrogates, Zl/Zp: Unicode line ends.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Ordinary text needs line ends, tabs, and the joiners of emoji and of Persian or Indic words.
_SAFE_CHARACTERS = frozenset("\n\t\u200c\u200d")


def escape_unsafe(text: str) -> str:
    r"""Replace every control, bidi or invisible character by its escape (ESC becomes ``\x1b``).

    Nothing in the result can move a cursor, colour a terminal, set its title or reverse the reading order.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _UNSAFE_CATEGORIES and char not in _SAFE_CHARACTERS
        else char
        for char in text
    )


def summary(selection: Selection) -> str:
    """Summarize a selection in one line: method, candidates, scorer, signal, usage and cost."""
    usage, stopped = selection.usage, selection.stopped
    savings = f", about {stopped.saved_tokens:,} tokens saved" if stopped and stopped.saved_tokens else ""
    plan = f" of {stopped.planned} planned ({stopped.rule}{savings})" if stopped else ""
    parts = [
        f"chosen by {selection.method} among {len(selection.candidates)}{plan}",
        f"scorer {selection.scorer}",
        f"signal {selection.signal}",
    ]
    if selection.accepted is not None:
        parts.insert(1, "accepted" if selection.accepted else "not accepted: check it")
    if len(selection.path) > 1:
        parts.append("asked " + " → ".join(f"{step.model or step.provider} n={step.n}" for step in selection.path))
    if usage.calls:
        about = "about " if usage.estimated else ""
        tokens = f"{about}{_format_tokens(usage, selection.cost)}"
        parts += [tokens, _count(usage.calls, "call"), f"{selection.elapsed:.1f} s"]
    return escape_unsafe(" · ".join(parts))


def verification_summary(verification: Verification) -> str:
    """Summarize the work of a verifier in one escaped line: judge, mode, answers, calls, tokens, cost, confidence."""
    judged, calls = verification.judged, verification.calls
    work = [f"{_count(judged, 'answer')} judged" if judged else "no judgement" if calls else "not asked"]
    if calls:
        work += [_count(calls, "call"), _format_tokens(verification.usage, verification.cost)]
    if verification.confidence is not None:
        work.append(f"confidence {verification.confidence:.3f}{'' if judged else ' without it'}")
    if verification.failures:
        work.append(f"{_count(len(verification.failures), 'verdict')} failed")
    judge = _shorten_line(verification.judge, _MAX_NAME)
    return " ".join(escape_unsafe(f"verifier {judge} ({verification.mode}): {' · '.join(work)}").split())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _format_tokens(usage: Usage, cost: float | None) -> str:
    tokens = f"{usage.prompt_tokens:,} prompt + {usage.completion_tokens:,} completion tokens"
    return tokens if cost is None else f"{tokens} (${cost:{'.2f' if cost >= 1 else '.2g'}})"


def warnings(selection: Selection) -> list[str]:
    """Return one escaped line per note and per failed call."""
    failures = [f"{failure.lost} of the completions lost: {failure.error}" for failure in selection.failures]
    return [escape_unsafe(line) for line in (*selection.notes, *failures)]


# Limits on the text of a Selection: lines of the answer, characters of a line, answers in the count, notes,
# characters of a model's name.
_MAX_TEXT_LINES, _MAX_LINE, _MAX_COUNTED, _MAX_SHOWN_NOTES, _MAX_NAME = 3, 160, 4, 3, 80


def _shorten_line(line: str, length: int = _MAX_LINE) -> str:
    return line if len(line) <= length else line[: length - 1] + "…"


def selection_text(selection: Selection) -> str:
    """Return a summary of at most ten lines: the chosen text, its answer, the votes, the cost, notes."""
    lines = [line for line in escape_unsafe(selection.text[:10_000]).splitlines() if line.strip()]
    shown = [_shorten_line(line) for line in lines[:_MAX_TEXT_LINES]]
    if len(lines) > len(shown):
        shown[-1] += f" … ({len(selection.text):,} characters)"
    answer = "no answer" if selection.answer is None else f"answer {escape_unsafe(selection.answer[:_MAX_ANSWER])}"
    numbers = [
        f"{name} {value:.3f}"
        for name, value in (
            ("answer probability", selection.answer_probability),
            ("probability", selection.probability),
            ("score", selection.score),
            ("judgement", selection.best.verifier_score),
        )
        if value is not None
    ]
    counts = Counter(candidate.group for candidate in selection.candidates)
    if len(counts) > 1 or None not in counts:
        first = {candidate.group: candidate.answer for candidate in reversed(selection.candidates)}
        ranked = [group for group, _ in counts.most_common() if group is not None]
        answers = [f"{escape_unsafe((first[group] or '')[:40])} ×{counts[group]}" for group in ranked[:_MAX_COUNTED]]
        others = sum(counts[group] for group in ranked[_MAX_COUNTED:])
        answers += [f"{count} {name}" for name, count in (("others", others), ("unread", counts[None])) if count]
        numbers.append("answers: " + ", ".join(answers))
    notes = warnings(selection)
    shown_notes = [_shorten_line(" ".join(f"⚠ {note}".split())) for note in notes[:_MAX_SHOWN_NOTES]]
    if len(notes) > len(shown_notes):
        shown_notes.append(f"… and {len(notes) - len(shown_notes)} more notes")
    numbers.insert(0, _shorten_line(answer))
    return "\n".join([*shown, " · ".join(numbers), *summaries(selection), *shown_notes])


def summaries(selection: Selection) -> list[str]:
    """Return one escaped line about the choice, and one about the verifier's work if there is a verifier."""
    verification = selection.verification
    return [summary(selection), *([] if verification is None else [verification_summary(verification)])]


def _attributes(value: object, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def selection_dict(selection: Selection[Any]) -> dict[str, Any]:
    """Return a Selection as JSON-ready values, without arrays."""
    own = ("id", "text", "answer", "score", "probability", "answer_probability", "winner", "method", "signal", "scorer")
    own_votes = ("text", "answer", "group", "score", "probability", "answer_probability", "weight", "consensus")
    parsed = selection.parsed
    return {
        **_attributes(selection, *own, "provider", "model", "elapsed"),
        "usage": asdict(selection.usage),
        "cost": selection.cost,
        "stopped": None if selection.stopped is None else asdict(selection.stopped),
        **_attributes(selection, "reused", "accepted"),
        "path": [
            {**asdict(replace(step, error=None)), "error": None if step.error is None else str(step.error)}
            for step in selection.path
        ],
        "verification": None if selection.verification is None else _verification_dict(selection.verification),
        "shadow": None if selection.shadow is None else asdict(selection.shadow),
        "parsed": parsed.model_dump(mode="json") if hasattr(parsed, "model_dump") else parsed,
        "fields": {name: _attributes(value, "logprob", "agreement") for name, value in selection.fields.items()},
        "notes": list(selection.notes),
        "failures": [_failure_dict(failure) for failure in selection.failures],
        "candidates": [
            {
                "index": candidate.completion.index,
                **_attributes(candidate, *own_votes, "verifier_score"),
                "finish_reason": candidate.completion.finish_reason,
                "tokens": len(candidate.completion.tokens),
                "thinking_tokens": len(thinking.tokens) if (thinking := candidate.completion.thinking) else 0,
            }
            for candidate in selection.candidates
        ],
    }


def _failure_dict(failure: Failure) -> dict[str, Any]:
    return {
        "error": type(failure.error).__name__,
        "message": str(failure.error),
        **_attributes(failure, "lost", "attempts"),
        "retryable": failure.error.retryable,
    }


def _verification_dict(verification: Verification) -> dict[str, Any]:
    return {
        **_attributes(verification, "judge", "mode", "judged", "calls"),
        "usage": asdict(verification.usage),
        **_attributes(verification, "cost", "confidence"),
        "failures": [_failure_dict(failure) for failure in verification.failures],
    }


def selection_json(selection: Selection[Any], *, indent: int | None) -> str:
    """Return a Selection as one JSON document in ASCII, so that lone surrogates of a model cannot break it.

    Raises:
        ValueError: ``parsed`` holds a number that JSON does not have.
    """
    return json.dumps(selection_dict(selection), indent=indent, allow_nan=False, default=_to_jsonable)


def _to_jsonable(value: object) -> Any:
    """Return a value of a caller's model as JSON has it: dates, decimals, sets, enums."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


# Types of the members of ``selection_dict()``, as JSON schema names them.
_JSON_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("id", "text", "method", "signal", "scorer"), ("string",)),
    **dict.fromkeys(("answer", "provider", "model"), ("string", "null")),
    **dict.fromkeys(("score", "probability", "answer_probability", "cost"), ("number", "null")),
    **dict.fromkeys(("winner", "reused"), ("integer",)),
    **dict.fromkeys(("usage", "fields"), ("object",)),
    **dict.fromkeys(("path", "notes", "failures", "candidates"), ("array",)),
    "elapsed": ("number",),
    **dict.fromkeys(("stopped", "verification", "shadow"), ("object", "null")),
    "accepted": ("boolean", "null"),
    "parsed": (),
}


def selection_schema(selection_type: type[Selection[Any]]) -> Any:
    """Return the schema by which pydantic accepts a Selection as it is, and serializes it as JSON-ready values."""
    from pydantic_core import core_schema

    properties = {
        name: {"type": types[0] if len(types) == 1 else list(types)} if types else {}
        for name, types in _JSON_TYPES.items()
    }
    json_schema = {
        "title": "Selection",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
    return core_schema.is_instance_schema(
        selection_type,
        serialization=core_schema.plain_serializer_function_ser_schema(selection_dict),
        metadata={"pydantic_js_functions": [lambda schema, handler: json_schema]},
    )


def _sort_candidates(selection: Selection) -> list[Candidate]:
    """Sort candidates for display: the winner, then by falling score (None last), then by index."""
    return sorted(
        selection.candidates,
        key=lambda c: (c is not selection.best, c.score is None, -(c.score or 0.0), c.completion.index),
    )


# Columns of numbers: heading and attribute of a candidate. One that no candidate has is left out.
_NUMBER_COLUMNS = {"score": "score", "probability": "probability", "verifier": "verifier_score"}


def _number_columns(selection: Selection) -> dict[str, str]:
    return {
        name: attribute
        for name, attribute in _NUMBER_COLUMNS.items()
        if name == "score" or any(getattr(candidate, attribute) is not None for candidate in selection.candidates)
    }


def _format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _finish_label(candidate: Candidate) -> str:
    return FINISH_REASON_LABELS.get(candidate.completion.finish_reason, "")


def selection_table(
    selection: Selection, *, correct_by_index: Mapping[int, bool] | None = None, max_rows: int | None = None
) -> Table:
    """Return a rich table of the candidates, the winner first.

    rich markup inside completions is not interpreted.

    Args:
        selection: the selection.
        correct_by_index: whether each candidate is correct, by its index, if the truth is known.
        max_rows: largest number of candidates to show.
    """
    from rich.table import Table
    from rich.text import Text

    columns = _number_columns(selection)
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left", caption_style="dim")
    table.add_column("")
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("answer", max_width=24, overflow="ellipsis", no_wrap=True)
    table.add_column("completion", overflow="ellipsis")  # rich narrows only columns that may wrap, such as this one
    ranked = _sort_candidates(selection)
    for candidate in ranked[:max_rows]:
        index, is_winner = candidate.completion.index, candidate is selection.best
        is_correct = None if correct_by_index is None else correct_by_index.get(index)
        answer = Text(escape_unsafe(candidate.answer) if candidate.answer is not None else "–")
        if is_correct is not None:
            answer = Text.assemble(("✓ ", "green") if is_correct else ("✗ ", "red"), answer)
        ending = f"[{_finish_label(candidate)}] " if _finish_label(candidate) else ""
        line = Text.assemble((ending, "yellow"), " ".join(escape_unsafe(candidate.text).split()), no_wrap=True)
        numbers = [str(index), *(_format_number(getattr(candidate, name)) for name in columns.values())]
        mark = Text("►", "bold green") if is_winner else ""
        table.add_row(mark, *numbers, answer, line, style="bold" if is_winner else None)
    if hidden := len(ranked) - len(ranked[:max_rows]):
        table.caption = f"… and {hidden} more"
    return table


_STYLE = """
.swift-selection{--ink:#1b1f24;--soft:#59636e;--line:#d8dee4;--paper:#fff;--win:#eaf5ee;--mark:#1a7f37;--warn:#8a5a00;
color:var(--ink);background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 16px;
max-width:60rem;font:14px/1.45 system-ui,sans-serif}
.swift-selection .text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 8px}
.swift-selection .facts{color:var(--soft);font-size:12px;margin:0 0 8px}
.swift-selection .warn{color:var(--warn);font-size:12px;margin:0 0 4px}
.swift-selection table{border-collapse:collapse;width:100%;background:none;color:inherit;font-size:13px}
.swift-selection th,.swift-selection td{text-align:left;vertical-align:top;padding:4px 10px 4px 4px;
border-top:1px solid var(--line);background:none;color:inherit}
.swift-selection th{color:var(--soft);font-weight:500}
.swift-selection .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.swift-selection .won td{background:var(--win)}
.swift-selection .won .mark{color:var(--mark)}
.swift-selection .long{overflow-wrap:anywhere;white-space:pre-wrap;min-width:14rem}
.swift-selection details{overflow-x:auto}
.swift-selection summary{cursor:pointer;color:var(--soft);font-size:12px;margin:4px 0}
@media (prefers-color-scheme:dark){.swift-selection{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--paper:#0d1117;
--win:#12261b;--mark:#3fb950;--warn:#d29922}}
"""


# Limits on a Selection's HTML, so that a notebook stays small: characters of the chosen text, of
# each candidate's text and answer, and of a note; and the number of candidates and of notes.
_MAX_CHOSEN, _MAX_TEXT, _MAX_ANSWER, _MAX_NOTE = 20_000, 1_000, 200, 500
_MAX_ROWS, _MAX_NOTES = 64, 32


def _escape_html(text: str, max_length: int) -> str:
    """Return the first ``max_length`` characters as HTML, and the number of the others."""
    shown = escape_unsafe(text[:max_length])[:max_length]
    rest = f" … and {len(text) - max_length:,} more characters" if len(text) > max_length else ""
    return escape(shown, quote=True) + rest


def _row(candidate: Candidate, is_winner: bool, attributes: Iterable[str]) -> str:
    ending = _finish_label(candidate)
    numbers = "".join(f'<td class="n">{_format_number(getattr(candidate, name))}</td>' for name in attributes)
    mark = '<tr class="won"><td class="mark">►</td>' if is_winner else "<tr><td></td>"
    text = _escape_html(candidate.text, _MAX_TEXT)
    return (
        f"{mark}"
        f'<td class="n">{candidate.completion.index}</td>'
        f"{numbers}<td>{'–' if candidate.answer is None else _escape_html(candidate.answer, _MAX_ANSWER)}</td>"
        f'<td class="long" dir="auto">{f"[{ending}] " if ending else ""}{text}</td></tr>'
    )


def selection_html(selection: Selection) -> str:
    """Return a self-contained ``<section>``: the chosen text, a summary, and all candidates in a fold.

    It has no scripts, links or images; all text is escaped; colours follow ``prefers-color-scheme``. Long texts are cut
    and many candidates left out, and it says so: the result has less than a megabyte.
    """
    columns = _number_columns(selection)
    number_cells = "".join(f'<th class="n">{name}</th>' for name in ("#", *columns))
    candidates = _sort_candidates(selection)
    shown = candidates[:_MAX_ROWS]
    rows = "".join(_row(candidate, candidate is selection.best, columns.values()) for candidate in shown)
    lines = warnings(selection)
    hidden_notes = [f"… and {len(lines) - _MAX_NOTES} more notes"] if len(lines) > _MAX_NOTES else []
    notes = "".join(
        f'<p class="warn">⚠ {_escape_html(line, _MAX_NOTE)}</p>' for line in (*lines[:_MAX_NOTES], *hidden_notes)
    )
    facts = "".join(f'<p class="facts">{escape(line)}</p>' for line in summaries(selection))
    hidden = f", of which {_MAX_ROWS} are shown" if len(candidates) > _MAX_ROWS else ""
    return (
        f'<section class="swift-selection"><style>{_STYLE}</style>'
        f'<p class="text" dir="auto">{_escape_html(selection.text, _MAX_CHOSEN)}</p>'
        f"{facts}{notes}"
        f"<details><summary>{len(candidates)} candidates{hidden}</summary>"
        f"<table><thead><tr><th></th>{number_cells}<th>answer</th><th>completion</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></details></section>"
    )
