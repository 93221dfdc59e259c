"""Questions of the plain form: ``{id, prompt | messages, answer | answers, family?, completions: [...]}``."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from swift_client.collect.logs.completions import COMPLETION_KEYS, LoggedSample, parse_completion
from swift_client.collect.logs.problems import Problems
from swift_client.dataset.questions import parse_answer, parse_text
from swift_client.errors import ConfigurationError
from swift_client.sampling import create_sample_request
from swift_client.store import ReferenceAnswer, StoredQuestion
from swift_client.store.records import to_json
from swift_client.types import Message

MAX_ID_CHARS = 1000
MAX_COMPLETIONS = 10_000  # of one line
_QUESTION_KEYS = frozenset({"id", "prompt", "messages", "answer", "answers", "family", "completions", "model"})
_MAX_KEYS_COUNTED = 1000
_MAX_KEYS_NAMED = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class LoggedQuestion:
    """One line of the plain form.

    Attributes:
        prompt_digest: Equal for equal messages; None without a prompt.
    """

    question: StoredQuestion
    prompt_digest: bytes | None
    samples: list[LoggedSample]


@dataclass
class PlainParser:
    """Parser of lines of the plain form, which counts problems and unknown keys."""

    problems: Problems
    token_ids: bool = True
    ignored_keys: Counter[str] = field(default_factory=Counter)

    def parse(self, value: dict[str, Any], line: int) -> LoggedQuestion | None:
        """Return a line's question with its completions; None if the line cannot be used."""
        given = value.get("completions")
        if not isinstance(given, list):
            self.problems.add("line", 'no list "completions"; left out', line)
            return None
        try:
            question = self._parse_question(value, line)
            prompt = to_json(question.messages)
        except (ConfigurationError, ValueError, RecursionError) as error:
            reason = error.message if isinstance(error, ConfigurationError) else "a value is too large"
            self.problems.add("line", f"{reason.removesuffix('.')}; left out", line)
            return None
        if len(given) > MAX_COMPLETIONS:
            excess = len(given) - MAX_COMPLETIONS
            self.problems.add("completion", f"more than {MAX_COMPLETIONS:,} on a line; left out", line, count=excess)
        samples = []
        for item in given[:MAX_COMPLETIONS]:
            if isinstance(item, dict):
                item = {"model": value.get("model"), **item}
                self._count_keys(item.keys() - COMPLETION_KEYS - ({"parsed"} if "text" not in item else set()))
            sample = parse_completion(item, line, self.problems, token_ids=self.token_ids)
            if sample is not None:
                samples.append(sample)
        self._count_keys(value.keys() - _QUESTION_KEYS)
        digest = hashlib.blake2b(prompt.encode(), digest_size=16).digest() if question.messages else None
        return LoggedQuestion(question=question, prompt_digest=digest, samples=samples)

    def notes(self) -> tuple[str, ...]:
        """Return a note on each kind of problem, and one on the keys that were ignored."""
        if not self.ignored_keys:
            return self.problems.notes()
        counts = [f"{key!r} ({count:,})" for key, count in self.ignored_keys.most_common(_MAX_KEYS_NAMED)]
        rest = len(self.ignored_keys) - len(counts)
        return (
            *self.problems.notes(),
            f"Unknown keys are ignored: {', '.join(counts)}{f', and {rest:,} more' if rest else ''}.",
        )

    def _count_keys(self, keys: set[str]) -> None:
        for key in keys:
            if key in self.ignored_keys or len(self.ignored_keys) < _MAX_KEYS_COUNTED:
                self.ignored_keys[key] += 1

    def _parse_question(self, value: dict[str, Any], line: int) -> StoredQuestion:
        """Return the question; a prompt may be missing, since no request is sent. Raises ConfigurationError."""
        identity = parse_text("id", value.get("id"))
        if not identity:
            raise ConfigurationError('no "id".')
        if len(identity) > MAX_ID_CHARS:
            raise ConfigurationError(f'the "id" is longer than {MAX_ID_CHARS:,} characters.')
        prompt = value.get("messages") if value.get("prompt") is None else value["prompt"]
        messages: tuple[Message, ...] = ()
        if prompt is None:
            self.problems.add("question", "no prompt; stored without one", line)
        else:
            messages = create_sample_request(prompt, 1).messages
        return StoredQuestion(
            id=identity, messages=messages, answer=self._parse_answer(value, line), family=_parse_family(value)
        )

    def _parse_answer(self, value: dict[str, Any], line: int) -> ReferenceAnswer | None:
        try:
            return parse_answer(value)
        except (ConfigurationError, ValueError):
            self.problems.add("answer", "not text, a number or a list of these; dropped", line)
            return None


def _parse_family(value: dict[str, Any]) -> str | None:
    family = value.get("family")
    return family if isinstance(family, str) else None
