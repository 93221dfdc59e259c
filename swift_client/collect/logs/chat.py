"""Parts that several kinds of logs share: messages, choices and logprobs as chat completions write them, scores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# Scores of these names are labels if they are 0 or 1; others, such as "helpfulness", say something else.
LABEL_NAMES = frozenset(
    {"label", "correct", "correctness", "is_correct", "accuracy", "acc", "exact_match", "match", "pass", "passed"}
)
# LangChain's kinds of messages.
_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "chat": "user"}
_LANGCHAIN_CLASSES = {
    "HumanMessage": "user", "AIMessage": "assistant", "AIMessageChunk": "assistant", "SystemMessage": "system",
    "ToolMessage": "tool", "FunctionMessage": "function", "ChatMessage": "user",
}  # fmt: skip


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def read_json_text(value: Any) -> Any:
    """Return the JSON value that a text spells, if it is an object or a list; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def to_prompt(value: Any) -> str | list[dict[str, Any]] | None:
    """Return a prompt from a text, messages, or an object that holds one of them; None if there is none."""
    value = read_json_text(value)
    if isinstance(value, dict):
        for name in ("messages", "prompt", "prompts", "input", "question", "query", "text"):
            if value.get(name):
                return to_prompt(value[name])
        message = to_message(value)
        return None if message is None else [message]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        messages = [to_message(item) for item in value]
        return None if None in messages else [message for message in messages if message is not None]
    if isinstance(value, list) and len(value) == 1:  # a batch of one
        return to_prompt(value[0])
    return value if isinstance(value, str) and value.strip() else None


def to_message(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return {"role", "content"} of a message of OpenAI or LangChain; None if it is neither."""
    role, content = value.get("role"), value.get("content")
    if isinstance(role, str) and content is not None:
        return {"role": role, "content": content}
    fields = next((value[name] for name in ("kwargs", "data") if isinstance(value.get(name), dict)), value)
    kind, path = fields.get("type", value.get("type")), value.get("id")
    class_name = path[-1] if isinstance(path, list) and path and isinstance(path[-1], str) else ""
    name = _LANGCHAIN_CLASSES.get(class_name) or (_ROLES.get(kind, kind) if isinstance(kind, str) else None)
    content = fields.get("content")
    return None if name is None or content is None else {"role": name, "content": content}


def to_text(value: Any) -> str | None:
    """Return the text of an answer: a text, a message, its parts, or an object that holds one of them."""
    value = read_json_text(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if texts:
            return "".join(texts)
        return to_text(value[-1]) if value and isinstance(value[-1], dict) else None
    if isinstance(value, dict):
        for name in ("content", "text", "output", "answer", "completion", "response", "message", "messages", "kwargs"):
            if value.get(name) is not None:
                return to_text(value[name])
    return None


def to_completions(output: Any) -> list[dict[str, Any]]:
    """Return completions of the plain form: one per choice of a reply of OpenAI's form, or one of the whole output."""
    output = read_json_text(output)
    choices = output.get("choices") if isinstance(output, dict) else None
    if not isinstance(choices, list):
        return [{"text": to_text(output)}]
    completions = []
    for choice in choices:
        fields = as_object(choice)
        text = to_text(fields.get("message") if fields.get("text") is None else fields["text"])
        logprobs = to_logprobs(fields.get("logprobs"))
        completions.append({"text": text, "finish_reason": fields.get("finish_reason"), **logprobs})
    return completions


def to_logprobs(logprobs: Any) -> dict[str, Any]:
    """Return tokens, logprobs and top_logprobs of the plain form from OpenAI's ``logprobs``, chat or legacy."""
    if not isinstance(logprobs, dict):
        return {}
    if isinstance(logprobs.get("token_logprobs"), list):
        names = {"tokens": "tokens", "logprobs": "token_logprobs", "top_logprobs": "top_logprobs"}
        return {name: logprobs.get(theirs) for name, theirs in names.items()}
    entries = logprobs.get("content")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return {}
    return {
        "tokens": [entry.get("token") for entry in entries],
        "logprobs": [entry.get("logprob") for entry in entries],
        "top_logprobs": [entry.get("top_logprobs") or [] for entry in entries],
    }


def to_label(scores: Iterable[tuple[Any, Any]]) -> bool | None:
    """Return the label among named scores: the first with a name in LABEL_NAMES that is 0, 1, true or false."""
    for name, value in scores:
        if isinstance(name, str) and name.lower() in LABEL_NAMES and value in (0, 1):
            return bool(value)
    return None
