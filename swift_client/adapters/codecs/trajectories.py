"""Conversion of an agent's trajectories, lists of chat messages, to completions that can be compared.

Messages are those of OpenAI's chat format (``tool_calls``, role "tool"), or of Anthropic's (blocks "tool_use" and
"tool_result"), as mappings or as objects of their clients. The messages before the model's first are the question and
left out, as is thinking.

A completion's text is a transcript. Each step is a header at the start of a line and a body indented by two spaces, so
that no content can pass for a header::

    assistant:
      I look it up.
    call 1, get_weather:
      {"city": "Paris"}
    result of call 1:
      18 °C
    assistant:
      It is 18 °C in Paris.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swift_client.adapters.codecs.reasoning import split_thinking
from swift_client.errors import ResponseDecodeError
from swift_client.types import Completion, FinishReason, ToolCall

# Roles of messages, with the header of their texts.
_ROLES = {
    "assistant": "assistant",
    "user": "user",
    "system": "system",
    "developer": "system",
    "tool": "result",
    "function": "result",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_THINKING_PARTS = ("thinking", "redacted_thinking", "reasoning")
_PLAIN_NAME = re.compile(r"[\w.:/-]{1,100}")


def read_trajectories(trajectories: Iterable[object]) -> tuple[Completion, ...]:
    """Return one completion per trajectory: its transcript, and its last message as the answer that is compared.

    Raises:
        ResponseDecodeError: a trajectory is not a list of messages, or has none of the model's.
    """
    completions = []
    for index, messages in enumerate(trajectories):
        if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
            raise _error(index, f"is a {type(messages).__name__} and not a list of messages")
        completions.append(_read_trajectory(messages, index))
    return tuple(completions)


def _read_trajectory(messages: Sequence[object], index: int) -> Completion:
    transcript = _Transcript()
    for number, item in enumerate(messages):
        try:
            transcript.add(_to_mapping(item))
        except (TypeError, ValueError, RecursionError) as problem:
            raise _error(index, f"has a message {number} that cannot be read: {problem}") from None
    if not transcript.has_started:
        raise _error(index, "has no message of the model")
    finish: FinishReason = "refusal" if transcript.is_refused else "tool_calls" if transcript.calls else "stop"
    return Completion(
        text="\n".join(transcript.lines),
        index=index,
        finish_reason=finish,
        tool_calls=tuple(transcript.calls),
        answer_text=transcript.answer,
    )


class _Transcript:
    """The steps of a trajectory so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.has_started = False  # whether the model wrote a message; those before its first are the question
        # Of the model's last message: its text, its calls, and whether it is a refusal.
        self.answer = ""
        self.calls: list[ToolCall] = []
        self.is_refused = False
        self._numbers: dict[str, int] = {}  # numbers of calls by their ids
        self._n_calls = 0

    def add(self, message: Mapping[str, Any]) -> None:
        """Append a message. Raises TypeError, ValueError or RecursionError if it is not one."""
        role = _ROLES.get(message.get("role"))  # type: ignore[arg-type]  # any other value gives None
        if role is None:
            raise ValueError(f"its role is {_shorten(message.get('role'))}")
        if role == "assistant":
            self.has_started, self.answer, self.calls, self.is_refused = True, "", [], False
        if not self.has_started:
            return
        content = message.get("content")
        if role == "result":
            self._add_step(self._result_header(message.get("tool_call_id")), _join_text(content))
            return
        texts: list[str] = []
        for part in _to_parts(content):
            kind = part.get("type", "text")
            if kind in _TEXT_PARTS:
                texts.append(_require_text(part.get("text")))
            elif kind == "tool_result":
                texts = self._add_texts(role, texts)
                self._add_step(self._result_header(part.get("tool_use_id")), _join_text(part.get("content")))
            elif kind == "tool_use":
                texts = self._add_texts(role, texts)
                self._add_call(part.get("id"), part.get("name"), part.get("input"))
            elif kind == "refusal":
                self._refuse(part.get("refusal"))
            elif kind not in _THINKING_PARTS:
                texts = self._add_texts(role, texts)
                self._add_step(f"{role}, {_name(kind)} left out", "")
        self._add_texts(role, texts)
        self._refuse(message.get("refusal"))
        calls = message.get("tool_calls") or ()
        if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
            raise TypeError(f"its tool_calls are a {type(calls).__name__}")
        for item in calls:
            call = _to_mapping(item)
            function = call.get("function")
            if function is None:
                custom = _to_mapping(call.get("custom"))
                function = {"name": custom.get("name"), "arguments": custom.get("input")}
            self._add_function(call.get("id"), function)
        if message.get("function_call") is not None:
            self._add_function(None, message["function_call"])

    def _add_texts(self, role: str, texts: list[str]) -> list[str]:
        """Append a step with the texts, if there are any; return an empty list for the next ones."""
        text = "".join(texts)
        if role == "assistant":
            text = split_thinking(text)[1]
            self.answer += text
        if text.strip():
            self._add_step(role, text)
        return []

    def _refuse(self, refusal: object) -> None:
        if refusal:
            self.is_refused = True
            self._add_step("assistant refuses", _require_text(refusal))

    def _add_function(self, call_id: object, function: object) -> None:
        members = _to_mapping(function)
        self._add_call(call_id, members.get("name"), members.get("arguments"))

    def _add_call(self, call_id: object, name: object, arguments: object) -> None:
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        self._n_calls += 1
        if isinstance(call_id, str):
            self._numbers[call_id] = self._n_calls
        self.calls.append(ToolCall(name=_require_text(name), arguments=arguments))
        self._add_step(f"call {self._n_calls}, {_name(name)}", arguments)

    def _result_header(self, call_id: object) -> str:
        number = self._numbers.get(call_id) if isinstance(call_id, str) else None
        return "result" if number is None else f"result of call {number}"

    def _add_step(self, header: str, body: str) -> None:
        self.lines.append(f"{header}:")
        self.lines += [f"  {line}" for line in body.splitlines()]


def _to_mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping, or an object of a client as one. Raises TypeError for anything else."""
    if callable(dump := getattr(value, "model_dump", None)):
        value = dump(warnings=False)
    if not isinstance(value, Mapping):
        raise TypeError(f"a {type(value).__name__} is not an object with names")
    return value


def _to_parts(content: object) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise TypeError(f"its content is a {type(content).__name__}")
    return [{"type": "text", "text": part} if isinstance(part, str) else _to_mapping(part) for part in content]


def _join_text(content: object) -> str:
    """Return the text of a tool's result; parts of other kinds are named."""
    parts = _to_parts(content)
    return "".join(
        _require_text(part.get("text")) if part.get("type", "text") in _TEXT_PARTS else f"[{_name(part['type'])}]"
        for part in parts
    )


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{_shorten(value)} stands in place of a text")
    return value


def _name(value: object) -> str:
    """Return a name on one line; a strange one as JSON."""
    text = _require_text(value)
    return text if _PLAIN_NAME.fullmatch(text) else json.dumps(text[:100])


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _error(index: int, problem: str) -> ResponseDecodeError:
    return ResponseDecodeError(
        f"Trajectory {index} {problem}.",
        hint='Pass a list of trajectories, each a list of messages {"role": ..., "content": ...}.',
    )
