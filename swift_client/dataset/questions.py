"""Questions files: JSON lines of ``{"id", "prompt" | "messages", "answer" | "answers", "family"}``.

A list of answers always means that any of them is right. An answer that is itself a list or an object in JSON is
written as text, such as ``"answer": "[1, 2]"``, so that the two cannot be confused.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.sampling import create_sample_request
from swift_client.sampling.field_names import is_within
from swift_client.store import ReferenceAnswer, StoredQuestion

_FORMAT_HINT = 'A line is {"id": "q1", "prompt": "What is 17 * 24?", "answer": "408"}; "messages" may replace "prompt".'

_VALUE_HINT = (
    'An answer is text, a number, true or false, or a list of these. Write other JSON as text: "{\\"a\\": 1}".'
)


_KEYS = ("id", "prompt", "messages", "answer", "answers", "family")
# Keys of which a line needs only one: a second one that is misspelled changes nothing.
_TWINS = {"prompt": "messages", "messages": "prompt", "answer": "answers", "answers": "answer"}
_MAX_KEYS_NAMED = 5  # unknown keys that a note names


@dataclass(frozen=True)
class QuestionsFile:
    """The questions of a file, and notes on keys that are ignored and on answers that are missing."""

    questions: list[StoredQuestion]
    notes: tuple[str, ...] = ()


def read_questions(path: str | os.PathLike[str]) -> list[StoredQuestion]:
    """Read the questions of a file, as ``load_questions`` does, without the notes."""
    return load_questions(path).questions


def load_questions(path: str | os.PathLike[str]) -> QuestionsFile:
    """Read a questions file. Ids and answers may be numbers, and an answer a list of accepted answers.

    Unknown keys are ignored, and counted in the notes.

    Raises:
        ConfigurationError: the file cannot be read, or a line is wrong, which is named: a key that is almost a known
            one is wrong too.
    """
    unknown: Counter[str] = Counter()
    questions = list(iterate_questions(path, unknown))
    return QuestionsFile(questions, (*note_unknown_keys(unknown), *_note_missing_answers(questions)))


def iterate_questions(path: str | os.PathLike[str], unknown: Counter[str] | None = None) -> Iterator[StoredQuestion]:
    """Yield the questions of a file while it is read; of those before, only the ids stay in memory.

    Args:
        path: the file.
        unknown: counts the lines that have a key which is ignored.

    Raises:
        ConfigurationError: as ``load_questions``, at the line that is wrong.
    """
    ids: set[str] = set()
    for number, value in iterate_lines(path, "questions"):
        try:
            _refuse_misspelled_keys(value)
            if unknown is not None:
                unknown.update(value.keys() - set(_KEYS))
            question = parse_question(value)
            if question.id in ids:
                raise ConfigurationError(
                    f"the id {question.id!r} is already on an earlier line.", hint="Give each question its own id."
                )
        except ConfigurationError as error:
            raise error_at_line(path, number, error) from error
        ids.add(question.id)
        yield question
    if not ids:
        raise ConfigurationError(f"{path} contains no questions.", hint=_FORMAT_HINT)


def read_lines(path: str | os.PathLike[str], content: str) -> list[tuple[int, dict[str, Any]]]:
    """Read all JSON objects of a file; arguments and errors as ``iterate_lines()``."""
    return list(iterate_lines(path, content))


def iterate_lines(path: str | os.PathLike[str], content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield JSON objects, one per line, with their line numbers from 1; empty lines are skipped.

    Args:
        path: the file.
        content: noun for the content of the file, for errors.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        # A file, unlike splitlines(), does not split at U+2028, which JSON may contain.
        with Path(path).open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse_line(path, number, line)
    except OSError as error:
        raise ConfigurationError(
            f"The {content} {path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The {content} {path} are not UTF-8 text: {error}.", hint="Save them as UTF-8."
        ) from error


def _parse_line(path: str | os.PathLike[str], number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()  # nothing could send or store half a surrogate pair
        if isinstance(value, dict):
            return value
        problem = "it is not a JSON object."
    except UnicodeEncodeError as error:
        problem = f"it contains half a surrogate pair (\\u{ord(error.object[error.start]):04x}), which is not text."
    except (ValueError, RecursionError) as error:
        problem = f"it is not JSON ({error})."
    raise error_at_line(path, number, ConfigurationError(problem, hint="Each line is one JSON object."))


def error_at_line(path: str | os.PathLike[str], number: int, error: ConfigurationError) -> ConfigurationError:
    """Return the error with file and line number in front."""
    return ConfigurationError(f"{path}, line {number}: {error.message}", hint=error.hint)


def _refuse_misspelled_keys(value: dict[str, Any]) -> None:
    """Raise ConfigurationError for a key that is almost a known one, which the line lacks."""
    for key in value.keys() - set(_KEYS):
        for name in _KEYS:
            if name not in value and _TWINS.get(name) not in value and _is_misspelled(key, name):
                raise ConfigurationError(
                    f"the key {key!r} is unknown; did you mean {name!r}?", hint="Rename the key on every line."
                )


def _is_misspelled(key: str, name: str) -> bool:
    """Return True if ``key`` is ``name`` with other capitals, or with one letter wrong.

    Other words are not, such as "idx", "prompt2" and "prompts".
    """
    if key.casefold() == name:
        return True
    return len(name) > len("id") and key.isalpha() and not key.startswith(name) and is_within(key, name, 1)


def note_unknown_keys(lines_by_key: Counter[str]) -> Iterator[str]:
    """Yield a note on the keys that are ignored, with the lines that have them."""
    if lines_by_key:
        counts = [f"{key!r} on {n:,} line{'s' * (n > 1)}" for key, n in lines_by_key.most_common(_MAX_KEYS_NAMED)]
        rest = len(lines_by_key) - len(counts)
        yield f"Unknown keys are ignored: {', '.join(counts)}{f', and {rest:,} more' if rest else ''}."


def _note_missing_answers(questions: Sequence[StoredQuestion]) -> Iterator[str]:
    if n_missing := sum(question.answer is None for question in questions):
        yield (
            f"{n_missing:,} of {len(questions):,} questions have no answer: their completions cannot be graded until "
            "`swift-client grade` adds one."
        )


def parse_question(value: Mapping[str, Any]) -> StoredQuestion:
    """Return the question of a line. Raises ConfigurationError if a key is missing or wrong."""
    if ("prompt" in value) == ("messages" in value):
        raise ConfigurationError('it needs either "prompt" or "messages".', hint=_FORMAT_HINT)
    identity = parse_text("id", value.get("id"))
    if not identity:
        raise ConfigurationError('it has no "id".', hint=_FORMAT_HINT)
    prompt = value["prompt"] if "prompt" in value else value["messages"]
    return StoredQuestion(
        id=identity,
        messages=create_sample_request(prompt, 1).messages,
        answer=parse_answer(value),
        family=parse_text("family", value.get("family")),
    )


def parse_answer(value: Mapping[str, Any]) -> ReferenceAnswer | None:
    """Return the accepted answers of a question's line: as text if there is one, None if there is none.

    Raises:
        ConfigurationError: there are both "answer" and "answers", or an answer is not text, a number or a boolean.
    """
    given = {name: value[name] for name in ("answer", "answers") if value.get(name) is not None}
    if len(given) > 1:
        raise ConfigurationError('it has "answer" and "answers".', hint='Put all accepted answers into "answers".')
    for name, answers in given.items():
        if not isinstance(answers, list):
            return parse_text(name, answers)
        texts = [parse_text(f"{name}[{index}]", answer) for index, answer in enumerate(answers)]
        if None in texts:
            raise ConfigurationError(f"{name!r} contains null.", hint="Leave out what is not an answer.")
        accepted = tuple(dict.fromkeys(text for text in texts if text is not None))
        return accepted if len(accepted) > 1 else next(iter(accepted), None)
    return None


def parse_text(name: str, value: object) -> str | None:
    """Return a string, or a number as JSON writes it; None for null and NaN.

    Raises:
        ConfigurationError: the value of the key ``name`` is anything else.
    """
    if value is None or isinstance(value, str):
        return value
    if value != value:  # NaN is what pandas writes for a missing value
        return None
    if isinstance(value, (int, float)):
        return json.dumps(value)
    raise ConfigurationError(
        f"{name!r} is a {type(value).__name__}, not a string.",
        hint=_VALUE_HINT if name.startswith("answer") else _FORMAT_HINT,
    )
