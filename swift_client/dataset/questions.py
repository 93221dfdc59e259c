"""Questions files: JSON lines of ``{"id", "prompt" | "messages", "answer" | "answers", "family"}``.

A list of answers always means that any of them is right. An answer that is itself a list or an object in JSON is
written as text, such as ``"answer": "[1, 2]"``, so that the two cannot be confused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.sampling import create_sample_request
from swift_client.store import ReferenceAnswer, StoredQuestion

_FORMAT_HINT = 'A line is {"id": "q1", "prompt": "What is 17 * 24?", "answer": "408"}; "messages" may replace "prompt".'

_VALUE_HINT = (
    'An answer is text, a number, true or false, or a list of these. Write other JSON as text: "{\\"a\\": 1}".'
)


def read_questions(path: str | os.PathLike[str]) -> list[StoredQuestion]:
    """Read a questions file. Ids and answers may be numbers, and an answer a list of accepted answers.

    Unknown fields are ignored.

    Raises:
        ConfigurationError: the file cannot be read, or a line is wrong, which is named.
    """
    questions: dict[str, StoredQuestion] = {}
    for number, value in read_lines(path, "questions"):
        try:
            question = _parse_question(value)
            if question.id in questions:
                raise ConfigurationError(
                    f"the id {question.id!r} is already on an earlier line.", hint="Give each question its own id."
                )
        except ConfigurationError as error:
            raise error_at_line(path, number, error) from error
        questions[question.id] = question
    if not questions:
        raise ConfigurationError(f"{path} contains no questions.", hint=_FORMAT_HINT)
    return list(questions.values())


def read_lines(path: str | os.PathLike[str], content: str) -> list[tuple[int, dict[str, Any]]]:
    """Read JSON objects, one per line, with their line numbers from 1; empty lines are skipped.

    Args:
        path: the file.
        content: noun for the content of the file, for errors.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"The {content} {path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The {content} {path} are not UTF-8 text: {error}.", hint="Save them as UTF-8."
        ) from error
    # Not splitlines(), which also splits at U+2028: JSON may contain it.
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    lines = []
    for number, line in numbered:
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()  # nothing could send or store half a surrogate pair
            problem = None if isinstance(value, dict) else "it is not a JSON object."
        except UnicodeEncodeError as error:
            problem = f"it contains half a surrogate pair (\\u{ord(error.object[error.start]):04x}), which is not text."
        except (ValueError, RecursionError) as error:
            problem = f"it is not JSON ({error})."
        if problem:
            raise error_at_line(path, number, ConfigurationError(problem, hint="Each line is one JSON object."))
        lines.append((number, value))
    return lines


def error_at_line(path: str | os.PathLike[str], number: int, error: ConfigurationError) -> ConfigurationError:
    """Return the error with file and line number in front."""
    return ConfigurationError(f"{path}, line {number}: {error.message}", hint=error.hint)


def _parse_question(value: dict[str, Any]) -> StoredQuestion:
    if ("prompt" in value) == ("messages" in value):
        raise ConfigurationError('it needs either "prompt" or "messages".', hint=_FORMAT_HINT)
    identity = _parse_text("id", value.get("id"))
    if not identity:
        raise ConfigurationError('it has no "id".', hint=_FORMAT_HINT)
    prompt = value["prompt"] if "prompt" in value else value["messages"]
    return StoredQuestion(
        id=identity,
        messages=create_sample_request(prompt, 1).messages,
        answer=_parse_answer(value),
        family=_parse_text("family", value.get("family")),
    )


def _parse_answer(value: dict[str, Any]) -> ReferenceAnswer | None:
    """Return the accepted answers: as text if there is one, None if there is none."""
    given = {name: value[name] for name in ("answer", "answers") if value.get(name) is not None}
    if len(given) > 1:
        raise ConfigurationError('it has "answer" and "answers".', hint='Put all accepted answers into "answers".')
    for name, answers in given.items():
        if not isinstance(answers, list):
            return _parse_text(name, answers)
        texts = [_parse_text(f"{name}[{index}]", answer) for index, answer in enumerate(answers)]
        if None in texts:
            raise ConfigurationError(f"{name!r} contains null.", hint="Leave out what is not an answer.")
        accepted = tuple(dict.fromkeys(text for text in texts if text is not None))
        return accepted if len(accepted) > 1 else next(iter(accepted), None)
    return None


def _parse_text(name: str, value: object) -> str | None:
    """Return a string, or a number as JSON writes it."""
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
