"""Graders of completions against a reference: by name, by regex, or by your own function of (text, reference).

Three rules hold for every row:

- An answer that cannot be extracted is wrong, not unknown; otherwise a model that never states an answer would look
  perfect. Unknown (None, NaN) is only what cannot be graded: no usable reference, a comparison of formulas that timed
  out, or a completion that broke off with an error.
- A completion that was cut, filtered or refused is wrong, whatever its text: it never votes, and "the answer is 1" may
  be the beginning of 18.
- A reference is parsed more strictly than a completion: "18 apples and 3 pears" is not a number to grade against.

A list of references means that any of them is right. For "json" and "literal" a list is one value; several accepted
answers are then a tuple or a set.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from swift_client import answers
from swift_client.answers import equality, math_equality
from swift_client.answers.markers import find_marked_answer
from swift_client.answers.numbers import parse_number
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.features.segments import F64
from swift_client.types import Completion, completeness

# Row name, regex (text or compiled), or function from (text, reference) to True, False or None for unknown.
GraderSpec = str | re.Pattern[str] | Callable[[str, Any], bool | None]

_MAX_LITERAL_CHARS = 1000  # characters; a megabyte of brackets would exhaust Python's parser


@dataclass(frozen=True, kw_only=True)
class Grader:
    """One row of GRADERS: right if the extracted answer equals the reference."""

    name: str
    # Extract a completion's answer; None if there is none.
    read_answer: Callable[[str], str | None]
    # Parse a reference; None if it is not of this kind.
    read_reference: Callable[[str], str | None]
    # Compare (answer, reference); None if that is unknown.
    is_equal: Callable[[str, str], bool | None]
    # True if it needs math-verify (the extra ``math``) to be right often enough.
    needs_formulas: bool = False
    # True if a list is one reference and not several.
    reads_lists: bool = False
    # True if a short sentence may give the answer: "It's Santiago." for "Santiago".
    reads_sentences: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Grades:
    """Labels of the N completions of one question."""

    labels: F64  # (N,) 1 right, 0 wrong, NaN unknown
    notes: tuple[str, ...] = ()  # reasons for unknown labels, one sentence each


def resolve_grader(spec: GraderSpec) -> Grader:
    """Return the grader for a row name or a regex. A text of letters only must be the name of a row.

    Functions have no grader: ``grade`` and ``grade_all`` call them.

    Raises:
        ConfigurationError: neither a row nor a regex.
        MissingExtraError: "math" without math-verify.
    """
    if isinstance(spec, re.Pattern) or (isinstance(spec, str) and not re.fullmatch(r"[\w -]*", spec)):
        reader = cast(answers.Reader, answers.get_reader(spec))
        is_equal = _equal_values if reader.compares_values else operator.eq
        return Grader(name=reader.name, read_answer=reader, read_reference=reader.normalize, is_equal=is_equal)
    if not isinstance(spec, str) or spec not in GRADERS:
        raise ConfigurationError(
            f"There is no grader called {spec!r}.",
            hint=f"Use one of {', '.join(GRADERS)}, a regex, or a function of (text, reference).",
        )
    row = GRADERS[spec]
    if row.needs_formulas and not math_equality.is_available():
        raise MissingExtraError.needs("math", f"Grading by {row.name!r}")
    return row


def grade(text: str, reference: Any, spec: GraderSpec = "auto") -> bool | None:
    """Return True if ``text`` is right, False if it is wrong, None if it cannot be graded.

    A hard formula may take two seconds. Exceptions of a function are not caught.

    Args:
        text: the completion's text.
        reference: the answer as text or number, a JSON value for "json", the label itself for "label", or None; or a
            list, tuple or set of accepted answers, any of which is right. For "json" and "literal" a list is one
            answer, and for a function the reference is passed as it is.
        spec: the grader.

    Raises:
        ConfigurationError: as ``resolve_grader()``, like MissingExtraError.
    """
    if callable(spec) and not isinstance(spec, re.Pattern):
        return _check_verdict(spec(text, reference))
    verdict, _ = _make_text_grader(reference, spec)(text)
    return verdict


def grade_all(completions: Sequence[Completion], reference: Any, spec: GraderSpec = "auto") -> Grades:
    """Grade the N completions of one question; equal answers are compared once.

    If a function raises, the label is unknown and a note gives the error.

    Args:
        completions: the completions.
        reference: as for ``grade()``; for "label" a sequence of N labels.
        spec: the grader.

    Raises:
        ConfigurationError: as ``resolve_grader()``, like MissingExtraError.
        ValueError: the number of labels is not N.
    """
    if spec == "label":
        return _grade_by_labels(completions, reference)
    labels = np.zeros(len(completions))
    reasons: Counter[str] = Counter()  # of unknown labels
    grade_text = _make_text_grader(reference, spec)
    complete = completeness(completions)
    texts, _ = answers.texts_to_read(completions, spec if isinstance(spec, str) and spec[:5] == "tool_" else None)
    for index, completion in enumerate(completions):
        # Broken off: unknown. Cut, filtered or refused: wrong. Only finished ones are read.
        if completion.finish_reason == "error":
            verdict, reason = None, "broke off before its end"
        elif complete[index] and answers.find_hash(texts[index]):
            verdict, reason = None, "its answer is private, and was stored as a hash"
        elif complete[index]:
            verdict, reason = grade_text(texts[index])
        else:
            verdict, reason = False, ""
        labels[index] = np.nan if verdict is None else verdict
        if verdict is None:
            reasons[reason] += 1
    notes = tuple(
        f"{count} of {len(completions)} completions have no label: {reason}." for reason, count in reasons.items()
    )
    return Grades(labels=labels, notes=notes)


def _make_text_grader(reference: Any, spec: GraderSpec) -> Callable[[str], tuple[bool | None, str]]:
    """Return a function from a text to its verdict and the reason if that is None."""
    if callable(spec) and not isinstance(spec, re.Pattern):
        return lambda text: _call_function(spec, text, reference)
    row = resolve_grader(spec)
    texts = [_reference_text(value) for value in _accepted_answers(reference, row)]
    # References that the grader cannot read are left out: lists of names of a thing contain all kinds.
    expected = list(dict.fromkeys(filter(None, (row.read_reference(text) for text in texts if text))))
    verdicts: dict[str | None, bool | None] = {None: False}

    def grade_text(text: str) -> tuple[bool | None, str]:
        if not expected:
            return None, f"the reference {_shorten(reference)} cannot be compared by the grader {row.name!r}"
        answer = row.read_answer(text)
        if answer not in verdicts and answer is not None:
            verdicts[answer] = _equals_any(answer, expected, row.is_equal)
        verdict = verdicts[answer]
        if verdict is False and row.reads_sentences:
            verdict = any(answers.is_stated(text, answer, reference) for reference in expected)
        return verdict, "its formula could not be compared in time"

    return grade_text


def _accepted_answers(reference: Any, row: Grader) -> Sequence[Any]:
    """Return the references of which any is right."""
    if isinstance(reference, np.ndarray):
        reference = reference.tolist()
    is_several = isinstance(reference, tuple | set | frozenset) or (isinstance(reference, list) and not row.reads_lists)
    return list(reference) if is_several else [reference]


def _equals_any(answer: str, references: Sequence[str], is_equal: Callable[[str, str], bool | None]) -> bool | None:
    """Return True if any reference equals the answer, else None if any comparison is unknown, else False."""
    is_unknown = False
    for reference in references:
        verdict = is_equal(answer, reference)
        if verdict:
            return True
        is_unknown |= verdict is None
    return None if is_unknown else False


def _call_function(function: Callable[[str, Any], bool | None], text: str, reference: Any) -> tuple[bool | None, str]:
    try:
        return _check_verdict(function(text, reference)), "your function returned None"
    except Exception as error:  # a caller's function may raise anything; paid completions must not be lost
        return None, f"your function raised {type(error).__name__}: {error}"[:300]


def _check_verdict(value: Any) -> bool | None:
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    raise TypeError(f"a grading function returns True, False or None, not {value!r:.100}")


def _grade_by_labels(completions: Sequence[Completion], labels: Any) -> Grades:
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray) or len(labels) != len(completions):
        raise ValueError(f'"label" takes one label per completion ({len(completions)}), not {labels!r:.100}.')
    verdicts = [_parse_label(_reference_text(value)) for value in labels]
    unknown = sum(verdict is None for verdict in verdicts)
    return Grades(
        labels=np.array([np.nan if verdict is None else verdict == "right" for verdict in verdicts], np.float64),
        notes=(f"{unknown} of {len(verdicts)} completions have no label.",) if unknown else (),
    )


def _reference_text(value: Any) -> str | None:
    """Return a reference as text; JSON values other than text are written as JSON, NaN is None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else json.dumps(value)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _equal_values(answer: str, reference: str) -> bool | None:
    groups, note = equality.group_answers((answer, reference))
    if groups[0] == groups[1]:
        return True
    # Only the note distinguishes "different" from "not compared". Without math-verify only texts are compared.
    return None if note and math_equality.is_available() else False


def _read_marked_reference(text: str) -> str:
    """Return the marked answer of the reference (a worked solution with a box), else all of it."""
    return answers.normalize(find_marked_answer(text) or text)


def _read_number_reference(text: str) -> str | None:
    """Parse the reference, or its marked answer ("#### 18"), as one plain number."""
    answer = _read_marked_reference(text)
    return None if parse_number(answer) is None else answer


_LABEL_WORDS = MappingProxyType(
    {
        **dict.fromkeys(("1", "1.0", "true", "right", "correct", "yes"), "right"),
        **dict.fromkeys(("0", "0.0", "false", "wrong", "incorrect", "no"), "wrong"),
    }
)


def _parse_label(text: str | None) -> str | None:
    """Parse a label. Raises ConfigurationError for other texts, so a wrong column is noticed."""
    word = (text or "").strip().lower()
    if word and word not in _LABEL_WORDS and word not in ("null", "none", "nan"):
        raise ConfigurationError(f"{text!r} is not a label.", hint="Use 1 or 0, true or false, null for unknown.")
    return _LABEL_WORDS.get(word)


def _read_literal(text: str) -> str | None:
    r"""Return the marked answer without LaTeX, as a Python literal: ``\{0: None\}`` becomes ``{0: None}``."""
    answer = find_marked_answer(text)
    return None if answer is None else _clean_literal(answer)


def _clean_literal(text: str) -> str | None:
    text = re.sub(r"\\(?:text|texttt|mathrm)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\([{}_$%#&])", r"\1", text).strip().strip("`$").strip()
    return text or None


def _equal_literals(answer: str, reference: str) -> bool:
    """Compare as Python literals of one type, else as texts without quotes. Nothing is evaluated."""
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
    """Return the row that reads completions, and by default references, with the reader ``name``."""
    reader = answers.READERS[name]
    is_equal = _equal_values if reader.compares_values else operator.eq
    return Grader(name=name, read_answer=reader, read_reference=read_reference or reader, is_equal=is_equal)


_AUTO = replace(_grader_by_name("auto", _read_marked_reference), reads_sentences=True)

# One row per named grader. "auto" to "text" extract answers as the readers of those names do
# ("auto": the marked answer, or all of a short reply); "math" is "auto" with formulas compared as
# mathematics; "exact" compares the text character for character; "literal" compares Python values;
# "label" takes the labels in the data.
GRADERS = MappingProxyType(
    {
        row.name: row
        for row in (
            _AUTO,
            _grader_by_name("number", _read_number_reference),
            _grader_by_name("boxed", _read_marked_reference),
            replace(_AUTO, name="math", needs_formulas=True),
            *map(_grader_by_name, ("choice", "yes_no")),
            replace(_grader_by_name("json"), reads_lists=True),
            _grader_by_name("text"),
            *(_grader_by_name(name, answers.READERS[name].normalize) for name in ("tool_name", "tool_call")),
            Grader(name="exact", read_answer=str.strip, read_reference=str.strip, is_equal=operator.eq),
            Grader(
                name="literal",
                read_answer=_read_literal,
                read_reference=_clean_literal,
                is_equal=_equal_literals,
                reads_lists=True,
            ),
            Grader(
                name="label",
                read_answer=lambda text: "right",
                read_reference=_parse_label,
                is_equal=operator.eq,
                reads_lists=True,
            ),
        )
    }
)
