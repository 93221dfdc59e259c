"""Policies of storage: texts as they are, texts without private data, or arrays without any text."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.redaction.escapes import redact_escaped
from swift_client.redaction.hashes import hash_id
from swift_client.redaction.presets import PRESETS
from swift_client.redaction.stand_ins import replace_tokens
from swift_client.types import Completion, Message, ToolCall
from swift_client.types.completion import HASHED_ANSWER, Bool

Keep = Literal["all", "arrays"]
RedactFunction = Callable[[str], str]
AnswerFunction = Callable[[Completion], str | None]

CUSTOM = "custom"  # name of functions of the user
# Members of a message that are no text of a person.
_STRUCTURE = frozenset(("role", "type", "id", "tool_call_id", "index"))
# Members of the facts of a selection that are names of ours, or of a provider.
_FACT_NAMES = frozenset(
    ("method", "signal", "scorer", "provider", "model", "finish_reason", "rule", "judge", "mode", "digest")
)
# Parts of messages that no function of texts can read.
_MEDIA = ("image", "audio", "file", "document", "video", "data")
_LONG_NUMBER = 10**9  # smallest whole number that may be private


@dataclass(frozen=True, kw_only=True)
class StoragePolicy:
    """Rules of what may be stored, for any file.

    Attributes:
        names: Names of the presets, "custom" for functions of the user.
        functions: Applied to every text, one after the other.
        keep: "arrays" keeps no text at all.
        read_answer: Reads the answer of a completion as votes do; hashes of answers take the place of private ones.
    """

    names: frozenset[str]
    functions: tuple[RedactFunction, ...]
    keep: Keep
    read_answer: AnswerFunction

    def text(self, text: str) -> str:
        """Return the text without private data; empty if no text is kept.

        Raises:
            ConfigurationError: a function of the user failed. The message shows nothing of the text.
        """
        if self.keep == "arrays":
            return ""
        for function in self.functions:
            text = redact_escaped(partial(_call, function), text)
        return text

    def messages(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return the messages without private data, and without images and files; none if no text is kept."""
        return () if self.keep == "arrays" else tuple(self.value(dict(message)) for message in messages)

    def value(self, value: Any) -> Any:
        """Return a JSON value with all texts and long whole numbers redacted; names of members stay."""
        if isinstance(value, str):
            return "[data]" if value.startswith("data:") and ";base64," in value[:200] else self.text(value)
        if isinstance(value, int) and abs(value) >= _LONG_NUMBER:
            return value if self.text(str(value)) == str(value) else self.text(str(value))
        if isinstance(value, Mapping):
            kind = value.get("type", "data" if "data" in value else None)
            if isinstance(kind, str) and kind.removeprefix("input_").startswith(_MEDIA):
                return {"type": "text", "text": f"[{kind}]"}
            return {name: item if name in _STRUCTURE else self.value(item) for name, item in value.items()}
        return list(map(self.value, value)) if isinstance(value, list | tuple) else value

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a request; without texts, only fields with one word or number are left."""
        sampling = settings["sampling"]
        if self.keep == "arrays":
            kept = {name: value for name, value in sampling.items() if isinstance(value, bool | int | float)}
        else:
            kept = {name: self.value(value) for name, value in sampling.items()}
        return {**settings, "sampling": kept}

    def for_file(self, key: bytes) -> FilePolicy:
        """Return the policy of a file whose hashes have this key."""
        return FilePolicy(self, key)


@dataclass(frozen=True)
class FilePolicy:
    """Rules of what is stored in one file. Errors are those of ``StoragePolicy.text()``."""

    _policy: StoragePolicy
    _key: bytes

    def text(self, text: str) -> str:
        """Return a text as it is stored."""
        return self._policy.text(text)

    def stored_id(self, id: str) -> str:
        """Return the id of a question or a verdict under which the file has it."""
        return hash_id(self._key, id)

    def completion(self, completion: Completion, question_id: str) -> Completion:
        """Return a completion as it is stored; the same object if nothing in it is private.

        The number of tokens, their logprobs and all features of tokens but their identity stay as they are. Of a
        private answer, a hash is kept, equal for equal answers to the question.
        """
        if completion.hidden_states is not None:  # they give the text back
            completion = replace(completion, hidden_states=None)
        keeps_text = self._policy.keep == "all"
        stored = self._redact(completion, question_id) if keeps_text else _drop_texts(completion)
        if stored is completion:
            return completion
        answer = self._policy.read_answer(completion)
        if not keeps_text:
            text = self._hash(answer, question_id) if completion.text.strip() or answer is not None else ""
            return replace(stored, text=text)
        if answer == self._policy.read_answer(stored):
            return stored
        mark = "\n" + self._hash(answer, question_id)
        if stored.answer_text is not None:
            stored = replace(stored, answer_text=stored.answer_text + mark)
        return replace(stored, text=stored.text + mark)

    def facts(self, facts: Mapping[str, Any], question_id: str) -> dict[str, Any]:
        """Return the facts of a selection with private answers as hashes and all other texts redacted."""
        return {name: self._fact(value, name, question_id) for name, value in facts.items()}

    def _fact(self, value: Any, name: str, question_id: str) -> Any:
        if isinstance(value, Mapping):
            return {key: self._fact(item, key, question_id) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = [self._fact(item, name, question_id) for item in value]
            return [item for item in items if item != ""]
        if not isinstance(value, str) or name in _FACT_NAMES:
            return value
        return self._answer(question_id, value) if name == "answer" else self._policy.text(value)

    def _answer(self, question_id: str, answer: str) -> str:
        if self._policy.keep == "all" and self._policy.text(answer) == answer:
            return answer
        return self._hash(answer, question_id)

    def _hash(self, answer: str | None, question_id: str) -> str:
        if answer is None:
            return HASHED_ANSWER.format("none")
        data = json.dumps([question_id, answer]).encode()
        digest = hmac.digest(self._key, data, "sha256").hex()[:16]
        return HASHED_ANSWER.format(digest.translate(_TO_LETTERS))

    def _redact(self, completion: Completion, question_id: str) -> Completion:
        """Return the completion without private data; the same object if there is none."""
        text = self._policy.text(completion.text)
        is_replaced = self._private_tokens(completion, text)
        thinking = None if completion.thinking is None else self._redact(completion.thinking, question_id)
        calls = tuple(self._redact_call(call, question_id) for call in completion.tool_calls)
        answer_text = None if completion.answer_text is None else self._policy.text(completion.answer_text)
        if (
            text == completion.text
            and not is_replaced.any()
            and thinking is completion.thinking
            and calls == completion.tool_calls
            and answer_text == completion.answer_text
        ):
            return completion
        ids = completion.top_ids
        return replace(
            completion,
            text=text,
            tokens=replace_tokens(completion.tokens, is_replaced),
            # With a tokenizer at hand, ids give the tokens back.
            top_ids=None if ids is None else np.where(is_replaced[:, None], np.uint32(0), ids),
            hidden_states=None,
            thinking=thinking,
            tool_calls=calls,
            answer_text=answer_text,
        )

    def _redact_call(self, call: ToolCall, question_id: str) -> ToolCall:
        """Return a call without private data; a hash keeps different arguments different."""
        arguments = self._policy.text(call.arguments)
        if arguments == call.arguments:
            return call
        hashed = self._hash(call.arguments, question_id)
        try:
            members = json.loads(arguments)
        except (ValueError, RecursionError):  # the mark of a number is no JSON
            members = None
        if isinstance(members, dict):
            return replace(call, arguments=json.dumps({**members, "redacted": hashed}))
        return replace(call, arguments=f"{arguments} {hashed}")

    def _private_tokens(self, completion: Completion, redacted_text: str) -> Bool:
        """Return the tokens (T,) from the first to the last private one; all if they cannot be found in the text."""
        joined = "".join(completion.tokens)
        redacted = redacted_text if joined == completion.text else self._policy.text(joined)
        if redacted == joined:
            return np.full(len(completion.tokens), redacted_text != completion.text)
        if joined.strip() != completion.text.strip():
            return np.ones(len(completion.tokens), np.bool_)
        start = _common_length(joined, redacted)
        n_last = _common_length(joined[start:][::-1], redacted[start:][::-1])
        ends = np.cumsum([len(token) for token in completion.tokens])
        starts = np.concatenate([[0], ends[:-1]])
        return (ends > start) & (starts < len(joined) - n_last)


def create_policy(redact: object, keep: str, read_answer: AnswerFunction) -> StoragePolicy | None:
    """Return what ``redact=`` and ``keep=`` ask for; None if everything is kept.

    Raises:
        ConfigurationError: a preset is unknown, a function does not return a text, or ``keep`` is unknown.
    """
    if keep not in get_args(Keep):
        raise ConfigurationError(f"keep={keep!r} is unknown.", hint='Use "all" or "arrays".')
    items: Iterable[Any] = () if redact is None else redact if isinstance(redact, list | tuple) else [redact]
    rules = list(items)
    for item in rules:
        if not callable(item) and not (isinstance(item, str) and item in PRESETS):
            raise ConfigurationError(
                f"redact= has no preset {item!r}.", hint=f"The presets are {', '.join(sorted(PRESETS))}."
            )
    functions = [function for name, function in PRESETS.items() if name in rules]
    custom = [item for item in rules if callable(item)]
    for function in custom:
        _call(function, "text")
    if not functions and not custom and keep == "all":
        return None
    names = frozenset([*(name for name in PRESETS if name in rules), *([CUSTOM] if custom else [])])
    return StoragePolicy(names=names, functions=(*functions, *custom), keep=keep, read_answer=read_answer)  # type: ignore[arg-type]


def _drop_texts(completion: Completion) -> Completion:
    """Return the arrays of a completion, with stand-ins for its tokens and without texts and ids."""
    return replace(
        completion,
        text="",
        tokens=replace_tokens(completion.tokens, np.ones(len(completion.tokens), np.bool_)),
        top_ids=None,
        hidden_states=None,
        thinking=None if completion.thinking is None else _drop_texts(completion.thinking),
        tool_calls=(),
        answer_text=None,
    )


def _common_length(first: str, second: str) -> int:
    """Return the number of characters with which both texts begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


def _call(function: RedactFunction, text: str) -> str:
    """Call a function; its own error could quote the text, so only the error's type is shown."""
    try:
        redacted: object = function(text)
        problem = f"returned {type(redacted).__name__}"
    except Exception as error:  # a function of the user may raise anything
        redacted, problem = None, f"raised {type(error).__name__}"
    if isinstance(redacted, str):
        return redacted
    raise ConfigurationError(
        f"The function of redact= {problem}, so nothing was stored.", hint="It must return a text for every text."
    )


_TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
