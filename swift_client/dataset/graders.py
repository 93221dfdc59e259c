"""Graders: whether a completion is right, by name, by regex, or by your own function of (text, reference).

Three rules hold for every row.
An answer that cannot be read is wrong, not unknown: its reader got nothing from it, and if it were unknown, a model
that never states an answer would look perfect. Unknown (None, NaN) is only what cannot be judged: no usable reference,
a comparison of formulas that ran out of time, a completion that broke off on its way here.
A completion that was cut, filtered or refused is wrong, whatever it holds: it never votes, and "the answer is 1" may
have been on its way to 18.
A reference is read more strictly than a completion: "18 apples and 3 pears" is no number to grade against.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.answers import equality, math_equality
from swift_client.answers.markers import find_marked_answer
from swift_client.answers.numbers import parse_number
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.features.segments import F64
from swift_client.types import Completion

GraderSpec = str | re.Pattern[str] | Callable[[str, Any], bool | None]
"""A row's name, a regex (as text or compiled), or a function from (text, reference) to right, wrong or unknown."""

_MAX_LITERAL_CHARS = 1000
"""Characters; Python's parser takes a megabyte of brackets to its own limits."""


@dataclass(frozen=True, kw_only=True)
class Grader:
    """One row of GRADERS. Right means that what is read in the text is the ``same`` as what the reference says."""

    name: str
    read_answer: Callable[[str], str | None]
    """A completion's answer; None where it cannot be read."""
    read_reference: Callable[[str], str | None]
    """A reference's answer; None where it is none of this kind."""
    is_equal: Callable[[str, str], bool | None]
    """Whether (answer, reference) are equal; None where that is unknown."""
    needs_formulas: bool = False
    """Whether it would be wrong too often without math-verify (the extra ``math``)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Grades:
    """What ``grade_all`` says about N completions of one question."""

    labels: F64
    """(N,) 1 right, 0 wrong, NaN unknown."""
    notes: tuple[str, ...] = ()
    """What could not be judged and why, one sentence each."""


def resolve_grader(spec: GraderSpec) -> Grader:
    """Return the grader for ``spec``. Raises ConfigurationError for what is neither a row nor a regex.

    Raises MissingExtraError for "math" without math-verify. A text of letters only must be the name of a row. A
    function has no row: ``grade`` and ``grade_all`` call it themselves.
    """
    if isinstance(spec, re.Pattern):
        return _grader_from_reader(answers.get_reader(spec))
    if not isinstance(spec, str) or (spec not in GRADERS and re.fullmatch(r"[\w -]*", spec)):
        raise ConfigurationError(
            f"There is no grader called {spec!r}.",
            hint=f"Use one of {', '.join(GRADERS)}, a regex, or a function of (text, reference).",
        )
    row = GRADERS[spec] if spec in GRADERS else _grader_from_reader(answers.get_reader(spec))
    if row.needs_formulas and not math_equality.is_available():
        raise MissingExtraError.needs("math", f"Grading by {row.name!r}")
    return row


def grade(text: str, reference: Any, spec: GraderSpec = "auto") -> bool | None:
    """Return whether ``text`` is right; None where that cannot be judged.

    ``reference`` is the answer as text, a JSON value for "json", or None where there is none; for "label" it is the
    label itself. Errors as ``grader``; a function's own exceptions pass. May take two seconds for one hard formula.
    """
    if callable(spec) and not isinstance(spec, re.Pattern):
        return _check_verdict(spec(text, reference))
    row = resolve_grader(spec)
    wanted = _read_reference(reference, row)
    if wanted is None:
        return None
    answer = row.read_answer(text)
    return False if answer is None else row.is_equal(answer, wanted)


def grade_all(completions: Sequence[Completion], reference: Any, spec: GraderSpec = "auto") -> Grades:
    """Grade the N completions of one question; equal answers are compared once.

    For "label" ``reference`` is a sequence of N labels. A function that raises leaves that completion unknown and the
    note names it. Raises as ``grader``, and ValueError where the number of labels is not N.
    """
    if spec == "label":
        return _grade_by_labels(completions, reference)
    labels = np.zeros(len(completions))
    reasons: Counter[str] = Counter()
    judge = _make_text_grader(reference, spec)
    for at, completion in enumerate(completions):
        if completion.finish_reason == "error":
            verdict, reason = None, "broke off before its end"
        elif completion.complete:
            verdict, reason = judge(completion.text)
        else:
            verdict, reason = False, ""
        labels[at] = np.nan if verdict is None else verdict
        if verdict is None:
            reasons[reason] += 1
    notes = tuple(f"{count} of {len(completions)} completions have no label: {why}." for why, count in reasons.items())
    return Grades(labels=labels, notes=notes)


def _make_text_grader(reference: Any, spec: GraderSpec) -> Callable[[str], tuple[bool | None, str]]:
    """Return a judge of texts: the verdict, and the reason for None."""
    if callable(spec) and not isinstance(spec, re.Pattern):
        return lambda text: _call_function(spec, text, reference)
    row = resolve_grader(spec)
    wanted = _read_reference(reference, row)
    known: dict[str | None, bool | None] = {None: False}

    def judge(text: str) -> tuple[bool | None, str]:
        if wanted is None:
            return None, f"the reference {_shorten(reference)} is nothing that {row.name!r} can compare with"
        answer = row.read_answer(text)
        if answer not in known and answer is not None:
            known[answer] = row.is_equal(answer, wanted)
        return known[answer], "its formula could not be compared in time"

    return judge


def _call_function(function: Callable[[str, Any], bool | None], text: str, reference: Any) -> tuple[bool | None, str]:
    try:
        return _check_verdict(function(text, reference)), "your function says that it cannot be judged"
    except Exception as error:  # a caller's function may raise anything; paid completions are not lost over it
        return None, f"your function raised {type(error).__name__}: {error}"[:300]


def _check_verdict(value: Any) -> bool | None:
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    raise TypeError(f"a grading function returns True, False or None, not {value!r:.100}")


def _grade_by_labels(completions: Sequence[Completion], labels: Any) -> Grades:
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray) or len(labels) != len(completions):
        raise ValueError(
            f'"label" takes one label for each of the {len(completions)} completions, not {labels!r:.100}.'
        )
    verdicts = [_parse_label(_reference_text(value)) for value in labels]
    unknown = sum(verdict is None for verdict in verdicts)
    return Grades(
        labels=np.array([np.nan if verdict is None else verdict == "right" for verdict in verdicts], np.float64),
        notes=(f"{unknown} of {len(verdicts)} completions came without a label.",) if unknown else (),
    )


def _reference_text(value: Any) -> str | None:
    """Return a reference as text; JSON values other than text are written as JSON, NaN is None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else json.dumps(value)


def _read_reference(value: Any, row: Grader) -> str | None:
    written = _reference_text(value)
    return row.read_reference(written) or None if written else None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _grader_from_reader(reader: answers.Reader | None) -> Grader:
    if reader is None:
        raise ConfigurationError("A grader needs something to read.")
    return Grader(name=reader.name, read_answer=reader, read_reference=reader.normalize, is_equal=_equal_values)


def _equal_values(answer: str, reference: str) -> bool | None:
    groups, note = equality.group_answers((answer, reference))
    if groups[0] == groups[1]:
        return True
    # the note alone tells "different" from "not compared"; without math-verify text is all there is to compare
    return None if note and math_equality.is_available() else False


def _equal_texts(answer: str, reference: str) -> bool:
    return answer == reference


def _read_number_reference(text: str) -> str | None:
    """Read the whole reference, or what it marks ("#### 18"), as one plain number."""
    plain = answers.normalize(find_marked_answer(text) or text)
    return plain if parse_number(plain) is not None else None


def _read_marked_reference(text: str) -> str | None:
    """Read what the reference marks as its answer (a worked solution with a box), else the whole of it."""
    return answers.normalize(find_marked_answer(text) or text)


_LABEL_WORDS = MappingProxyType(
    {
        **dict.fromkeys(("1", "1.0", "true", "right", "correct", "yes"), "right"),
        **dict.fromkeys(("0", "0.0", "false", "wrong", "incorrect", "no"), "wrong"),
    }
)


def _parse_label(text: str | None) -> str | None:
    """Read a label; raises ConfigurationError for a text that is none, so that a wrong column is told at once."""
    word = (text or "").strip().lower()
    if word and word not in _LABEL_WORDS and word not in ("null", "none", "nan"):
        raise ConfigurationError(f"{text!r} is not a label.", hint="Use 1 or 0, true or false, null for unknown.")
    return _LABEL_WORDS.get(word)


def _read_literal(text: str) -> str | None:
    r"""Read the boxed (else marked) answer as a Python literal would be written: ``\{0: None\}`` is ``{0: None}``."""
    found = find_marked_answer(text)
    return None if found is None else _clean_literal(found)


def _clean_literal(text: str) -> str | None:
    text = re.sub(r"\\(?:text|texttt|mathrm)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\([{}_$%#&])", r"\1", text).strip().strip("`$").strip()
    return text or None


def _equal_literals(answer: str, reference: str) -> bool:
    """Equal as Python literals of one type, else as text without quotes; nothing is evaluated."""
    left, right = _parse_literal(answer), _parse_literal(reference)
    if left is not None and right is not None:
        return type(left[0]) is type(right[0]) and bool(left[0] == right[0])
    return _strip_quotes(answer) == _strip_quotes(reference)


def _parse_literal(text: str) -> tuple[Any] | None:
    if len(text) > _MAX_LITERAL_CHARS:
        return None
    try:
        return (ast.literal_eval(text),)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _strip_quotes(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _grader_by_name(name: str, read_reference: Callable[[str], str | None] | None = None) -> Grader:
    """Return the row that reads completions as the reader ``name`` does; references as well, unless told otherwise."""
    reader = answers.READERS[name]
    same = _equal_values if reader.compares_values else _equal_texts
    return Grader(name=name, read_answer=reader, read_reference=read_reference or reader, is_equal=same)


GRADERS = MappingProxyType(
    {
        row.name: row
        for row in (
            _grader_by_name("auto", _read_marked_reference),
            _grader_by_name("number", _read_number_reference),
            _grader_by_name("boxed", _read_marked_reference),
            Grader(
                name="math",
                read_answer=answers.READERS["auto"],
                read_reference=_read_marked_reference,
                is_equal=_equal_values,
                needs_formulas=True,
            ),
            _grader_by_name("choice"),
            _grader_by_name("yes_no"),
            _grader_by_name("json"),
            _grader_by_name("text"),
            Grader(name="exact", read_answer=str.strip, read_reference=str.strip, is_equal=_equal_texts),
            Grader(name="literal", read_answer=_read_literal, read_reference=_clean_literal, is_equal=_equal_literals),
            Grader(name="label", read_answer=lambda text: "right", read_reference=_parse_label, is_equal=_equal_texts),
        )
    }
)
"""One row for each grader that has a name. "number" … "text" read as the readers of those names do ("auto": what is
marked as the answer, or the whole of a short reply); "math" is "auto" with formulas compared as mathematics; "exact"
is the whole text, character for character; "literal" a Python value; "label" trusts the labels in the data."""
