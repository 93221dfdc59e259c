"""Questions files: JSON lines of ``{"id", "prompt" | "messages", "answer", "family"}``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.sampling import create_sample_request
from swift_client.store import StoredQuestion

_FORMAT_HINT = 'A line is {"id": "q1", "prompt": "What is 17 * 24?", "answer": "408"}; "messages" may replace "prompt".'


def read_questions(path: str | os.PathLike[str]) -> list[StoredQuestion]:
    """Read a questions file. Ids and answers may be numbers; unknown fields are ignored.

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
        answer=_parse_text("answer", value.get("answer")),
        family=_parse_text("family", value.get("family")),
    )


def _parse_text(name: str, value: object) -> str | None:
    """Return a string, or a number as JSON writes it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return json.dumps(value)
    raise ConfigurationError(f"{name!r} is a {type(value).__name__}, not a string.", hint=_FORMAT_HINT)
